"""Linear probe: logistic regression on frozen features."""

from collections.abc import Sequence

import jax
import numpy as np

from repjax.evaluate.embed import Embedded, labelled, rank_in_class
from repjax.heads.logistic import fit_logistic

PENALTIES = tuple(10.0**e for e in range(-6, 2))


def linear_probe(
  train: Embedded,
  test: Embedded,
  *,
  key: jax.Array,
  penalties: Sequence[float] = PENALTIES,
  validation: float = 0.1,
) -> dict[str, float]:
  """Test accuracy of a logistic regression whose penalty a validation split chose.

  Features are standardised with the train split's mean and deviation. A stratified share of the
  train split is set apart, one model per penalty fitted to the rest, and the penalty of highest
  accuracy on the share (of equals the strongest) refitted to the whole train split. Test labels
  are looked at once, at the end. Unlabelled examples (-1) take no part.

  Args:
    train: examples to fit and to validate on.
    test: examples to classify.
    key: of the validation split.
    penalties: grid of the penalty per mean cross entropy (see `repjax.heads.fit_logistic`), > 0.
    validation: share of each class to validate on, in ``(0, 1)``; never a class's only example.

  Returns:
    ``linear``, the accuracy in ``[0, 1]``, and ``linear_penalty``, the penalty chosen.

  Raises:
    ValueError: if no class has a second train example to validate on, or arguments are out of
      range.
  """
  if not 0 < validation < 1:
    raise ValueError(f"expected 0 < validation < 1, got {validation=}")
  train, test = labelled(train, test)
  classes = int(max(train.label.max(), test.label.max())) + 1
  held = held_out(train.label, key=key, share=validation)
  scores, penalty = fit_chosen(
    train, test.features, held=held, classes=classes, penalties=penalties
  )
  accuracy = float(np.mean(np.argmax(scores, 1) == test.label))
  return {"linear": accuracy, "linear_penalty": penalty}


def held_out(label: np.ndarray, *, key: jax.Array, share: float) -> np.ndarray:
  """Which train examples choose between fits: a share of each class, never its only example.

  Args:
    label: ``[n]`` int >= 0.
    key: of the choice.
    share: in ``(0, 1)``; at least one example of each class of two or more.

  Returns:
    ``[n]`` bool.

  Raises:
    ValueError: if no class has a second example.
  """
  count = np.bincount(label)
  apart = np.minimum(np.maximum(np.round(share * count), 1), count - 1)
  held = rank_in_class(key, label) < apart[label]
  if not held.any():
    raise ValueError(
      f"no class of {len(label)} train examples has 2, of which one could validate; add some"
    )
  return held


def fit_chosen(
  train: Embedded,
  test_features: np.ndarray,
  *,
  held: np.ndarray,
  classes: int,
  penalties: Sequence[float] = PENALTIES,
) -> tuple[np.ndarray, float]:
  """Fits a logistic regression whose penalty is the best of a grid on examples apart.

  Args:
    train: all of them labelled; features are standardised inside.
    test_features: ``[m, dim]``, to be scored.
    held: ``[n]`` bool, the train examples that choose; the last fit has them too.
    classes: how many.
    penalties: the grid, > 0.

  Returns:
    Scores of the test examples ``[m, classes]``, and the penalty chosen.

  Raises:
    ValueError: if the grid is empty or has a penalty that is not above 0.
  """
  # From strong to weak: each fit starts where the one before ended.
  penalties = sorted(map(float, penalties), reverse=True)
  if not penalties or penalties[-1] <= 0:
    raise ValueError(f"expected penalties > 0, got {penalties=}")
  features, test_features = standardised(train.features, test_features)
  bank, label = jax.device_put((features, train.label))
  fits = {}
  params = {
    "kernel": np.zeros((features.shape[1], classes), np.float32),
    "bias": np.zeros(classes, np.float32),
  }
  for penalty in penalties:
    params = fit_logistic(bank, label, classes=classes, penalty=penalty, where=~held, init=params)
    told = np.argmax(_scores(params, features[held]), 1)
    fits[penalty] = np.mean(told == train.label[held]), params
  penalty = max(fits, key=lambda p: fits[p][0])
  everyone = np.ones_like(held)
  params = fit_logistic(
    bank, label, classes=classes, penalty=penalty, where=everyone, init=fits[penalty][1]
  )
  return _scores(params, test_features), penalty


def _scores(params, features):
  return features @ np.asarray(params["kernel"]) + np.asarray(params["bias"])


def standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Zero mean and unit variance over train, turned onto train's principal axes.

  The turn leaves the penalised problem as it is and saves most of its steps. Zero columns fill up
  the dim, so that encoders of similar dims share one compiled fit.

  Args:
    train: ``[n, dim]``.
    test: ``[m, dim]``.

  Returns:
    Both, of a dim that 128 divides.
  """
  mean = train.mean(0, keepdims=True, dtype=np.float64).astype(np.float32)
  deviation = np.sqrt(np.mean(np.square(train - mean), 0, keepdims=True, dtype=np.float64))
  # Below float32's resolution a constant feature looks like noise.
  noise = 1e-6 * np.max(np.abs(train), 0, keepdims=True)
  scale = np.where(deviation > noise, 1 / np.maximum(deviation, 1e-300), 0).astype(np.float32)
  train, test = (train - mean) * scale, (test - mean) * scale
  _, axes = np.linalg.eigh((train.T @ train).astype(np.float64))
  axes = np.pad(axes, ((0, 0), (0, -len(axes) % 128))).astype(np.float32)
  return train @ axes, test @ axes
