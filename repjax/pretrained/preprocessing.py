"""What an encoder's images went through before it saw them in its training."""

from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


class Preprocessing(NamedTuple):
  """From any image to what an encoder takes.

  Attributes:
    size: side of the square that the encoder sees, in pixels.
    crop: ``size`` as a share of the side that images are resized to; of a larger one the centre is
      cut out.
    mean: of each channel, in [0, 1].
    std: of each channel.
    filter: of the resize, antialiased.
    squash: whether all of the image is resized to the square, whatever its ratio of sides; the
      shorter side otherwise.
    corner: side of the upper left corner of the square that is kept, where patches do not divide
      it and the model leaves the rest out; all of it if absent.
  """

  size: int
  crop: float = 1.0
  mean: tuple[float, ...] = IMAGENET[0]
  std: tuple[float, ...] = IMAGENET[1]
  filter: Literal["bilinear", "bicubic", "lanczos"] = "bicubic"
  squash: bool = False
  corner: int | None = None


def cut(image: np.ndarray, how: Preprocessing) -> np.ndarray:
  """Resizes an image and cuts its centre out, on the host.

  Args:
    image: uint8 ``[height, width, 3]``, any size.
    how: the encoder's preprocessing.

  Returns:
    uint8 ``[size, size, 3]``, or of ``corner``: Pillow's bits, which are those of torchvision's
    transforms of a PIL image.

  Raises:
    ValueError: if it is no such image.
  """
  if image.ndim != 3 or image.shape[-1] != len(how.mean) or image.dtype != np.uint8:
    raise ValueError(
      f"expected uint8 [height, width, {len(how.mean)}], got {image.dtype} {image.shape}; "
      f"repeat a grey image {len(how.mean)} times, or decode it as RGB"
    )
  target = int(how.size / how.crop + 1e-6)  # a share of two sizes may miss the larger by rounding
  height, width = image.shape[:2]
  short = min(height, width)
  new = (target, target) if how.squash else (target * width // short, target * height // short)
  picture = Image.fromarray(image).resize(new, Image.Resampling[how.filter.upper()])
  # As torchvision rounds the corner.
  left, top = (round((side - how.size) / 2) for side in new)
  side = how.corner or how.size
  return np.asarray(picture.crop((left, top, left + side, top + side)))


def standardize(image: np.ndarray, how: Preprocessing) -> np.ndarray:
  """Scales and normalises pixels.

  Args:
    image: uint8 ``[..., channels]``; a JAX array works too, inside ``jit`` as well.
    how: the encoder's preprocessing.

  Returns:
    float32, same shape.
  """
  # One multiplication and one addition a pixel.
  per_channel = lambda x: np.asarray(x, np.float32).reshape((1,) * (image.ndim - 1) + (-1,))
  mean, std = per_channel(how.mean), per_channel(how.std)
  return image * (1 / (255 * std)) - mean / std
