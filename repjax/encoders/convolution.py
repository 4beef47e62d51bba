"""Convolutions, written so that a CPU is fast at them too."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, platform
from repjax.encoders.products import product

#: Side of the tiles, at most, whose share of a kernel's gradient is one fused loop.
TILE = 8


def depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolves each channel with a kernel of its own, as if there were zeros around the map.

  On a CPU by shifted sums, where XLA's convolution by groups is slow (benchmarks/NOTES.md); those
  have a gradient and no forward mode (`jax.jvp`).

  Args:
    x: ``[batch, height, width, dim]``.
    kernel: ``[rows, columns, 1, dim]`` with odd sides, as `flax.linen.Conv` stores it.

  Returns:
    Same shape and dtype as ``x``; on a CPU summed in float32 or better.
  """
  if platform() == "cpu":
    return _sums(x, kernel)
  return lax.conv_general_dilated(
    x, kernel, (1, 1), "SAME", feature_group_count=x.shape[-1],
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )  # fmt: skip


def convolve(
  x: jax.Array,
  kernel: jax.Array,
  strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  *,
  feature_group_count: int,
  lhs_dilation: Sequence[int],
  rhs_dilation: Sequence[int],
  **options: Any,
) -> jax.Array:
  """What a `flax.linen.Conv` computes, in another way where a CPU is faster at that.

  That is by `depthwise` where each channel has its own kernel, and by one matrix product where
  kernels do not overlap: of one pixel, or as large as the stride. XLA takes several times as long
  for the gradients of these (benchmarks/NOTES.md).

  Args:
    x: ``[batch, height, width, channels]``.
    kernel: ``[rows, columns, channels / groups, features]``.
    strides: of both sides.
    padding: of both sides, before and after, or SAME or VALID.
    feature_group_count: groups.
    lhs_dilation: of the map.
    rhs_dilation: of the kernel.
    **options: of `jax.lax.conv_general_dilated`.

  Returns:
    ``[batch, ..., features]``; give this as a layer's ``conv_general_dilated``.
  """
  sides = kernel.shape[:2]
  padding = padding if isinstance(padding, str) else tuple(map(tuple, padding))
  if set(lhs_dilation) | set(rhs_dilation) == {1}:
    keeps = padding in ("SAME", tuple((side // 2, side // 2) for side in sides))
    keeps = keeps and set(strides) == {1} and all(side % 2 for side in sides)
    if keeps and feature_group_count == x.shape[-1] == kernel.shape[-1]:
      return depthwise(x, kernel)
    bare = padding in ("VALID", ((0, 0), (0, 0))) or (sides, padding) == ((1, 1), "SAME")
    apart = bare and sides in ((1, 1), tuple(strides))
    if apart and feature_group_count == 1 and platform() == "cpu":
      return _product(x, kernel, strides)
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    padding,
    feature_group_count=feature_group_count,
    lhs_dilation=lhs_dilation,
    rhs_dilation=rhs_dilation,
    **options,
  )


def _product(x, kernel, strides):
  """Convolution by kernels that do not overlap."""
  (rows, columns), (batch, height, width, dim) = kernel.shape[:2], x.shape
  if (rows, columns) == (1, 1):
    x = x[:, :: strides[0], :: strides[1]]
  else:
    x = x[:, : height // rows * rows, : width // columns * columns]
    x = x.reshape(batch, height // rows, rows, width // columns, columns, dim)
    x = jnp.swapaxes(x, 2, 3)
  y = product(x.reshape(-1, rows * columns * dim), kernel.reshape(-1, kernel.shape[-1]))
  return y.reshape(*x.shape[:3], kernel.shape[-1])


@jax.custom_vjp
def _sums(x, kernel):
  return _convolved(x, kernel)


def _forward(x, kernel):
  return _convolved(x, kernel), (x, kernel)


def _backward(kept, cotangent):
  x, kernel = kept
  return _convolved(cotangent, kernel[::-1, ::-1]), _correlated(x, cotangent, kernel)


_sums.defvjp(_forward, _backward)


# `count_flops` knows the arithmetic of the two by their names.
@jax.jit
def _convolved(x, kernel):
  (rows, columns), (height, width) = kernel.shape[:2], x.shape[1:3]
  padded, taps = _padded(x, rows, columns), at_least_float32(kernel)
  total = sum(
    padded[:, i : i + height, j : j + width] * taps[None, i, j, None]
    for i in range(rows)
    for j in range(columns)
  )
  return total.astype(x.dtype)


@jax.jit
def _correlated(x, cotangent, kernel):
  """The kernel's gradient: over a tile, each of its pixels adds a window times its cotangent.

  Written as sums over the map, one a tap, XLA would read both maps once a tap.
  """
  (rows, columns), (batch, height, width, dim) = kernel.shape[:2], x.shape
  (down, below), (across, beyond) = _tiles(height), _tiles(width)
  edges = ((0, 0), (0, below), (0, beyond), (0, 0))  # zeros add nothing
  x = jnp.pad(_padded(x, rows, columns), edges)
  cotangent = jnp.pad(at_least_float32(cotangent), edges)
  corners = jnp.arange(batch), jnp.arange(0, height, down), jnp.arange(0, width, across)
  places = jnp.stack(jnp.meshgrid(*corners, indexing="ij"), -1).reshape(-1, 3)

  def add(total, place):
    size = (1, down + rows - 1, across + columns - 1, dim)
    near = lax.dynamic_slice(x, (*place, 0), size)[0]
    out = lax.dynamic_slice(cotangent, (*place, 0), (1, down, across, dim))[0]
    for i in range(down):
      for j in range(across):
        total = total + near[i : i + rows, j : j + columns] * out[i, j][None, None]
    return total, None

  total, _ = lax.scan(add, jnp.zeros((rows, columns, dim), cotangent.dtype), places)
  return total[:, :, None].astype(kernel.dtype)


def _tiles(side: int) -> tuple[int, int]:
  """How long the tiles of a side are, and how much the last one lacks."""
  length = -(-side // -(-side // TILE))
  return length, -side % length


def _padded(x, rows, columns):
  edges = [(side // 2, side // 2) for side in (rows, columns)]
  return jnp.pad(at_least_float32(x), ((0, 0), *edges, (0, 0)))
