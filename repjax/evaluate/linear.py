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
  # From strong to weak: each fit starts where the one before ended.
  penalties = sorted(map(float, penalties), reverse=True)
  if not penalties or penalties[-1] <= 0 or not 0 < validation < 1:
    raise ValueError(
      f"expected penalties > 0 and 0 < validation < 1, got {penalties=} and {validation=}"
    )
  train, test = labelled(train, test)
  classes = int(max(train.label.max(), test.label.max())) + 1
  features, test_features = _standardised(train.features, test.features)

  count = np.bincount(train.label, minlength=classes)
  held_out = np.minimum(np.maximum(np.round(validation * count), 1), count - 1)
  held = rank_in_class(key, train.label) < held_out[train.label]
  if not held.any():
    raise ValueError(
      f"no class of {len(train.label)} train examples has 2, of which one could validate; add some"
    )

  bank, label = jax.device_put((features, train.label))
  fits = {}
  params = {
    "kernel": np.zeros((features.shape[1], classes), np.float32),
    "bias": np.zeros(classes, np.float32),
  }
  for penalty in penalties:
    params = fit_logistic(bank, label, classes=classes, penalty=penalty, where=~held, init=params)
    fits[penalty] = _accuracy(params, features[held], train.label[held]), params
  penalty = max(fits, key=lambda p: fits[p][0])
  everyone = np.ones_like(held)
  params = fit_logistic(
    bank, label, classes=classes, penalty=penalty, where=everyone, init=fits[penalty][1]
  )
  accuracy = _accuracy(params, test_features, test.label)
  return {"linear": accuracy, "linear_penalty": penalty}


def _accuracy(params, features, label) -> float:
  scores = features @ np.asarray(params["kernel"]) + np.asarray(params["bias"])
  return float(np.mean(np.argmax(scores, 1) == label))


def _standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Zero mean and unit variance over train, turned onto train's principal axes.

  The turn leaves the penalised problem as it is and saves most of its steps. Zero columns fill up
  the dim, so that encoders of similar dims share one compiled fit.
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
