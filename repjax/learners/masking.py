"""What learners that hide patches at random share: places, pictures."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from repjax.augment import Blocks, keep_indices, masked_count, random_mask
from repjax.encoders import patchify, unpatchify


class Reconstruction(NamedTuple):
  """Images seen through a mask, all ``[batch, height, width, channels]`` and normalised.

  Attributes:
    masked: the input, hidden patches set to 0.
    predicted: the prediction of every patch; where a method makes none, the input.
    pasted: the input with its hidden patches replaced by the prediction.
  """

  masked: jax.Array
  predicted: jax.Array
  pasted: jax.Array


def paste(image: jax.Array, pixels: jax.Array, mask: jax.Array, patch_size: int) -> Reconstruction:
  """Puts predicted patches in the place of hidden ones.

  Args:
    image: ``[batch, height, width, channels]``.
    pixels: predicted patches, ``[batch, patches, pixels]``.
    mask: ``[batch, patches]`` bool, what was hidden.
    patch_size: in pixels.

  Returns:
    The images.
  """
  truth, hidden = patchify(image, patch_size), mask[..., None]
  fold = lambda patches: unpatchify(patches, image.shape[1:], patch_size)
  return Reconstruction(
    fold(jnp.where(hidden, 0, truth)), fold(pixels), fold(jnp.where(hidden, pixels, truth))
  )


def patch_grid(image: jax.Array, patch_size: int) -> tuple[int, int]:
  """Patches down and across.

  Args:
    image: ``[..., height, width, channels]``.
    patch_size: in pixels.

  Returns:
    Rows and columns.
  """
  return image.shape[-3] // patch_size, image.shape[-2] // patch_size


def hide(
  key: jax.Array, image: jax.Array, *, patch_size: int, ratio: float, unit: int = 1
) -> jax.Array:
  """Hides patches of one image, every set of them equally likely.

  Args:
    key: of the draw.
    image: ``[height, width, channels]``, whose size alone counts.
    patch_size: in pixels.
    ratio: share of the patches that is hidden.
    unit: side of a hidden square, in patches.

  Returns:
    ``[patches]`` bool, in raster order.
  """
  return random_mask(key, patch_grid(image, patch_size), ratio=ratio, unit=unit).reshape(-1)


def split(key: jax.Array, image: jax.Array, *, patch_size: int, ratio: float) -> Blocks:
  """Parts patches of one image into those that are seen and those that are to be predicted.

  Args:
    key: of the draw.
    image: ``[height, width, channels]``, whose size alone counts.
    patch_size: in pixels.
    ratio: share of the patches that is hidden.

  Returns:
    Their places; the hidden ones are one block.
  """
  mask = hide(key, image, patch_size=patch_size, ratio=ratio)
  hidden = masked_count(mask.size, ratio)
  return Blocks(keep_indices(mask, mask.size - hidden), keep_indices(~mask, hidden)[None])
