"""Classification from a handful of labelled examples per class."""

from collections.abc import Sequence

import jax
import numpy as np

from repjax.evaluate.embed import Embedded, labelled, rank_in_class


def few_shot(
  train: Embedded,
  test: Embedded,
  *,
  key: jax.Array,
  shots: Sequence[int] = (1, 5),
  draws: int = 20,
) -> dict[str, float]:
  """Accuracy of the most similar of a few examples per class, over repeated draws of them.

  Every class of either split takes part, and every test example is classified in every draw, by the
  label of the support example of largest cosine (features are not centred). The draws depend on
  ``key`` and ``train.label`` alone, so that two encoders see the same ones. Unlabelled examples
  (-1) take no part.

  Args:
    train: examples to draw from.
    test: examples to classify.
    key: of the draws.
    shots: examples per class, each >= 1; within a draw, fewer shots are a subset of more.
    draws: how many, >= 2.

  Returns:
    For each number of shots ``shot_{n}``, the mean accuracy in ``[0, 1]``, and
    ``shot_{n}_stderr``, its standard error (unbiased deviation of the draws / sqrt(draws)).

  Raises:
    ValueError: if a class has fewer train examples than the largest of ``shots``, or ``shots`` or
      ``draws`` are out of range.
  """
  if not shots or min(shots) < 1 or draws < 2:
    raise ValueError(f"expected shots >= 1 and draws >= 2, got {shots=} and {draws=}")
  train, test = labelled(train, test)
  for name in np.union1d(train.label, test.label):
    count = np.sum(train.label == name)
    if count < max(shots):
      raise ValueError(
        f"class {name} has {count} labelled train examples, fewer than shots={max(shots)}; "
        f"choose at most {count} shots or label more"
      )
  support_features, query = (_unit(split.features) for split in (train, test))

  correct = np.zeros((draws, len(shots)))
  for draw in range(draws):
    rank = rank_in_class(jax.random.fold_in(key, draw), train.label)
    support = np.flatnonzero(rank < max(shots))
    cosine = query @ support_features[support].T
    for i, count in enumerate(shots):
      kept = rank[support] < count
      nearest = support[kept][np.argmax(cosine[:, kept], 1)]
      correct[draw, i] = np.mean(train.label[nearest] == test.label)
  mean, error = correct.mean(0), correct.std(0, ddof=1) / np.sqrt(draws)
  numbers = {}
  for i, count in enumerate(shots):
    numbers |= {f"shot_{count}": float(mean[i]), f"shot_{count}_stderr": float(error[i])}
  return numbers


def _unit(x: np.ndarray) -> np.ndarray:
  return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float32).tiny)
