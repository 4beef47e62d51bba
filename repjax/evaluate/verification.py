"""Verification: whether two examples are of one class, by how similar they are."""

from collections.abc import Sequence

import jax
import numpy as np

from repjax.evaluate.embed import Embedded, generator, labelled, unit_rows


def verification_scores(
  score: np.ndarray, same: np.ndarray, *, fars: Sequence[float] = (0.1, 0.01)
) -> dict[str, float]:
  """What thresholds on a score of pairs accept.

  A pair is accepted where its score reaches the threshold; pairs of equal score are accepted
  together. Rates are shares of the pairs of one class (TAR, true accepts) and of different classes
  (FAR, false accepts).

  Args:
    score: ``[pairs]``, higher for what is more alike.
    same: ``[pairs]`` bool, whether a pair is of one class.
    fars: false accept rates, in (0, 1].

  Returns:
    ``tar_at_far_{far}``: the highest TAR of a threshold whose FAR is at most ``far``, without
    interpolation. ``auc``: area under TAR over FAR by trapezoids, the chance that a pair of one
    class scores higher than another, with ties counted half. ``eer``: where FAR equals the share of
    pairs of one class that are refused, on the line between the two nearest thresholds.

  Raises:
    ValueError: if shapes differ, one kind of pairs is missing, or a rate is finer than one pair.

  References:
    Fawcett, `An introduction to ROC analysis <https://doi.org/10.1016/j.patrec.2005.10.010>`_,
    2006, algorithms 1 and 2.
  """
  far, tar = _roc(score, same)
  different = int(np.sum(~np.asarray(same, bool)))
  numbers = {}
  for rate in fars:
    if not 1 / different <= rate <= 1:
      raise ValueError(
        f"a false accept rate of {rate} cannot be told with {different} pairs of different "
        f"classes; choose from {1 / different:.1g} to 1 or draw more pairs"
      )
    # The counts are whole: a rate that is one of theirs shall not be missed by rounding.
    numbers[f"tar_at_far_{rate:g}"] = float(tar[far <= rate + 1e-12].max())
  numbers["auc"] = float(np.trapezoid(tar, far))
  # far - (1 - tar) rises from -1 to 1.
  balance = far + tar - 1
  after = int(np.argmax(balance >= 0))
  step = balance[after] - balance[after - 1]
  share = -balance[after - 1] / step
  numbers["eer"] = float(far[after - 1] + share * (far[after] - far[after - 1]))
  return numbers


def fold_accuracy(score: np.ndarray, same: np.ndarray, fold: np.ndarray) -> tuple[float, float]:
  """Accuracy at the threshold that is best on the other folds, as on Labeled Faces in the Wild.

  Args:
    score: ``[pairs]``, higher for what is more alike.
    same: ``[pairs]`` bool.
    fold: ``[pairs]`` int, to which of the folds a pair belongs; LFW has ten.

  Returns:
    The mean accuracy over folds, and its standard error (unbiased deviation of the folds over the
    root of their number). Thresholds lie halfway between scores of the other folds; of those that
    are equally right there, the lowest is taken.

  Raises:
    ValueError: if shapes differ or there are less than two folds.

  References:
    Huang et al., `Labeled Faces in the Wild: A Database for Studying Face Recognition in
    Unconstrained Environments <http://vis-www.cs.umass.edu/lfw/lfw.pdf>`_, 2007, section IV.
  """
  score, same, fold = np.asarray(score, np.float64), np.asarray(same, bool), np.asarray(fold)
  names = np.unique(fold)
  if not score.shape == same.shape == fold.shape or score.ndim != 1 or len(names) < 2:
    raise ValueError(
      f"expected score, same and fold [pairs] with two folds or more, got {score.shape}, "
      f"{same.shape}, {fold.shape} and {len(names)} folds"
    )
  right = []
  for name in names:
    other = fold != name
    value, count = np.unique(score[other], return_counts=True)
    first = np.searchsorted(value, score[other])
    positive = np.bincount(first, same[other], len(value))
    # Threshold i lies below value i: what is below is refused, what is not accepted.
    refused = np.append(0, np.cumsum(count - positive))
    accepted = positive.sum() - np.append(0, np.cumsum(positive))
    best = int(np.argmax(refused + accepted))
    edges = np.concatenate([[-np.inf], (value[1:] + value[:-1]) / 2, [np.inf]])
    right.append(np.mean((score[~other] >= edges[best]) == same[~other]))
  return float(np.mean(right)), float(np.std(right, ddof=1) / len(right) ** 0.5)


def draw_pairs(
  label: np.ndarray, *, key: jax.Array, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Draws pairs, every second one of one class.

  Args:
    label: ``[n]`` int >= 0.
    key: sole source of randomness.
    count: pairs, even.

  Returns:
    Places of both sides ``[count]`` each, and whether they are of one class ``[count]``. Pairs of a
    kind are equally likely, and may come twice; nothing is paired with itself.

  Raises:
    ValueError: if there is no pair of either kind, or ``count`` is odd.
  """
  rng = generator(key)
  label = np.asarray(label)
  names, counts = np.unique(label, return_counts=True)
  if len(names) < 2 or counts.max() < 2 or count % 2 or count < 2:
    raise ValueError(
      f"{count=} pairs of {len(names)} classes of at most {counts.max()} examples; pairs of either "
      f"kind need 2 classes, one of them of 2 examples, and an even count"
    )
  places = np.argsort(label, kind="stable")  # the classes one after the other
  start = np.cumsum(counts) - counts

  def two_of_one_class(half):
    ways = (counts * (counts - 1)).astype(np.float64)
    c = rng.choice(len(names), half, p=ways / ways.sum())
    one = rng.integers(0, counts[c])
    other = rng.integers(0, counts[c] - 1)
    return places[start[c] + one], places[start[c] + other + (other >= one)]

  def two_of_different_classes(half):
    # The second is any example that is not of the class of the first, which lies in one run.
    ways = counts * (len(label) - counts).astype(np.float64)
    c = rng.choice(len(names), half, p=ways / ways.sum())
    one = rng.integers(0, counts[c])
    other = rng.integers(0, len(label) - counts[c])
    return places[start[c] + one], places[other + counts[c] * (other >= start[c])]

  alike, apart = two_of_one_class(count // 2), two_of_different_classes(count // 2)
  one, other = (np.stack(sides, 1).ravel() for sides in zip(alike, apart, strict=True))
  return one, other, np.arange(count) % 2 == 0


def verification(
  train: Embedded,
  test: Embedded,
  *,
  key: jax.Array,
  pairs: int = 6000,
  fars: Sequence[float] = (0.1, 0.01),
  folds: int = 10,
  centre: bool = False,
) -> dict[str, float]:
  """Tells pairs of test examples of one class from others by their cosine.

  Half of the pairs are of one class. They depend on ``key`` and ``test.label`` alone. Unlabelled
  examples (-1) take no part.

  Args:
    train: whose mean is taken off with ``centre``; otherwise not used.
    test: what pairs are drawn from.
    key: of the draws.
    pairs: how many, even; LFW has 6,000.
    fars: false accept rates, in (0, 1].
    folds: of the accuracy; each has as many pairs of either kind, up to one.
    centre: whether to take off the mean of the train features.

  Returns:
    ``tar_at_far_{far}``, ``auc`` and ``eer``, see `verification_scores`; ``pair_accuracy`` with
    ``pair_accuracy_stderr``, see `fold_accuracy`.

  Raises:
    ValueError: if pairs of one kind are missing, or a rate is finer than one pair.
  """
  train, test = labelled(train, test)
  one, other, same = draw_pairs(test.label, key=key, count=pairs)
  features = test.features.astype(np.float64)
  if centre:
    features = features - train.features.mean(0, keepdims=True, dtype=np.float64)
  features = unit_rows(features)
  score = np.einsum("ij,ij->i", features[one], features[other])
  accuracy, error = fold_accuracy(score, same, np.arange(pairs) // 2 % folds)
  return verification_scores(score, same, fars=fars) | {
    "pair_accuracy": accuracy,
    "pair_accuracy_stderr": error,
  }


def _roc(score, same):
  """FAR and TAR at every threshold from the highest to the lowest, (0, 0) first."""
  score, same = np.asarray(score, np.float64), np.asarray(same, bool)
  if score.shape != same.shape or score.ndim != 1:
    raise ValueError(f"expected score and same [pairs], got {score.shape} and {same.shape}")
  if not 0 < same.sum() < len(same):
    raise ValueError(
      f"{same.sum()} of {len(same)} pairs are of one class; rates need pairs of either kind"
    )
  order = np.argsort(-score, kind="stable")
  ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
  true, false = np.cumsum(same[order])[ends], np.cumsum(~same[order])[ends]
  return np.append(0, false / false[-1]), np.append(0, true / true[-1])
