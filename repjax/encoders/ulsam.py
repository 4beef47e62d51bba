"""ULSAM: a map of attention for each part of the channels, for two numbers a channel."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32
from repjax.encoders.batch_norm import batch_norm


class SubspaceAttention(nn.Module):
  r"""Channels in groups, each of which is raised where its own map says.

  .. math:: A_n = \operatorname{softmax}_{h w}\!\big(\operatorname{pw}(
              \operatorname{maxpool}_{3\times3}(\operatorname{dw}(F_n)))\big), \quad
            \hat F_n = (A_n + 1) \odot F_n

  ``dw`` has one number a channel, ``pw`` sums a group's channels into one map; batch norm and ReLU
  follow either.

  Attributes:
    groups: number of subspaces; divides the channels.
    momentum: share of the running statistics kept at each step of training.
    axis_name: mapped axis that holds the other shards of a batch, if any.
    dtype: of the computation; parameters and statistics are float32.

  References:
    Saini et al., `ULSAM: Ultra-Lightweight Subspace Attention Module for Compact Convolutional
    Neural Networks <https://arxiv.org/abs/2006.15102>`_, 2020, section 3.2; biases, norms and
    activations are those of https://github.com/Nandan91/ULSAM, whose norms keep a tenth of their
    statistics at each step.
  """

  groups: int = 4
  momentum: float = 0.9
  axis_name: str | None = None
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
    """Attends.

    Args:
      x: ``[batch, height, width, channels]``.
      train: whether batch norm uses the batch's statistics, and updates the running ones in the
        collection ``batch_stats``.

    Returns:
      Same shape as ``x``.

    Raises:
      ValueError: if the groups do not divide the channels.
    """
    batch, height, width, channels = x.shape
    if channels % self.groups:
      raise ValueError(
        f"{channels} channels do not fall into groups={self.groups}; choose a divisor of {channels}"
      )
    normed = batch_norm(self, train)

    def conv(y, features, groups, name):
      y = nn.Conv(features, (1, 1), feature_group_count=groups, dtype=self.dtype, name=name)(y)
      return nn.relu(normed(name=f"{name}_norm")(y))

    y = conv(x, channels, channels, "depthwise")
    y = nn.max_pool(y, (3, 3), padding=((1, 1), (1, 1)))
    y = conv(y, self.groups, self.groups, "pointwise").reshape(batch, -1, self.groups)
    y = jax.nn.softmax(at_least_float32(y), 1).astype(x.dtype)
    y = jnp.repeat(y.reshape(batch, height, width, self.groups), channels // self.groups, -1)
    return x + x * y
