"""Whether an image suits an encoder, through all halvings of its grid; odds of stochastic depth."""

import jax
import numpy as np


def check_image(image: jax.Array, stride: int = 1) -> None:
  """Raises unless these are images that come through every halving without a remainder.

  Args:
    image: meant to be ``[batch, height, width, channels]``.
    stride: pixels to a side of a location of the last map.

  Raises:
    ValueError: naming the shape, or the size and the nearest smaller one that works.
  """
  if image.ndim != 4:
    raise ValueError(f"expected image [batch, height, width, channels], got shape {image.shape}")
  height, width = image.shape[1:3]
  if height % stride or width % stride:
    fit = "x".join(str(side // stride * stride or stride) for side in (height, width))
    raise ValueError(
      f"image of {height}x{width} is not divisible by the stride {stride} of the last stage; "
      f"resize to {fit} or choose a smaller patch_size"
    )


def drop_rates(rate: float, depths: tuple[int, ...]) -> list[list[float]]:
  """Odds that a block is left out in training, growing evenly from 0 at the first.

  Args:
    rate: of the last block.
    depths: blocks of each stage.

  Returns:
    One list a stage.

  References:
    Huang et al., `Deep Networks with Stochastic Depth <https://arxiv.org/abs/1603.09382>`_, 2016,
    section 3 (linear decay, here from 0).
  """
  rates = np.linspace(0, rate, sum(depths)).tolist()
  ends = np.cumsum(depths).tolist()
  return [rates[end - depth : end] for end, depth in zip(ends, depths, strict=True)]
