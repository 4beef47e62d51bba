"""PointNet: a set of points, each seen alone and then beside what all of them make together."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.encoders.features import Features


class PointNet(nn.Module):
  """A shared MLP, a maximum over points, and a second MLP on each point beside that maximum.

  As the paper's segmentation network, without the learned alignment of inputs and features.

  Attributes:
    dims: widths of the first MLP.
    context_dims: widths of the second MLP; the last is that of the features.
    dtype: of the computation; parameters are float32.

  References:
    Qi et al., `PointNet: Deep Learning on Point Sets for 3D Classification and Segmentation
    <https://arxiv.org/abs/1612.00593>`_, 2016, section 4.2 and figure 2.
  """

  dims: Sequence[int] = (64, 128)
  context_dims: Sequence[int] = (128, 128)
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, points: jax.Array, *, train: bool = False) -> Features:
    """Encodes point clouds.

    Args:
      points: ``[batch, points, coordinates]``, floating.
      train: not used.

    Returns:
      Features; ``tokens`` are the points in their order, ``pooled`` their maximum, and ``layers``
      the points after either MLP.

    Raises:
      ValueError: if ``points`` is not rank 3.
    """
    del train
    if points.ndim != 3:
      raise ValueError(f"expected points [batch, points, coordinates], got shape {points.shape}")
    x = points
    for i, width in enumerate(self.dims):
      x = nn.relu(nn.Dense(width, dtype=self.dtype, name=f"local_{i}")(x))
    local = x
    whole = jnp.broadcast_to(jnp.max(x, 1, keepdims=True), x.shape)
    x = jnp.concatenate([x, whole], -1)
    for i, width in enumerate(self.context_dims):
      x = nn.Dense(width, dtype=self.dtype, name=f"context_{i}")(x)
      x = nn.relu(x) if i < len(self.context_dims) - 1 else x
    return Features(jnp.max(x, 1), x, (local, x))
