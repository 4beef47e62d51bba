"""Linear probe on patch tokens: what is where in an image."""

from collections.abc import Sequence

import jax
import numpy as np

from repjax.evaluate.embed import Embedded
from repjax.evaluate.linear import PENALTIES, fit_chosen


def segmentation_scores(
  predicted: np.ndarray, label: np.ndarray, *, classes: int
) -> dict[str, float]:
  r"""Agreement of label maps, counted over all places together.

  .. math:: \mathrm{IoU}_c = \frac{\mathrm{TP}_c}{\mathrm{TP}_c + \mathrm{FP}_c + \mathrm{FN}_c}

  Args:
    predicted: any shape, int in ``[0, classes)``.
    label: same shape; places labelled -1 take no part.
    classes: how many.

  Returns:
    ``pixel_accuracy``, the share of places that are right; ``miou``, the mean IoU over the classes
    that are predicted or true anywhere; ``mean_accuracy``, the mean share that is right of each
    class that is true anywhere. All in [0, 1].

  Raises:
    ValueError: if shapes differ, nothing is labelled, or a class is out of range.

  References:
    Long et al., `Fully Convolutional Networks for Semantic Segmentation
    <https://arxiv.org/abs/1411.4038>`_, 2014, section 5.
  """
  predicted, label = np.asarray(predicted), np.asarray(label)
  if predicted.shape != label.shape:
    raise ValueError(f"expected equal shapes, got {predicted.shape=} and {label.shape=}")
  kept = label >= 0
  if not kept.any():
    raise ValueError(f"none of the {label.size} places has a label >= 0; label some")
  predicted, label = predicted[kept], label[kept]
  if max(predicted.max(), label.max()) >= classes or predicted.min() < 0:
    raise ValueError(
      f"classes {min(predicted.min(), 0)} to {max(predicted.max(), label.max())}, but {classes=}"
    )
  counts = np.bincount(classes * label + predicted, minlength=classes**2)
  counts = counts.reshape(classes, classes).astype(np.float64)
  right, true, told = np.diagonal(counts), counts.sum(1), counts.sum(0)
  union = true + told - right
  return {
    "pixel_accuracy": float(right.sum() / counts.sum()),
    "miou": float(np.mean(right[union > 0] / union[union > 0])),
    "mean_accuracy": float(np.mean(right[true > 0] / true[true > 0])),
  }


def dense_probe(
  train: Embedded,
  test: Embedded,
  *,
  key: jax.Array,
  penalties: Sequence[float] = PENALTIES,
  validation: float = 0.1,
) -> dict[str, float]:
  """Label maps by a logistic regression on each patch token, whose penalty images apart chose.

  Tokens are standardised with the train split's mean and deviation. A share of the images, with
  all of their tokens, is set apart to choose the penalty by accuracy over tokens; the fit is then
  repeated on all. Test labels are looked at once, at the end.

  Args:
    train: tokens ``[n, tokens, dim]`` and a label of each, ``[n, tokens]`` int; -1 leaves one out.
    test: likewise.
    key: of the images set apart.
    penalties: grid of the penalty per mean cross entropy (see `repjax.heads.fit_logistic`), > 0.
    validation: share of the images to validate on, in ``(0, 1)``.

  Returns:
    ``dense_miou``, ``dense_pixel_accuracy`` and ``dense_mean_accuracy``, see `segmentation_scores`,
    and ``dense_penalty``, the penalty chosen.

  Raises:
    ValueError: if shapes do not fit together or there are less than two images.
  """
  for name, split in {"train": train, "test": test}.items():
    if split.features.ndim != 3 or split.label.shape != split.features.shape[:2]:
      raise ValueError(
        f"expected {name} tokens [n, tokens, dim] and labels [n, tokens], got "
        f"{split.features.shape} and {split.label.shape}"
      )
  images = len(train.label)
  if images < 2 or not 0 < validation < 1:
    raise ValueError(
      f"expected 2 images or more and 0 < validation < 1, got {images}, {validation=}"
    )
  apart = min(max(round(validation * images), 1), images - 1)
  held = np.asarray(jax.random.permutation(key, images)) < apart
  label = train.label.ravel()
  rows = label >= 0
  if not rows.any() or not np.any(test.label >= 0):
    raise ValueError("no train token, or no test token, has a label >= 0; label some")
  classes = int(max(train.label.max(), test.label.max())) + 1
  dim = train.features.shape[-1]
  scores, penalty = fit_chosen(
    Embedded(train.features.reshape(-1, dim)[rows], label[rows]),
    test.features.reshape(-1, dim),
    held=np.repeat(held, train.label.shape[1])[rows],
    classes=classes,
    penalties=penalties,
  )
  predicted = np.argmax(scores, 1).reshape(test.label.shape)
  numbers = segmentation_scores(predicted, test.label, classes=classes)
  numbers = {f"dense_{name}": value for name, value in numbers.items()}
  return numbers | {"dense_penalty": penalty}
