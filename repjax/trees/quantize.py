"""Weights as integers of few bits, and layers split so that few bits do."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Tree = Any


class Quantized(NamedTuple):
  """An array as integers on a grid of its own.

  Attributes:
    values: int8, ``[...]``, or ``[parts, ...]`` of an array that is the sum of several.
    step: width of the grid, float32, ``[]`` or ``[parts]``.
    zero: the integer that stands for 0, int32, likewise.
  """

  values: jax.Array
  step: jax.Array
  zero: jax.Array


def quantize(x: jax.Array, *, bits: int, percentile: float = 100.0) -> Quantized:
  r"""Rounds an array to the uniform grid of its range.

  .. math:: q = \operatorname{clip}\!\big(\operatorname{round}(x / s) + z,\, -2^{b-1},\,
    2^{b-1} - 1\big), \quad s = \frac{\beta - \alpha}{2^b - 1}, \quad
    z = -2^{b-1} - \operatorname{round}(\alpha / s)

  The range :math:`[\alpha, \beta]` is that of the array and 0, so that 0 is exact. Unless values
  are clipped, none moves by more than half a step.

  Args:
    x: any shape, floating.
    bits: b, from 1 to 8.
    percentile: above 50; below 100 the range is that of the values between this percentile and its
      mirror image, and what lies outside moves to its ends.

  Returns:
    The integers with their grid.

  Raises:
    ValueError: if ``bits`` or ``percentile`` are out of range.

  References:
    Jacob et al., `Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference <https://arxiv.org/abs/1712.05877>`_, 2017, section 2.1.
    Song and Lin, `SplitQuant: Layer Splitting for Low-Bit Neural Network Quantization
    <https://arxiv.org/abs/2501.12428>`_, 2025 (min-max, and percentiles as its rival).
  """
  if not 1 <= bits <= 8 or not 50 < percentile <= 100:
    raise ValueError(
      f"expected bits from 1 to 8 and a percentile in (50, 100], got {bits=} and {percentile=}"
    )
  return _quantize(jnp.asarray(x, jnp.float32), 2.0**bits, percentile)


# One program for all numbers of bits.
@jax.jit
def _quantize(x, levels, percentile):
  ends = jnp.stack([100 - percentile, percentile])
  low, high = jnp.percentile(x, ends)
  low, high = jnp.minimum(low, 0), jnp.maximum(high, 0)
  step = (high - low) / (levels - 1)
  step = jnp.where(step > 0, step, 1)
  first = -levels / 2
  zero = first - jnp.round(low / step)
  # Clipped before the cast, for an outlier may lie beyond any integer.
  values = jnp.clip(jnp.round(x / step) + zero, first, -first - 1)
  return Quantized(values.astype(jnp.int8), step, zero.astype(jnp.int32))


@jax.jit
def dequantize(quantized: Quantized) -> jax.Array:
  """The numbers that the integers stand for.

  Args:
    quantized: from `quantize`, or parts of an array side by side.

  Returns:
    Float32, of the shape of the array: the sum over its parts where there are several.
  """
  values, step, zero = quantized
  parts = (...,) + (None,) * (values.ndim - step.ndim)
  numbers = (values.astype(jnp.int32) - zero[parts]) * step[parts]
  return jnp.sum(numbers, 0) if step.ndim else numbers


@functools.partial(jax.jit, static_argnames="steps")
def split_by_size(x: jax.Array, *, steps: int = 100) -> jax.Array:
  """Splits an array into its lower, middle and upper values, which sum to it exactly.

  Values are clustered by k-means with three centres, and each part has 0 where the other two have
  values: a layer with these weights is the sum of three layers with the parts. Lloyd's iterations
  go on from the best of some ten thousand pairs of borders, dense where the outliers are; the paper
  draws starts by k-means++. Its code clusters each kernel of a convolution by itself, here the
  whole array is one set.

  Args:
    x: any shape, floating.
    steps: iterations at most.

  Returns:
    ``[3, ...]``, the dtype of ``x``.

  References:
    Song and Lin, `SplitQuant: Layer Splitting for Low-Bit Neural Network Quantization
    <https://arxiv.org/abs/2501.12428>`_, 2025; ``splitquant.py`` of
    https://github.com/jaewoosong/splitquant, whose borders are followed.
  """
  ordered = jnp.sort(jnp.ravel(x).astype(jnp.float32))
  middle = jnp.mean(ordered)
  ordered = ordered - middle
  sums = jnp.concatenate([jnp.zeros(1), jnp.cumsum(ordered)])
  size = ordered.size

  def clusters(ends):
    """Counts and sums of what ends ``[..., 2]`` cut the values in order into."""
    edges = [jnp.zeros_like(ends[..., :1]), ends, jnp.full_like(ends[..., :1], size)]
    edges = jnp.concatenate(edges, -1)
    return jnp.diff(edges), jnp.diff(sums[edges])

  def lloyd(state):
    centres, _, step = state
    first, last = (centres[1:] + centres[:-1]) / 2
    ends = [
      jnp.searchsorted(ordered, first, side="right"),
      jnp.searchsorted(ordered, last, side="left"),
    ]
    count, total = clusters(jnp.sort(jnp.stack(ends)))
    # An empty cluster stays where it is.
    moved = jnp.sort(jnp.where(count > 0, total / jnp.maximum(count, 1), centres))
    return moved, jnp.any(moved != centres), step + 1

  few = 2 ** np.arange(size.bit_length())
  places = np.unique(np.clip([*np.linspace(0, size, 49), *few, *(size - few)], 0, size).astype(int))
  levels = jnp.linspace(ordered[0], ordered[-1], 49)
  places = jnp.sort(jnp.append(places, jnp.searchsorted(ordered, levels)))
  pairs = jnp.stack(jnp.meshgrid(places, places, indexing="ij"), -1).reshape(-1, 2)
  pairs = jnp.sort(pairs, -1)
  count, total = clusters(pairs)
  # Inertia up to the sum of squares, which is the same for all.
  best = jnp.argmax(jnp.sum(jnp.square(total) / jnp.maximum(count, 1), -1))
  start = jnp.sort(total[best] / jnp.maximum(count[best], 1))
  more = lambda state: state[1] & (state[2] < steps)
  centres, _, _ = lax.while_loop(more, lloyd, (start, jnp.bool_(True), 0))
  first, last = (centres[1:] + centres[:-1]) / 2 + middle
  lower = x <= first
  upper = (x >= last) & ~lower  # equal values may make the borders one
  return jnp.stack([jnp.where(kept, x, 0) for kept in (lower, ~(lower | upper), upper)])


def quantize_layers(
  params: Tree,
  *,
  bits: int,
  percentile: float = 100.0,
  split: Callable[[jax.Array], jax.Array] | None = None,
) -> Tree:
  """Quantises kernels and biases, an array at a time.

  Args:
    params: a tree whose layers are mappings with a ``kernel``, as Flax's are. Their kernels and
      biases are quantised; everything else, norms and embeddings among it, stays.
    bits: of each integer, from 1 to 8.
    percentile: see `quantize`.
    split: ``array -> [parts, ...]`` that sum to it, each part with a grid of its own: SplitQuant
      with `split_by_size`, which takes three integers for each weight.

  Returns:
    The tree with `Quantized` in place of arrays; `dequantize_layers` undoes it up to rounding.
  """

  def of_array(x):
    if split is None:
      return quantize(x, bits=bits, percentile=percentile)
    return jax.vmap(lambda part: quantize(part, bits=bits, percentile=percentile))(split(x))

  def of_layer(layer):
    if not _is_layer(layer):
      return layer
    return {k: of_array(x) if k in ("kernel", "bias") else x for k, x in layer.items()}

  return jax.tree.map(of_layer, params, is_leaf=_is_layer)


def dequantize_layers(params: Tree) -> Tree:
  """Parameters as a module takes them.

  Args:
    params: from `quantize_layers`.

  Returns:
    The tree with arrays in place of `Quantized`.
  """
  quantized = lambda x: isinstance(x, Quantized)
  return jax.tree.map(lambda x: dequantize(x) if quantized(x) else x, params, is_leaf=quantized)


def pack(values: np.ndarray, *, bits: int) -> np.ndarray:
  """Puts integers of few bits side by side into bytes.

  Args:
    values: any shape, int8, from ``-2**(bits - 1)`` to ``2**(bits - 1) - 1``.
    bits: from 1 to 8.

  Returns:
    ``[ceil(size * bits / 8)]`` uint8, the first value in the highest bits.

  Raises:
    ValueError: if a value needs more bits.
  """
  values = np.asarray(values)
  first = -(2 ** (bits - 1))
  if values.size and not first <= values.min() <= values.max() < -first:
    raise ValueError(
      f"values from {values.min()} to {values.max()} do not fit {bits} bits, which hold {first} to "
      f"{-first - 1}"
    )
  shifted = (values.ravel().astype(np.int16) - first).astype(np.uint8)
  return np.packbits(np.unpackbits(shifted[:, None], axis=1)[:, 8 - bits :])


def unpack(packed: np.ndarray, shape: tuple[int, ...], *, bits: int) -> np.ndarray:
  """Undoes `pack`.

  Args:
    packed: ``[bytes]`` uint8.
    shape: of the values.
    bits: from 1 to 8.

  Returns:
    int8 of that shape.

  Raises:
    ValueError: if there are more or fewer bytes than the values take.
  """
  size = int(np.prod(shape))
  if len(packed) != -(-size * bits // 8):
    raise ValueError(
      f"{size} values of {bits} bits take {-(-size * bits // 8)} bytes, got {len(packed)}"
    )
  digits = np.unpackbits(packed, count=size * bits).reshape(size, bits)
  weights = 2 ** np.arange(bits - 1, -1, -1)
  return (digits @ weights - 2 ** (bits - 1)).astype(np.int8).reshape(shape)


def _is_layer(node):
  return isinstance(node, Mapping) and "kernel" in node
