"""Convolution of each channel by itself."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import platform


def depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolves each channel with a kernel of its own, as if there were zeros around the map.

  On a CPU by shifted sums, since XLA's convolution by groups takes 10 times as long there in a
  training step (3x3, 100 maps of 4x4x256: 45 ms on one core, and 3 ms so).

  Args:
    x: ``[batch, height, width, dim]``.
    kernel: ``[rows, columns, 1, dim]`` with odd sides, as `flax.linen.Conv` stores it.

  Returns:
    Same shape as ``x``.
  """
  if platform() != "cpu":
    return lax.conv_general_dilated(
      x, kernel, (1, 1), "SAME", feature_group_count=x.shape[-1],
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
  (rows, columns), (height, width) = kernel.shape[:2], x.shape[1:3]
  edges = [(side // 2, side // 2) for side in (rows, columns)]
  padded = jnp.pad(x, ((0, 0), *edges, (0, 0)))
  return sum(
    padded[:, i : i + height, j : j + width] * kernel[None, i, j, None]
    for i in range(rows)
    for j in range(columns)
  )
