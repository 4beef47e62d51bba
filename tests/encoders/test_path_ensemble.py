"""Path ensemble: paths by their definition, a sum that is the ViT, factors and pruning."""

import math
import pathlib
import runpy

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.encoders import PathEnsemble, ViT, vit_paths

ROOT = pathlib.Path(__file__).parents[2]
weights = runpy.run_path(str(ROOT / "tests/oracles/encoders.py"))["weights"]
IMAGE = weights("image", (2, 8, 8, 3))
SCALED = [{"layer_scale": 0.5}] if hasattr(ViT, "layer_scale") else []


def tiny(**options):
  return ViT(**({"patch_size": 4, "dim": 8, "depth": 2, "heads": 2, "pool": "cls"} | options))


def close(x, y, tolerance=1e-5):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), x, y)


@pytest.fixture(scope="module")
def params():
  return drawn.of_module(tiny(), IMAGE)["params"]


@pytest.fixture(scope="module")
def paths(params):
  return np.asarray(jax.jit(lambda p: vit_paths(tiny(), {"params": p}, IMAGE))(params), np.float64)


def normed(layer, x):
  x = x - x.mean(-1, keepdims=True)
  return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * layer["scale"] + layer["bias"]


def branches(block, x):
  """Attention and feed-forward layer of a block of two heads, in NumPy."""
  apply = lambda layer, y: y @ layer["kernel"] + layer["bias"]
  y = normed(block["norm_1"], x)
  parts = (apply(block["attention"][name], y) for name in ("query", "key", "value"))
  query, key, value = (np.split(part, 2, -1) for part in parts)
  seen = []
  for q, k, v in zip(query, key, value, strict=True):
    scores = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1]))
    seen.append(scores / scores.sum(-1, keepdims=True) @ v)
  attention = apply(block["attention"]["out"], np.concatenate(seen, -1))
  y = apply(block["mlp"]["up"], normed(block["norm_2"], x + attention))
  y = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
  return attention, apply(block["mlp"]["down"], y)


def test_paths_equal_their_definition(params, paths):
  wide = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  x, expected = paths[0], [paths[0]]
  for i in range(2):
    added = branches(wide[f"block_{i}"], x)
    expected += added
    x = x + added[0] + added[1]
  close(paths, np.stack(expected))


@pytest.mark.parametrize("options", [{}, {"pool": "attention", "registers": 1}, *SCALED])
def test_the_sum_over_paths_is_the_vit(options):
  module = tiny(**options)
  variables = drawn.of_module(module, IMAGE)
  cascade = jax.jit(module.apply)(variables, IMAGE)
  close(jax.jit(lambda v: vit_paths(module, v, IMAGE).sum(0))(variables), cascade.layers[-1])
  ones = jnp.ones((5, 8))
  ensemble = {"params": {"vit": variables["params"], "ensemble_scale": ones}}
  close(jax.jit(PathEnsemble(module).apply)(ensemble, IMAGE), cascade)


def test_factors_weigh_the_sum_and_leave_what_longer_paths_start_from(params, paths):
  scale = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
  ensemble = {"params": {"vit": params, "ensemble_scale": scale}}
  features = jax.jit(PathEnsemble(tiny()).apply)(ensemble, IMAGE)
  total = (paths * scale[:, None, None]).sum(0)
  close(features.layers, (paths[:3].sum(0), total))
  close(features.pooled, normed(params["norm"], total)[:, 0])


def test_pruned_paths_are_missing_from_the_sum_alone(params, paths):
  module = PathEnsemble(tiny(), pruned=(0, 3), ensemble_scale=False)
  features = jax.jit(module.apply)({"params": {"vit": params}}, IMAGE)
  close(features.layers, (paths[:3].sum(0), paths[[1, 2, 4]].sum(0)))
  assert set(jax.eval_shape(module.init, jax.random.key(0), IMAGE)["params"]) == {"vit"}


def test_gradient_in_bfloat16_is_finite_and_reaches_a_pruned_path_through_longer_ones():
  module = PathEnsemble(tiny(dtype=jnp.bfloat16), pruned=(1,))
  params = drawn.of_module(module, IMAGE)
  loss = lambda params: jnp.sum(module.apply(params, IMAGE).pooled.astype(jnp.float32) ** 3)
  grads = jax.jit(jax.grad(loss))(params)["params"]
  assert all(np.isfinite(x).all() and x.dtype == jnp.float32 for x in jax.tree.leaves(grads))
  assert not grads["ensemble_scale"][1].any() and grads["ensemble_scale"][2].all()
  assert np.abs(grads["vit"]["block_0"]["attention"]["out"]["kernel"]).max() > 0


def test_what_cannot_be_watched_or_does_not_exist_is_an_error():
  init = lambda module: jax.eval_shape(module.init, jax.random.key(0), IMAGE)
  with pytest.raises(ValueError, match=r"pruned path 5 is not one of 0 to 4"):
    init(PathEnsemble(tiny(), pruned=(5,)))
  with pytest.raises(ValueError, match=r"got scan=True and remat=False.*unstack_blocks"):
    init(PathEnsemble(tiny(scan=True)))
