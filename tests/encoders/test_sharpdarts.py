"""sharpDARTS: blocks in float64, Max-W's weights and slopes, found cells in the search space."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from repjax.encoders import CellNet, Genotype, SharpSepConv, derive_cells, mixing_weights
from repjax.encoders.sharpdarts import Sharp
from repjax.train.flops import count_flops

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
NORM = functools.partial(nn.BatchNorm, use_running_average=True)


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


def drawn(module, *args):
  """Variables in which no parameter is at a special value such as zero."""
  shapes = jax.eval_shape(module.init, jax.random.key(0), *args)
  variables = jax.tree.map(lambda s: (RNG.normal(size=s.shape) * 0.5).astype(np.float32), shapes)
  variables["batch_stats"] = jax.tree.map(lambda v: np.abs(v) + 0.5, variables["batch_stats"])
  return variables


def close(x, y, tolerance=1e-4):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), x, y)


@pytest.mark.parametrize("settings, stride", [(Sharp(3, 2), 2), (Sharp(5, 1, 2.0), 1)])
def test_a_sharp_convolution_equals_its_definition_in_float64(settings, stride):
  x = RNG.normal(size=(2, 6, 6, 3)).astype(np.float32)
  module = SharpSepConv(4, settings, stride, NORM)
  variables = drawn(module, x)
  p, s = (jax.tree.map(np.float64, variables[k]) for k in ("params", "batch_stats"))
  y, kernel = x.astype(np.float64), settings.kernel
  for i, (step, rate) in enumerate(((stride, settings.dilation), (1, 1))):
    reach = rate * (kernel // 2)
    padded = np.pad(np.maximum(y, 0), ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    side = y.shape[1]
    taps = p[f"depthwise_{i}"]["kernel"][:, :, 0]
    y = sum(
      padded[:, a * rate : a * rate + side : step, b * rate : b * rate + side : step] * taps[a, b]
      for a in range(kernel)
      for b in range(kernel)
    )
    y = y @ p[f"pointwise_{i}"]["kernel"][0, 0]
    mean, var = s[f"norm_{i}"]["mean"], s[f"norm_{i}"]["var"]
    y = (y - mean) / np.sqrt(var + 1e-5) * p[f"norm_{i}"]["scale"] + p[f"norm_{i}"]["bias"]
  close(module.apply(variables, x), y)


def test_with_max_w_the_leader_counts_fully_and_slopes_stay_those_of_the_softmax():
  alphas = jnp.array([[0.3, -1.0, 2.0], [0.0, 0.0, 0.0]])
  w = np.exp(alphas) / np.exp(alphas).sum(1, keepdims=True)
  close(mixing_weights(alphas, max_w=False), w)
  close(mixing_weights(alphas, max_w=True), 1 - w.max(1, keepdims=True) + w)
  slopes = [jax.jacobian(lambda a, m=m: mixing_weights(a, max_w=m))(alphas) for m in (False, True)]
  close(*slopes)


OPERATIONS = ("none", "skip", "max_pool_3x3", "sep_conv_3x3")


def test_a_found_cell_is_the_search_space_where_its_weights_are_all_or_nothing():
  search = CellNet(width=4, cells=3, nodes=1, operations=OPERATIONS, max_w=False)
  variables = drawn(search, IMAGE)
  sure = lambda *picks: 1e4 * np.eye(4, dtype=np.float32)[list(picks)]
  params = variables["params"] | {"alphas_normal": sure(3, 1), "alphas_reduce": sure(2, 3)}
  genotype = derive_cells(params, OPERATIONS)
  assert genotype == Genotype(
    normal=((("sep_conv_3x3", 0), ("skip", 1)),),
    reduce=((("max_pool_3x3", 0), ("sep_conv_3x3", 1)),),
  )
  found = CellNet(genotype, width=4, cells=3)
  run = lambda module: jax.jit(module.apply)(variables | {"params": params}, IMAGE)
  close(run(found).layers, run(search).layers)
  assert [y.shape[1:] for y in run(found).layers] == [(8, 8, 4), (4, 4, 8), (2, 2, 16)]
  costs = [count_flops(m.apply, variables | {"params": params}, IMAGE) for m in (found, search)]
  assert costs[0] < costs[1]


def test_nodes_keep_their_two_strongest_inputs_and_never_nothing():
  alphas = np.zeros((5, 4), np.float32)  # of two nodes: inputs 0, 1, then 0, 1 and the first node
  alphas[:, 0] = 3  # nothing is everywhere the strongest
  alphas[0, 1] = alphas[1, 3] = alphas[2, 2] = 2.0
  alphas[4, 3] = 1.0
  params = {"alphas_normal": alphas, "alphas_reduce": alphas}
  wanted = ((("skip", 0), ("sep_conv_3x3", 1)), (("max_pool_3x3", 0), ("sep_conv_3x3", 2)))
  assert derive_cells(params, OPERATIONS) == Genotype(wanted, wanted)


@pytest.mark.thorough
def test_gradients_reach_alphas_and_are_finite_in_bfloat16():
  module = CellNet(width=4, cells=1, nodes=1, dtype=jnp.bfloat16)
  variables = jax.jit(module.init)(jax.random.key(0), IMAGE)

  def loss(params):
    now = variables | {"params": params}
    features, _ = module.apply(now, IMAGE, train=True, mutable="batch_stats")
    return jnp.mean(features.pooled.astype(jnp.float32) ** 2)

  grads = jax.jit(jax.grad(loss))(variables["params"])
  assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))
  assert np.abs(grads["alphas_normal"]).max() > 0


def test_unknown_operations_are_refused():
  with pytest.raises(ValueError, match=r"unknown operations \['conv'\].*sep_conv_3x3"):
    jax.eval_shape(CellNet(operations=("conv",)).init, jax.random.key(0), IMAGE)
