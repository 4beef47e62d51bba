"""Bringing images to one size."""

import numpy as np
from PIL import Image


def fit(image: Image.Image, size: int) -> Image.Image:
  """Centre square of an image, antialiased to ``size`` pixels a side.

  Args:
    image: any size.
    size: side of the result, > 0.

  Returns:
    ``size x size``, same mode.
  """
  width, height = image.size
  side = min(width, height)
  left, top = (width - side) / 2, (height - side) / 2
  box = (left, top, left + side, top + side)
  # PIL widens the bilinear kernel with the scale, so that a reduced image does not alias.
  return image.resize((size, size), Image.Resampling.BILINEAR, box)


def fit_array(image: np.ndarray, size: int | None) -> np.ndarray:
  """`fit` for an array with any number of channels.

  Args:
    image: uint8 ``[h, w, c]``.
    size: side of the result; the image as it is if absent.

  Returns:
    uint8 ``[size, size, c]``.
  """
  if size is None:
    return image
  planes = (Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(image.shape[-1]))
  return np.stack([np.asarray(fit(plane, size)) for plane in planes], -1)
