"""Frames: the nearest level in NumPy, half a step at most, and what comes back whole."""

import jax.numpy as jnp
import numpy as np
import pytest

from repjax.codes import (
  dequantize_range,
  pack_frame,
  quantize_range,
  truncation_range,
  unpack_frame,
)

RNG = np.random.default_rng(0)
X = (3 * RNG.normal(size=(40, 5))).astype(np.float32)


@pytest.mark.parametrize(("bits", "dtype"), [(1, jnp.uint8), (3, jnp.uint8), (10, jnp.uint16)])
def test_values_go_to_the_nearest_level_of_the_range(bits, dtype):
  ends = {"low": -2.0, "high": 4.0, "bits": bits}
  levels = quantize_range(X, **ends)
  assert levels.dtype == dtype
  grid = np.linspace(-2, 4, 2**bits)
  wanted = np.abs(np.float64(X)[..., None] - grid).argmin(-1)
  np.testing.assert_array_equal(levels, wanted)
  back = np.asarray(dequantize_range(levels, **ends))
  np.testing.assert_allclose(back, grid[wanted], atol=1e-5)
  within = (X >= -2) & (X <= 4)
  assert np.abs(back - X)[within].max() <= 3 / (2**bits - 1) + 1e-5
  assert (back[X < -2] == -2).all() and not within.all()


def test_each_channel_may_have_its_range():
  low, high = X.min(0), X.max(0)
  levels = quantize_range(X, low=low, high=high, bits=4)
  for c in range(5):
    alone = quantize_range(X[:, c], low=low[c], high=high[c], bits=4)
    np.testing.assert_array_equal(levels[:, c], alone)
  back = dequantize_range(levels, low=low, high=high, bits=4)
  assert (np.abs(back - X) <= (high - low) / 30 + 1e-5).all()


def test_levels_are_fixed_points():
  ends = {"low": -2.0, "high": 4.0, "bits": 10}
  levels = np.arange(1024, dtype=np.uint16)
  np.testing.assert_array_equal(quantize_range(dequantize_range(levels, **ends), **ends), levels)


def test_a_range_holds_the_share_it_is_asked_for():
  low, high = truncation_range(X, share=0.9)
  assert low == -high
  assert np.sum(np.abs(X) <= high) == 180


@pytest.mark.parametrize("columns", [1, 2, 6])
def test_maps_come_back_from_a_frame_and_lie_where_they_should(columns):
  parts = RNG.integers(0, 1024, (6, 4, 3)).astype(np.uint16)
  frame = pack_frame(parts, columns=columns)
  np.testing.assert_array_equal(unpack_frame(frame, maps=6, columns=columns), parts)
  for i, part in enumerate(parts):
    row, column = divmod(i, columns)
    place = frame[4 * row : 4 * row + 4, 3 * column : 3 * column + 3]
    np.testing.assert_array_equal(place, part)


def test_what_does_not_fit_is_named():
  with pytest.raises(ValueError, match="columns=4 does not divide 6 maps"):
    pack_frame(np.zeros((6, 2, 2)), columns=4)
  with pytest.raises(ValueError, match=r"\(5, 6\) is not of 6 maps in 3 columns"):
    unpack_frame(np.zeros((5, 6)), maps=6, columns=3)
  with pytest.raises(ValueError, match="bits=17"):
    quantize_range(X, low=0.0, high=1.0, bits=17)
