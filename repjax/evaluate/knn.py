"""Classification of a whole test set by its nearest train examples."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from repjax.evaluate.embed import Embedded, labelled
from repjax.heads.knn import knn_logits


def knn(
  train: Embedded,
  test: Embedded,
  *,
  key: jax.Array | None = None,
  k: Sequence[int] = (1, 5, 20, 200),
  temperature: float = 0.1,
  centre: bool = True,
) -> dict[str, float]:
  """Accuracy of a vote of the k nearest train examples, weighted by exp(cosine / temperature).

  Features are centred with the train mean before the cosine is taken: encoders without a final
  centring put all features into a narrow cone, where cosines hardly differ. Unlabelled examples
  (-1) take no part.

  Args:
    train: the bank.
    test: examples to classify.
    key: not used, there is nothing to draw; accepted as every evaluator does.
    k: numbers of neighbours; those beyond the size of the bank are left out.
    temperature: of the weights, > 0.
    centre: whether to subtract the train mean.

  Returns:
    ``knn_{k}``: accuracy in ``[0, 1]``.

  Raises:
    ValueError: if every ``k`` is larger than the bank.

  References:
    Wu et al., `Unsupervised Feature Learning via Non-Parametric Instance Discrimination
    <https://arxiv.org/abs/1805.01978>`_, 2018, section 3.4 (which does not centre).
  """
  del key
  train, test = labelled(train, test)
  kept = tuple(count for count in k if count <= len(train.label))
  if not kept:
    raise ValueError(
      f"k={tuple(k)} are all larger than the {len(train.label)} labelled train examples; "
      f"choose at most {len(train.label)}"
    )
  predicted = knn_predictions(train, test, k=kept, temperature=temperature, centre=centre)
  accuracy = np.mean(predicted == test.label[None], 1)
  return {f"knn_{count}": float(a) for count, a in zip(kept, accuracy, strict=True)}


def knn_predictions(
  train: Embedded,
  test: Embedded,
  *,
  k: Sequence[int],
  temperature: float = 0.1,
  centre: bool = True,
) -> np.ndarray:
  """What the k nearest train examples take each test example for, see `knn`.

  Args:
    train: the bank; examples labelled -1 never vote.
    test: examples to classify, labelled or not.
    k: numbers of neighbours, at most as many as the bank has.
    temperature: of the weights, > 0.
    centre: whether to subtract the train mean.

  Returns:
    Classes ``[len(k), n]``.
  """
  bank, query = train.features, test.features
  if centre:
    mean = bank.mean(0, keepdims=True, dtype=np.float64).astype(np.float32)
    bank, query = bank - mean, query - mean
  options = {"classes": int(train.label.max()) + 1, "temperature": temperature}
  return np.asarray(_predict(query, bank, train.label, k=tuple(k), **options))


@functools.partial(jax.jit, static_argnames=("k", "classes"))
def _predict(query, bank, label, *, k, classes, temperature):
  size, dim = query.shape
  chunk = min(1024, size)

  def predict(part):
    votes = knn_logits(part, bank, label, k=k, classes=classes, temperature=temperature)
    return jnp.argmax(votes, -1)

  query = jnp.pad(query, ((0, -size % chunk), (0, 0))).reshape(-1, chunk, dim)
  return jnp.moveaxis(lax.map(predict, query), 1, 0).reshape(len(k), -1)[:, :size]
