"""MCR: its sums in NumPy, and whom the gradient of an exchange reaches."""

import functools

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import logsumexp, softmax

from repjax.encoders import MLP
from repjax.learners import Fusion, mcr
from repjax.learners.mcr import divergence

RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("unoptimized")
BATCH = {
  "first": RNG.normal(size=(16, 5)).astype(np.float32),
  "second": RNG.normal(size=(16, 3)).astype(np.float32),
  "label": RNG.integers(0, 3, 16).astype(np.int32),
}
OFF = {"contrast": 0.0, "bottleneck": 0.0}


@functools.cache
def learner(axis=None, **options):
  return mcr((MLP((4,)), MLP((4,))), Fusion(3), axis_name=axis, hidden=6, **options)


@functools.cache
def start():
  return jax.jit(learner().init)(jax.random.key(0), BATCH)[0]


def by_numpy(params, weight, rivalry, contrast, bottleneck, key):
  """The loss in float64."""
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  layer = lambda x, own: x @ own["kernel"] + own.get("bias", 0)
  z_1 = layer(BATCH["first"], p["encoder_1"]["dense_0"])
  z_2 = layer(BATCH["second"], p["encoder_2"]["dense_0"])
  fuse = lambda a, b: layer(a, p["fusion"]["head_1"]) + layer(b, p["fusion"]["head_2"])
  logits, label = fuse(z_1, z_2), BATCH["label"]
  task = np.mean(logsumexp(logits, axis=1) - logits[np.arange(16), label])
  orders = [np.asarray(jax.random.permutation(k, 16)) for k in jax.random.split(key)]
  far = lambda other: np.mean(
    jensenshannon(softmax(logits, axis=1), softmax(other, axis=1), axis=1) ** 2
  )
  game = (rivalry - 1) * (far(fuse(z_1[orders[0]], z_2)) + far(fuse(z_1, z_2[orders[1]])))
  z, y = np.concatenate([z_1, z_2]), np.tile(label, 2)
  unit = z / np.linalg.norm(z, axis=1, keepdims=True)
  s = unit @ unit.T / 0.5
  s[np.eye(32, dtype=bool)] = -np.inf
  log_p = s - logsumexp(s, axis=1, keepdims=True)
  shared = np.mean([-np.mean([log_p[i, j] for j in range(32) if y[j] == y[i] and j != i])
                    for i in range(32)])  # fmt: skip
  expected = np.maximum(logits @ p["told"]["kernel"], 0) @ p["expected"]["kernel"]
  excess = np.mean((np.concatenate([z_1, z_2], 1) - expected) ** 2)
  return task + weight * game + contrast * shared + bottleneck * excess


def test_the_loss_is_its_sums_in_float64():
  key = jax.random.key(1)
  numbers = {"weight": 0.7, "rivalry": 0.4, "contrast": 0.3, "bottleneck": 0.2}
  value, (_, metrics) = jax.jit(learner(**numbers).loss)(start(), {}, BATCH, key)
  np.testing.assert_allclose(value, by_numpy(start(), **numbers, key=key), rtol=1e-4)
  assert 0 < metrics["exchange_1"] < np.log(2)


def test_features_are_both_latents_and_logits_their_sum_of_heads():
  found = jax.jit(learner().encode)(start(), {}, BATCH)
  p = jax.tree.map(np.asarray, start())
  layer = lambda x, own: x @ own["kernel"] + own.get("bias", 0)
  latents = [
    layer(BATCH[field], p[f"encoder_{i}"]["dense_0"])
    for i, field in enumerate(("first", "second"), 1)
  ]
  np.testing.assert_allclose(found.pooled, np.concatenate(latents, 1), rtol=1e-4, atol=1e-5)
  heads = [layer(z, p["fusion"][f"head_{i}"]) for i, z in enumerate(latents, 1)]
  np.testing.assert_allclose(found.layers[0], sum(heads), rtol=1e-4, atol=1e-5)


def test_a_rival_hears_of_an_exchange_only_if_it_is_one():
  # Where the prediction is let be, an exchange moves the encoder it is of, and by rivalry both.
  def moved(rivalry):
    def game(params):
      options = {"weight": 1.0, "rivalry": rivalry, **OFF}
      with_game = learner(**options).loss(params, {}, BATCH, jax.random.key(1))[0]
      return (
        with_game
        - learner(**{**options, "weight": 0.0}).loss(params, {}, BATCH, jax.random.key(1))[0]
      )

    return jax.jit(jax.grad(game))(start())

  independent, greedy = moved(0.0), moved(1.0)
  for name in ("encoder_1", "encoder_2"):
    assert np.abs(independent[name]["dense_0"]["kernel"]).max() > 1e-5
    difference = greedy[name]["dense_0"]["kernel"] - independent[name]["dense_0"]["kernel"]
    assert np.abs(difference).max() > 1e-5
  # Heads see both signs of either exchange and so no greedy game at all.
  for head in ("head_1", "head_2"):
    np.testing.assert_allclose(greedy["fusion"][head]["kernel"], 0, atol=1e-6)


def test_unlabelled_examples_take_no_part_in_the_task():
  label = np.where(np.arange(16) < 8, BATCH["label"], -1)
  options = {"weight": 0.0, **OFF}
  loss = jax.jit(learner(**options).loss)
  value = loss(start(), {}, {**BATCH, "label": label}, jax.random.key(0))[0]
  half = {name: x[:8] for name, x in BATCH.items()}
  np.testing.assert_allclose(value, loss(start(), {}, half, jax.random.key(0))[0], rtol=1e-5)


def test_the_divergence_is_scipys_and_symmetric():
  a, b = RNG.normal(size=(2, 6, 4)).astype(np.float32) * 3
  wanted = jensenshannon(softmax(a, axis=1), softmax(b, axis=1), axis=1) ** 2
  np.testing.assert_allclose(jax.jit(divergence)(a, b), wanted, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(jax.jit(divergence)(b, a), wanted, rtol=1e-4, atol=1e-6)
  far = jax.jit(divergence)(jnp.array([[100.0, -100]]), jnp.array([[-100.0, 100]]))
  np.testing.assert_allclose(far, np.log(2), rtol=1e-5)


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(learner, layout, batch=lambda: BATCH)
