"""Perceivers: attention in float64, a residual net where nobody hears the code, exits that stop."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.encoders import (
  DynPerceiver,
  Perceiver,
  ResNet,
  dyn_perceiver,
  exit_early,
  exit_thresholds,
)
from repjax.encoders.perceiver import Look
from repjax.train.flops import count_flops

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
SETTINGS = {
  "stages": (1, 1), "width": 8, "stem": "cifar", "latents": 8, "latent_depths": (1, 1),
  "heads": (1, 2), "grid": 4,
}  # fmt: skip
NET = DynPerceiver(**SETTINGS, classes=5, exits=(0, 1))


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


def drawn(module, *args):
  """Variables in which no parameter is at a special value such as zero."""
  shapes = jax.eval_shape(module.init, jax.random.key(0), *args)
  draw = lambda x: (RNG.normal(size=x.shape) * 0.3).astype(np.float32)
  variables = jax.tree.map(draw, shapes)
  if "batch_stats" in variables:
    variables["batch_stats"] = jax.tree.map(lambda x: np.abs(x) + 0.5, variables["batch_stats"])
  return variables


@pytest.fixture(scope="module")
def variables():
  return drawn(NET, IMAGE)


@jax.jit
def classify(variables):
  return NET.apply(variables, IMAGE, method="classify")


@pytest.fixture(scope="module")
def said(variables):
  return classify(variables)


def close(x, y, tolerance=1e-4):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), x, y)


@pytest.mark.parametrize("itself", [False, True])
def test_a_look_equals_its_definition_in_float64(itself):
  module = Look(2, 6, mlp_ratio=2, positions=not itself)
  x, context = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 7, 5))
  args = (x,) if itself else (x, context)
  params = drawn(module, *(a.astype(np.float32) for a in args))["params"]
  p = jax.tree.map(lambda v: v.astype(np.float64), params)

  def layer_norm(v, w):
    v = (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-6)
    return v * w["scale"] + w["bias"]

  queries = layer_norm(x, p["norm_1"])
  seen = queries if itself else layer_norm(context, p["norm_context"])
  q, k, v = (
    (a @ p[name]["kernel"]) + (p["positions"] if name == "key" and not itself else 0)
    for name, a in (("query", queries), ("key", seen), ("value", seen))
  )
  heads = []
  for head in (np.s_[..., :3], np.s_[..., 3:]):
    weights = np.exp(q[head] @ k[head].swapaxes(1, 2) / np.sqrt(3))
    heads.append(weights / weights.sum(-1, keepdims=True) @ v[head])
  y = x + np.concatenate(heads, -1) @ p["out"]["kernel"] + p["out"]["bias"]
  h = layer_norm(y, p["norm_2"]) @ p["mlp"]["up"]["kernel"] + p["mlp"]["up"]["bias"]
  erf = np.vectorize(math.erf)
  h = 0.5 * h * (1 + erf(h / np.sqrt(2)))
  wanted = y + h @ p["mlp"]["down"]["kernel"] + p["mlp"]["down"]["bias"]
  close(module.apply({"params": params}, *args), wanted)


def test_where_the_map_does_not_hear_the_code_it_is_a_residual_net(variables):
  params = jax.tree_util.tree_map_with_path(
    lambda path, x: 0 * x if "code_to_map" in path[0].key else x, variables["params"]
  )
  features = jax.jit(NET.apply)(variables | {"params": params}, IMAGE)
  net = ResNet((1, 1), False, width=8, stem="cifar")
  close(jax.jit(net.apply)(variables, IMAGE).layers, features.layers)


def test_an_exit_needs_nothing_of_what_comes_later(variables, said):
  costs = []
  for until in range(1, 5):
    few = lambda v, n=until: NET.apply(v, IMAGE, method="classify", until=n)
    costs.append(count_flops(few, variables))
  assert costs == sorted(costs) and costs[0] < costs[-1] / 3
  spoilt = variables["params"] | {
    name: jax.tree.map(lambda x: x * np.nan, layer)
    for name, layer in variables["params"].items()
    if "stage_1_block" in name
  }
  answers = classify(variables | {"params": spoilt})
  close(answers[:2], said[:2])
  assert np.isnan(answers[2]).all() and np.isnan(answers[3]).all()


def test_later_exits_hear_earlier_ones(variables, said):
  head = variables["params"] | {
    "exit_stage_0": jax.tree.map(np.negative, variables["params"]["exit_stage_0"])
  }
  changed = classify(variables | {"params": head})
  moved = [not np.allclose(a, b) for a, b in zip(said, changed, strict=True)]
  assert moved == [True, True, False, True]  # the map's own classifier hears nobody


def test_examples_leave_at_the_first_exit_that_is_sure_enough():
  logits = RNG.normal(size=(4, 50, 3)).astype(np.float32) * 3
  thresholds = np.array([0.95, 2.0, 0.6], np.float32)
  answer, chosen = jax.jit(exit_early)(logits, thresholds)
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  for row in range(50):
    first = next((k for k in range(3) if p[k, row].max() >= thresholds[k]), 3)
    assert chosen[row] == first
    np.testing.assert_array_equal(answer[row], logits[first, row])
  assert {0, 2, 3} == set(np.asarray(chosen).tolist())


def test_thresholds_let_the_wanted_shares_leave():
  logits = RNG.normal(size=(4, 40, 3)).astype(np.float32) * 3
  for shares in ([0.25, 0.5, 0.0, 0.25], [0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]):
    thresholds = jax.jit(exit_thresholds)(logits, jnp.array(shares))
    _, chosen = exit_early(logits, thresholds)
    np.testing.assert_array_equal(np.bincount(chosen, minlength=4), np.multiply(shares, 40))


def test_rounds_of_a_perceiver_are_the_same_look_and_blocks_again():
  module = Perceiver(latents=4, dim=8, rounds=3, depth=1, heads=2, bands=2)
  variables = drawn(module, IMAGE)
  params = variables["params"]
  assert sorted(params) == ["latents", "look_0", "look_1", "round_0_block_0"]
  table = np.zeros((8, 8, 10))
  for row in range(8):
    for column in range(8):
      y, x = np.pi * (-1 + 2 * row / 7), np.pi * (-1 + 2 * column / 7)
      sines = [f(v * k) for f in (np.sin, np.cos) for v in (y, x) for k in (1, 4)]
      table[row, column] = [y / np.pi, x / np.pi, *sines]
  table = np.broadcast_to(table.astype(np.float32), (2, 8, 8, 10))
  pixels = np.concatenate([IMAGE, table], -1).reshape(2, 64, 13)
  z, layers = np.broadcast_to(params["latents"], (2, 4, 8)), []
  for look in ("look_0", "look_1", "look_1"):
    z = Look(1, 13).apply({"params": params[look]}, z, pixels)
    z = Look(2).apply({"params": params["round_0_block_0"]}, z)
    layers.append(z)
  close(jax.jit(module.apply)(variables, IMAGE).layers, tuple(layers))


def test_a_hook_changes_the_latents_that_a_block_gets():
  module = Perceiver(latents=4, dim=8, rounds=2, depth=1, heads=2, bands=2)
  variables = drawn(module, IMAGE)
  drop = lambda block, z: z[:, :3] if block == 1 else z
  layers = module.apply(variables, IMAGE, tokens_in=drop).layers
  assert [z.shape[1] for z in layers] == [4, 3]
  close(layers[0], module.apply(variables, IMAGE).layers[0])


@pytest.mark.thorough
def test_gradients_in_bfloat16_are_finite():
  net = DynPerceiver(**SETTINGS, classes=5, exits=(1,), dtype=jnp.bfloat16)
  variables = jax.jit(net.init)(jax.random.key(0), IMAGE)

  def loss(params):
    said, _ = net.apply(
      variables | {"params": params}, IMAGE, train=True, method="classify", mutable="batch_stats"
    )
    return sum(jnp.mean(jnp.square(x.astype(jnp.float32))) for x in said)

  grads = jax.jit(jax.grad(loss))(variables["params"])
  assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))


def test_errors_name_what_does_not_fit():
  init = lambda net, image=IMAGE: jax.eval_shape(net.init, jax.random.key(0), image)
  with pytest.raises(ValueError, match=r"'resnet19'.*resnet18_t128"):
    dyn_perceiver("resnet19")
  with pytest.raises(ValueError, match=r"latents=7 .* multiple of 2"):
    init(DynPerceiver(**SETTINGS | {"latents": 7, "exits": ()}))
  with pytest.raises(ValueError, match=r"8x8 cannot be averaged to grid=3"):
    init(DynPerceiver(**SETTINGS | {"grid": 3, "exits": ()}))
  with pytest.raises(ValueError, match=r"until=9 .* 1\.\.4"):
    jax.eval_shape(lambda: NET.init(jax.random.key(0), IMAGE, method="classify", until=9))
