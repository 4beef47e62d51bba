"""Convolutions: what a CPU sums and multiplies is what other devices convolve."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.encoders import convolution as room
from repjax.encoders.convolution import convolve, depthwise
from repjax.train.flops import count_flops


def drawn(*shapes):
  rng = np.random.default_rng(0)
  return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def value_and_gradient(x, kernel, weight):
  # A new function each time, so that none is found compiled for another platform.
  return jax.value_and_grad(lambda x, k: jnp.sum(weight * depthwise(x, k)), (0, 1))


@pytest.mark.parametrize("sides, height", [((3, 3), 4), ((1, 5), 4), ((7, 3), 11)])
def test_shifted_sums_equal_the_convolution_in_value_gradient_and_arithmetic(
  sides, height, monkeypatch
):
  arrays = drawn((2, height, 5, 3), (*sides, 1, 3), (2, height, 5, 3))
  monkeypatch.setattr(room, "TILE", 4)  # 11 rows are three tiles, the last of 3
  run = value_and_gradient(*arrays)
  sums, counted = jax.jit(run)(*arrays[:2]), count_flops(run, *arrays[:2])
  monkeypatch.setattr(room, "platform", lambda: "gpu")
  run = value_and_gradient(*arrays)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-4), sums, jax.jit(run)(*arrays[:2])
  )
  assert counted == 3 * 2 * sides[0] * sides[1] * arrays[0].size
  assert counted == count_flops(run, *arrays[:2])


def test_half_precision_is_summed_in_single():
  x, kernel = (x.astype(jnp.bfloat16) for x in drawn((1, 16, 16, 4), (7, 7, 1, 4)))
  wide = depthwise(x.astype(jnp.float32), kernel.astype(jnp.float32))
  np.testing.assert_array_equal(depthwise(x, kernel), wide.astype(jnp.bfloat16))


@pytest.mark.parametrize(
  "options",
  [
    {"padding": 1, "feature_group_count": 4},
    {"padding": "SAME", "feature_group_count": 4},
    {"padding": "VALID", "feature_group_count": 4},
    {"padding": 2, "feature_group_count": 4, "kernel_dilation": (2, 2)},
    {"padding": 1, "feature_group_count": 4, "strides": (2, 2)},
    {"padding": 1, "feature_group_count": 2},
    {"padding": 1},
    {"padding": 0, "strides": (3, 3)},
    {"padding": "SAME", "strides": (3, 3)},
    {"kernel_size": (1, 1)},
    {"kernel_size": (1, 1), "strides": (2, 3)},
    {"kernel_size": (2, 3), "strides": (2, 3), "padding": "VALID"},
    {"kernel_size": (2, 2), "padding": "VALID"},
    {"kernel_size": (1, 1), "input_dilation": (2, 1), "padding": 0},
    {"kernel_size": (1, 1), "feature_group_count": 2},
  ],
)
def test_a_layer_of_any_convolution_computes_the_same(options):
  (x,) = drawn((2, 7, 6, 4))
  layer = nn.Conv(**{"features": 4, "kernel_size": (3, 3)} | options)
  variables = layer.init(jax.random.key(0), x)
  ours = layer.clone(conv_general_dilated=convolve).apply(variables, x)
  np.testing.assert_allclose(ours, layer.apply(variables, x), 1e-5, 1e-5)


def test_a_pixel_alone_is_multiplied_and_counted_as_a_convolution(monkeypatch):
  x, weight = drawn((2, 6, 6, 4), (2, 3, 3, 8))
  layer = nn.Conv(8, (1, 1), 2, conv_general_dilated=convolve)
  variables = layer.init(jax.random.key(0), x)
  run = lambda v, x: jnp.sum(weight * layer.apply(v, x))
  on_cpu, counted = jax.grad(run, (0, 1))(variables, x), count_flops(run, variables, x)
  assert "conv" not in str(jax.make_jaxpr(run)(variables, x))
  monkeypatch.setattr(room, "platform", lambda: "gpu")
  again = lambda v, x: run(v, x)
  assert counted == count_flops(again, variables, x) == 2 * 2 * 9 * 4 * 8
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-5),
    on_cpu,
    jax.grad(again, (0, 1))(variables, x),
  )
