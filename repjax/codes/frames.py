"""Features as pictures of few levels: truncated, rounded, laid side by side."""

import jax
import jax.numpy as jnp
import numpy as np


def truncation_range(features: np.ndarray, *, share: float) -> tuple[float, float]:
  """Range about 0 that holds most values.

  The paper truncates to a symmetric range, chosen by hand for each model and task.

  Args:
    features: any shape.
    share: of the values that it holds, in (0, 1].

  Returns:
    Its ends, ``-r`` and ``r``.

  References:
    Gao et al., `Feature Coding in the Era of Large Models: Dataset, Test Conditions, and Benchmark
    <https://arxiv.org/abs/2412.04307>`_, 2024, section 5; the choice by a share is ours.
  """
  radius = float(np.quantile(np.abs(np.asarray(features, np.float64)), share))
  return -radius, radius


def quantize_range(x: jax.Array, *, low: jax.Array, high: jax.Array, bits: int) -> jax.Array:
  r"""Truncates to a range and rounds to its levels.

  .. math:: q = \operatorname{round}\!\left(\frac{\operatorname{clip}(x, \alpha, \beta) -
    \alpha}{\beta - \alpha} (2^b - 1)\right)

  The authors' code drops fractions in place of rounding, which moves values by twice as much.

  Args:
    x: any shape, floating.
    low: alpha, one number or as many as the last axis has.
    high: beta, likewise, above ``low``.
    bits: b, from 1 to 16; 10 in the paper.

  Returns:
    Levels, same shape, uint8 up to 8 bits and uint16 beyond.

  Raises:
    ValueError: if ``bits`` is out of range.

  References:
    Gao et al., `Feature Coding in the Era of Large Models: Dataset, Test Conditions, and Benchmark
    <https://arxiv.org/abs/2412.04307>`_, 2024, section 5; ``coding/vtm_baseline/vtm_baseline.py``
    of https://github.com/chansongoal/FCM-LM.
  """
  low, step = _grid(x, low, high, bits)
  high = low + step * (2**bits - 1)
  levels = jnp.round((jnp.clip(jnp.asarray(x, jnp.float32), low, high) - low) / step)
  return levels.astype(jnp.uint8 if bits <= 8 else jnp.uint16)


def dequantize_range(levels: jax.Array, *, low: jax.Array, high: jax.Array, bits: int) -> jax.Array:
  """Undoes `quantize_range` up to rounding and truncation.

  Args:
    levels: any shape, integers.
    low: as there.
    high: as there.
    bits: as there.

  Returns:
    Same shape, float32.

  Raises:
    ValueError: if ``bits`` is out of range.
  """
  low, step = _grid(levels, low, high, bits)
  return low + levels.astype(jnp.float32) * step


def pack_frame(parts: jax.Array, *, columns: int) -> jax.Array:
  """Lays maps side by side, as an image codec takes them.

  Args:
    parts: ``[maps, height, width]``, such as tokens by channels of several layers.
    columns: maps in a row; divides their number. The paper's frames have one row (DINOv2's layers),
      one map (Llama's tokens) or a square (Stable Diffusion's channels).

  Returns:
    ``[maps / columns * height, columns * width]``.

  Raises:
    ValueError: if ``columns`` does not divide the maps.

  References:
    Gao et al., `Feature Coding in the Era of Large Models: Dataset, Test Conditions, and Benchmark
    <https://arxiv.org/abs/2412.04307>`_, 2024, section 5.
  """
  maps, height, width = parts.shape
  if columns < 1 or maps % columns:
    raise ValueError(f"{columns=} does not divide {maps} maps; choose a divisor")
  grid = parts.reshape(maps // columns, columns, height, width)
  return grid.swapaxes(1, 2).reshape(maps // columns * height, columns * width)


def unpack_frame(frame: jax.Array, *, maps: int, columns: int) -> jax.Array:
  """Undoes `pack_frame`.

  Args:
    frame: ``[maps / columns * height, columns * width]``.
    maps: their number.
    columns: maps in a row.

  Returns:
    ``[maps, height, width]``.

  Raises:
    ValueError: if that many maps do not fit the frame.
  """
  rows = maps // max(columns, 1)
  if columns < 1 or maps % columns or frame.shape[0] % rows or frame.shape[1] % columns:
    raise ValueError(f"a frame of shape {frame.shape} is not of {maps} maps in {columns} columns")
  height, width = frame.shape[0] // rows, frame.shape[1] // columns
  return frame.reshape(rows, height, columns, width).swapaxes(1, 2).reshape(maps, height, width)


def _grid(x, low, high, bits):
  """The lowest level and the step between levels, to go with the last axis."""
  if not 1 <= bits <= 16:
    raise ValueError(f"{bits=}; choose from 1 to 16")
  low, high = (jnp.asarray(end, jnp.float32) for end in (low, high))
  ends = (None,) * (jnp.ndim(x) - 1) if low.ndim else ()
  low, high = low[ends], high[ends]
  return low, (high - low) / (2**bits - 1)
