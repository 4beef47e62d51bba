"""Few-shot episodes: N classes, K labelled examples of each, classified in closed form."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from repjax.arrays import l2_normalize
from repjax.evaluate.embed import Embedded, generator, labelled
from repjax.heads.class_means import ClassMeans, cosine_logits, euclidean_logits

#: ``(support [n, dim], one-hot labels [n, ways], query [q, dim]) -> scores [q, ways]``
Classifier = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def nearest_mean(support: jax.Array, one_hot: jax.Array, query: jax.Array) -> jax.Array:
  r"""Negative squared distance to the class means: a prototypical network's classifier.

  .. math:: s_{qc} = -\lVert x_q - \mu_c \rVert^2

  Args:
    support: ``[n, dim]``.
    one_hot: ``[n, ways]``, the classes of ``support``.
    query: ``[q, dim]``.

  Returns:
    Scores ``[q, ways]``.

  References:
    Snell et al., `Prototypical Networks for Few-shot Learning <https://arxiv.org/abs/1703.05175>`_,
    2017, eq. 1 and 2.
  """
  return euclidean_logits(_means(support, one_hot), query)


def nearest_mean_by_cosine(support: jax.Array, one_hot: jax.Array, query: jax.Array) -> jax.Array:
  r"""Cosine to the mean of a class's unit vectors.

  .. math:: s_{qc} = \cos\Bigl(x_q, \sum_{i \in c} \frac{x_i}{\lVert x_i \rVert}\Bigr)

  Args:
    support: ``[n, dim]``.
    one_hot: ``[n, ways]``, the classes of ``support``.
    query: ``[q, dim]``.

  Returns:
    Scores ``[q, ways]`` from -1 to 1.

  References:
    Wang et al., `SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning
    <https://arxiv.org/abs/1911.04623>`_, 2019, section 3 (L2N; CL2N with ``centre=True``).
  """
  return cosine_logits(_means(l2_normalize(support), one_hot), query)


def ridge(
  support: jax.Array, one_hot: jax.Array, query: jax.Array, *, penalty: float = 1.0
) -> jax.Array:
  r"""Least squares to one-hot labels with a squared penalty, in the size of the support set.

  .. math:: S = X' X^\top (X X^\top + \lambda I)^{-1} Y

  There is no intercept. :math:`\lambda` is ``penalty`` times the mean squared length of the support
  vectors, so that the scale of features does not matter; the paper learns it, with an affine
  calibration that does not change which class scores highest.

  Args:
    support: ``[n, dim]``.
    one_hot: ``[n, ways]``, the classes of ``support``.
    query: ``[q, dim]``.
    penalty: > 0.

  Returns:
    Scores ``[q, ways]``.

  References:
    Bertinetto et al., `Meta-learning with differentiable closed-form solvers
    <https://arxiv.org/abs/1805.08136>`_, 2018, section 3.2 (R2-D2).
  """
  gram = jnp.matmul(support, support.T, precision="highest")
  size = jnp.mean(jnp.diagonal(gram))
  size = jnp.where(size > 0, size, 1)
  dual = jnp.linalg.solve(gram / size + penalty * jnp.eye(len(gram)), one_hot)
  cross = jnp.matmul(query, support.T, precision="highest") / size
  return jnp.matmul(cross, dual, precision="highest")


def draw_episodes(
  label: np.ndarray, *, key: jax.Array, count: int, ways: int, members: int
) -> np.ndarray:
  """Draws classes, and different examples of each, for every episode.

  Args:
    label: ``[n]`` int >= 0.
    key: sole source of randomness.
    count: episodes.
    ways: classes of an episode.
    members: examples of a class.

  Returns:
    Places of the examples ``[count, ways, members]`` int32.

  Raises:
    ValueError: if there are not as many classes, or a class has not as many examples.
  """
  rng = generator(key)
  names, counts = np.unique(label, return_counts=True)
  if len(names) < ways:
    raise ValueError(f"{ways=} of {len(names)} classes; choose at most {len(names)} ways")
  if counts.min() < members:
    raise ValueError(
      f"class {names[counts.argmin()]} has {counts.min()} examples, fewer than the {members} of an "
      f"episode; lower shots or queries"
    )
  places = [np.flatnonzero(label == name) for name in names]
  episodes = np.empty((count, ways, members), np.int32)
  for episode in episodes:
    for row, c in zip(episode, rng.choice(len(names), ways, replace=False), strict=True):
      row[:] = rng.choice(places[c], members, replace=False)
  return episodes


def episodes(
  train: Embedded,
  test: Embedded,
  *,
  key: jax.Array,
  ways: int = 5,
  shots: Sequence[int] = (1, 5),
  queries: int = 15,
  count: int = 600,
  classifiers: Sequence[Classifier] = (nearest_mean, nearest_mean_by_cosine, ridge),
  centre: bool = False,
) -> dict[str, float]:
  """Accuracy within small tasks drawn from the test split, whose classes may be new.

  An episode has ``ways`` classes, and of each ``queries`` examples to classify and ``shots`` that
  are labelled. Within an episode all classifiers and numbers of shots meet the same queries, and
  fewer shots are a subset of more. Draws depend on ``key`` and ``test.label`` alone. Unlabelled
  examples (-1) take no part.

  Args:
    train: whose mean is taken off with ``centre``; otherwise not used.
    test: what episodes are drawn from.
    key: of the draws.
    ways: classes of an episode.
    shots: labelled examples of a class, each >= 1.
    queries: examples of a class to classify.
    count: episodes, >= 2.
    classifiers: by whose name the numbers are called.
    centre: whether to take off the mean of the train features, as SimpleShot's CL2N does.

  Returns:
    ``{classifier}_{ways}way_{shots}shot``, the mean accuracy over episodes in [0, 1], and
    ``..._ci95``, half the width of its 95 % confidence interval: 1.96 standard errors (unbiased
    deviation of the episodes over the root of their number), as papers of few-shot learning have
    it. It tells of the draws and not of the choice of classes or of the encoder.

  Raises:
    ValueError: if an episode needs more classes or examples than there are, or numbers are out of
      range.

  References:
    Vinyals et al., `Matching Networks for One Shot Learning <https://arxiv.org/abs/1606.04080>`_,
    2016, section 2.2.
  """
  if not shots or min(shots) < 1 or queries < 1 or count < 2:
    raise ValueError(
      f"expected shots, queries >= 1 and count >= 2, got {shots=} {queries=} {count=}"
    )
  train, test = labelled(train, test)
  drawn = draw_episodes(test.label, key=key, count=count, ways=ways, members=queries + max(shots))
  features = test.features
  if centre:
    features = features - train.features.mean(0, keepdims=True, dtype=np.float64)
  features = jax.device_put(features.astype(np.float32))
  numbers = {}
  for classifier in classifiers:
    name = getattr(classifier, "func", classifier).__name__  # that of a functools.partial too
    for shot in shots:
      right = np.asarray(_accuracies(features, drawn, classifier, shot, queries), np.float64)
      title = f"{name}_{ways}way_{shot}shot"
      numbers[title] = float(right.mean())
      numbers[f"{title}_ci95"] = float(1.96 * right.std(ddof=1) / count**0.5)
  return numbers


@functools.partial(jax.jit, static_argnames=("classifier", "shot", "queries"))
def _accuracies(features, drawn, classifier, shot, queries):
  ways = drawn.shape[1]
  label = jnp.repeat(jnp.arange(ways), queries)
  one_hot = jnp.repeat(jnp.eye(ways), shot, axis=0)

  def one(rows):
    x = features[rows]
    query = x[:, :queries].reshape(-1, x.shape[-1])
    support = x[:, queries : queries + shot].reshape(-1, x.shape[-1])
    return jnp.mean(jnp.argmax(classifier(support, one_hot, query), 1) == label)

  return lax.map(one, drawn, batch_size=min(32, len(drawn)))


def _means(support, one_hot):
  count = jnp.sum(one_hot, 0)
  return ClassMeans(jnp.matmul(one_hot.T, support, precision="highest") / count[:, None], count > 0)
