"""From features back to pixels, for learners that reconstruct."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.encoders.mlp import MLP


class PixelDecoder(nn.Module):
  """An MLP whose outputs are the pixels of an image.

  Attributes:
    shape: ``(height, width, channels)`` of the image.
    dims: widths of the hidden layers.
  """

  shape: tuple[int, int, int]
  dims: Sequence[int] = (256,)

  @nn.compact
  def __call__(self, features: jax.Array, *, train: bool = False) -> jax.Array:
    """Decodes.

    Args:
      features: ``[batch, dim]``.
      train: not used.

    Returns:
      ``[batch, height, width, channels]`` float32, in whatever range it was trained on.
    """
    del train
    height, width, channels = self.shape
    pixels = MLP((*self.dims, height * width * channels), name="mlp")(features)
    return jnp.asarray(pixels, jnp.float32).reshape(-1, *self.shape)
