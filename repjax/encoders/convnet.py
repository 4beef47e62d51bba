"""A plain convolutional net, for small images and quick compiling."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.encoders.features import Features
from repjax.encoders.mlp import MLP
from repjax.encoders.stages import check_image


class ConvNet(nn.Module):
  """3x3 convolutions with ReLU, each after the first halving the map; no state.

  Attributes:
    dims: channels of each layer.
    dense: widths of dense layers on the last map as one row, of which ``pooled`` is the last; if
      none are given it is the mean of the map, which does not tell what was where.
    dtype: of the computation; parameters are float32.

  References:
    Springenberg et al., `Striving for Simplicity: The All Convolutional Net
    <https://arxiv.org/abs/1412.6806>`_, 2014 (strides in place of pooling).
  """

  dims: Sequence[int] = (16, 32, 64)
  dense: Sequence[int] = ()
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: not used.

    Returns:
      Features; ``tokens`` are the last map in raster order, ``layers`` all maps.

    Raises:
      ValueError: if ``image`` is not rank 4.
    """
    del train
    check_image(image)
    x, layers = image, []
    for i, width in enumerate(self.dims):
      stride = 2 if i else 1
      x = nn.Conv(
        width,
        (3, 3),
        (stride, stride),
        dtype=self.dtype,
        kernel_init=nn.initializers.he_normal(),
        name=f"conv_{i}",
      )(x)
      x = nn.relu(x)
      layers.append(x)
    tokens = x.reshape(len(x), -1, x.shape[-1])
    pooled = jnp.mean(tokens, 1)
    if self.dense:
      pooled = MLP(self.dense, dtype=self.dtype, name="mlp")(tokens.reshape(len(x), -1))
    return Features(pooled, tokens, tuple(layers))
