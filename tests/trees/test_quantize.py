"""Quantisation: values one by one in NumPy, half a step at most, and sums that are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from repjax.trees import (
  dequantize,
  dequantize_layers,
  pack,
  quantize,
  quantize_layers,
  split_by_size,
  unpack,
)

RNG = np.random.default_rng(0)
WEIGHTS = np.append(0.1 * RNG.normal(size=1998), [2.0, -3.0]).astype(np.float32).reshape(50, 40)


def in_numpy(x, bits, low, high):
  """A value at a time: the nearest of all numbers that the grid has."""
  x, low, high = np.float64(x), min(np.float64(low), 0.0), max(np.float64(high), 0.0)
  step = (high - low) / (2**bits - 1)
  first = np.rint(low / step) * step  # moved so that 0 is one of them
  grid = first + step * np.arange(2**bits)
  return grid[np.abs(x.reshape(-1, 1) - grid).argmin(1)].reshape(x.shape), grid


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_values_move_to_the_nearest_of_the_grid_of_their_range(bits):
  ours = jax.jit(quantize, static_argnames="bits")(WEIGHTS, bits=bits)
  assert ours.values.dtype == jnp.int8
  wanted, grid = in_numpy(WEIGHTS, bits, WEIGHTS.min(), WEIGHTS.max())
  back = np.asarray(dequantize(ours))
  np.testing.assert_allclose(back, wanted, atol=1e-5)
  assert np.abs(np.unique(back)[:, None] - grid).min(1).max() < 1e-6
  assert np.abs(back - WEIGHTS).max() <= float(ours.step) / 2 * (1 + 1e-5)
  values = np.int32(ours.values)
  assert values.min() >= -(2 ** (bits - 1)) and values.max() < 2 ** (bits - 1)


def test_clipped_values_move_to_the_percentiles():
  ours = quantize(WEIGHTS, bits=4, percentile=99.0)
  low, high = np.percentile(WEIGHTS.astype(np.float64), [1, 99])
  np.testing.assert_allclose(dequantize(ours), in_numpy(WEIGHTS, 4, low, high)[0], atol=1e-6)
  assert ours.step < quantize(WEIGHTS, bits=4).step / 5
  assert abs(float(dequantize(ours).max()) - high) <= ours.step / 2


@pytest.mark.parametrize("x", [np.zeros(5), np.full(5, 3.0), -np.arange(5.0), np.float32(-0.7)])
def test_zero_and_the_ends_are_exact_whatever_the_range(x):
  x = np.asarray(x, np.float32)
  back = np.asarray(dequantize(quantize(x, bits=2)))
  for value in (x.min(), x.max()):
    np.testing.assert_allclose(back[x == value], value, rtol=1e-6)
  zero = dequantize(quantize(np.append(x.ravel(), np.float32(0)), bits=2))[-1]
  assert zero == 0


def test_parts_sum_to_the_array_exactly_and_are_in_order():
  parts = np.asarray(jax.jit(split_by_size)(WEIGHTS))
  np.testing.assert_array_equal(parts.sum(0), WEIGHTS)
  assert ((parts != 0).sum(0) <= 1).all()
  lower, middle, upper = (part[part != 0] for part in parts)
  assert lower.max() < middle.min() and middle.max() < upper.min()


def test_clusters_are_those_of_scikit_learn():
  from sklearn.cluster import KMeans

  for scale in (1.0, 30.0):
    x = RNG.normal(size=600)
    x[:5] *= scale
    theirs = KMeans(3, n_init=10, random_state=0).fit(x[:, None])
    parts = np.asarray(split_by_size(x.astype(np.float32)))
    ours = sum(((p[p != 0] - p[p != 0].mean()) ** 2).sum() for p in parts)
    np.testing.assert_allclose(ours, theirs.inertia_, rtol=5e-3)


def test_a_split_layer_is_the_layer():
  conv, x = nn.Conv(5, (3, 3)), RNG.normal(size=(2, 6, 6, 3)).astype(np.float32)
  params = {
    "kernel": RNG.normal(size=(3, 3, 3, 5)).astype(np.float32),
    "bias": RNG.normal(size=5).astype(np.float32),
  }

  @jax.jit
  def outputs(params):
    parts = jax.tree.map(split_by_size, params)
    layers = [jax.tree.map(lambda p, i=i: p[i], parts) for i in range(3)]
    rounded = dequantize_layers(quantize_layers(params, bits=8, split=split_by_size))
    whole, *layers, rounded = (conv.apply({"params": p}, x) for p in (params, *layers, rounded))
    return whole, sum(layers), rounded

  whole, summed, rounded = outputs(params)
  np.testing.assert_allclose(summed, whole, atol=1e-5)
  assert 1e-4 < np.abs(rounded - whole).max() < 0.1


def test_outliers_stay_and_the_rest_gains_resolution():
  plain, clipped = (dequantize(quantize(WEIGHTS, bits=2, percentile=p)) for p in (100.0, 99.0))
  layer = {"kernel": WEIGHTS}
  split = dequantize_layers(quantize_layers(layer, bits=2, split=split_by_size))["kernel"]
  for extreme in (WEIGHTS.argmax(), WEIGHTS.argmin()):
    np.testing.assert_allclose(split.ravel()[extreme], WEIGHTS.ravel()[extreme], rtol=1e-6)
    assert abs(clipped.ravel()[extreme]) < 0.2 * abs(WEIGHTS.ravel()[extreme])
  error = lambda x: np.abs(x - WEIGHTS).mean()
  assert error(split) < error(plain)


def test_each_part_has_its_own_grid_and_what_is_no_layer_stays():
  params = {
    "a": [{"kernel": WEIGHTS, "bias": WEIGHTS[0], "mask": WEIGHTS[1]}],
    "norm": {"scale": WEIGHTS[2], "bias": WEIGHTS[3]},
  }
  ours = jax.jit(lambda tree: quantize_layers(tree, bits=3, split=split_by_size))(params)
  for name in ("kernel", "bias"):
    found, parts = ours["a"][0][name], split_by_size(params["a"][0][name])
    for place in range(3):
      alone = quantize(parts[place], bits=3)
      np.testing.assert_array_equal(found.values[place], alone.values)
      np.testing.assert_array_equal(found.zero[place], alone.zero)
      np.testing.assert_allclose(found.step[place], alone.step, rtol=1e-6)
  np.testing.assert_array_equal(ours["norm"]["bias"], WEIGHTS[3])
  np.testing.assert_array_equal(ours["a"][0]["mask"], WEIGHTS[1])


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_packed_integers_come_back_from_as_few_bytes_as_they_take(bits):
  values = RNG.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (7, 3)).astype(np.int8)
  packed = pack(values, bits=bits)
  assert packed.nbytes == -(-21 * bits // 8)
  np.testing.assert_array_equal(unpack(packed, (7, 3), bits=bits), values)


def test_what_does_not_fit_is_named():
  with pytest.raises(ValueError, match="bits=9"):
    quantize(WEIGHTS, bits=9)
  with pytest.raises(ValueError, match="percentile=40"):
    quantize(WEIGHTS, bits=4, percentile=40)
  with pytest.raises(ValueError, match="values from -3 to 1 do not fit 2 bits, which hold -2 to 1"):
    pack(np.array([-3, 1], np.int8), bits=2)
  with pytest.raises(ValueError, match="21 values of 2 bits take 6 bytes, got 3"):
    unpack(np.zeros(3, np.uint8), (7, 3), bits=2)
