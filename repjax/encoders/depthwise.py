"""Convolution of each channel by itself."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, platform

#: Rows of a map between which the kernel's gradient is summed: so many stay in a core's cache.
BAND = 8


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
  padding: Sequence[tuple[int, int]],
  *,
  feature_group_count: int,
  rhs_dilation: Sequence[int],
  **options: Any,
) -> jax.Array:
  """What a `flax.linen.Conv` computes, by `depthwise` where that is what it is.

  Args:
    x: ``[batch, height, width, channels]``.
    kernel: ``[rows, columns, channels / groups, features]``.
    strides: of both sides.
    padding: of both sides, before and after.
    feature_group_count: groups.
    rhs_dilation: of the kernel.
    **options: of `jax.lax.conv_general_dilated`.

  Returns:
    ``[batch, ..., features]``; give this as a layer's ``conv_general_dilated``.
  """
  half = [(side // 2, side // 2) for side in kernel.shape[:2]]
  plain = set(strides) | set(rhs_dilation) == {1} and list(map(tuple, padding)) == half
  if plain and feature_group_count == x.shape[-1] == kernel.shape[-1]:
    return depthwise(x, kernel)
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    padding,
    feature_group_count=feature_group_count,
    rhs_dilation=rhs_dilation,
    **options,
  )


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
  """The kernel's gradient; left to itself XLA reads both maps from memory once a tap."""
  (rows, columns), (batch, height, width, dim) = kernel.shape[:2], x.shape
  band = min(BAND, height)
  below = -height % band  # rows of zeros add nothing
  x = jnp.pad(_padded(x, rows, columns), ((0, 0), (0, below), (0, 0), (0, 0)))
  cotangent = jnp.pad(at_least_float32(cotangent), ((0, 0), (0, below), (0, 0), (0, 0)))
  places = jnp.stack(
    jnp.meshgrid(jnp.arange(batch), jnp.arange(0, height, band), indexing="ij"), -1
  ).reshape(-1, 2)

  def add(total, place):
    cut = lambda y: lax.dynamic_slice(
      y, (*place, 0, 0), (1, band + y.shape[1] - height - below, *y.shape[2:])
    )[0]
    near, out = cut(x), cut(cotangent)
    products = [
      [jnp.sum(near[i : i + band, j : j + width] * out, (0, 1)) for j in range(columns)]
      for i in range(rows)
    ]
    return total + jnp.asarray(products), None

  start = jnp.zeros((rows, columns, dim), cotangent.dtype)
  total, _ = lax.scan(add, start, places)
  return total[:, :, None].astype(kernel.dtype)


def _padded(x, rows, columns):
  edges = [(side // 2, side // 2) for side in (rows, columns)]
  return jnp.pad(at_least_float32(x), ((0, 0), *edges, (0, 0)))
