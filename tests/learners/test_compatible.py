"""Compatible classifiers: corners that stay, a turn that is one, an old model that never moves."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import optax

from repjax.heads import d_simplex
from repjax.learners import Teacher, by_gradient, compatible

ENCODER = layouts.Tiny()
SMALL = {"image": layouts.BATCH["image"][:2], "label": layouts.BATCH["label"][:2]}


def before():
  state = by_gradient(compatible(ENCODER, 4, layouts.noise), optax.sgd(0.1)).init(
    jax.random.key(7), SMALL
  )
  return Teacher(jax.tree.map(lambda x: 3 * x, state.params), state.extra["rest"])


OLD = before()
GROWN = {"dim": 5, "previous": OLD, "previous_dim": 3, "align": 0.5, "turn": True}


def grown(axis_name):
  return compatible(ENCODER, 3, layouts.noise, axis_name=axis_name, **GROWN)


def forward(params, image):
  pooled = ENCODER.apply({"params": params["encoder"]}, image / np.float32(255)).pooled
  return np.float64(pooled) @ np.float64(params["layer"]["kernel"])


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(grown, layout)


def test_the_loss_is_cross_entropy_to_fixed_corners():
  batch = layouts.BATCH
  made = compatible(ENCODER, 6, lambda key, image: image, scale=2.0)
  params, extra = made.init(jax.random.key(0), batch)
  assert params.keys() == {"encoder", "layer"}  # no corner is a parameter
  value, _ = jax.jit(made.loss)(params, extra, batch, jax.random.key(1))
  rows = np.flatnonzero(batch["label"] >= 0)
  logits = 2 * forward(params, batch["image"]) @ np.float64(d_simplex(6)).T
  log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
  np.testing.assert_allclose(value, -log_p[rows, batch["label"][rows]].mean(), rtol=1e-5)


def test_first_dimensions_are_held_to_the_model_before():
  batch = layouts.BATCH
  made = compatible(ENCODER, 3, lambda key, image: image, **GROWN)
  params, extra = made.init(jax.random.key(0), batch)
  params["turn"] = jnp.asarray(np.random.default_rng(0).normal(size=(5, 5)), jnp.float32)
  value, (_, metrics) = jax.jit(made.loss)(params, extra, batch, jax.random.key(1))
  rows = np.flatnonzero(batch["label"] >= 0)
  turned = np.float64(made.encode(params, extra, batch["image"]).pooled)
  new, old = turned[:, :3], forward(OLD.params, batch["image"])
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  apart = 1 - np.sum(unit(new) * unit(old), 1)
  np.testing.assert_allclose(metrics["apart"], apart[rows].mean(), rtol=1e-4)
  head = params["head"]
  logits = forward(params, batch["image"]) @ np.float64(head["kernel"]) + np.float64(head["bias"])
  log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
  wanted = -log_p[rows, batch["label"][rows]].mean() + 0.5 * apart[rows].mean()
  np.testing.assert_allclose(value, wanted, rtol=1e-4)


def test_the_turn_keeps_lengths_and_angles():
  batch = layouts.BATCH
  made = grown(None)
  params, extra = made.init(jax.random.key(0), batch)
  plain = np.asarray(made.encode(params, extra, batch["image"]).pooled)
  params["turn"] = jax.random.normal(jax.random.key(2), (5, 5))
  turned = np.asarray(made.encode(params, extra, batch["image"]).pooled)
  assert np.abs(turned - plain).max() > 0.1
  np.testing.assert_allclose(turned @ turned.T, plain @ plain.T, atol=1e-5)


def test_the_model_before_never_moves():
  _, states, _ = layouts.steps(grown)
  jax.tree.map(np.testing.assert_array_equal, states[-1].extra["previous"], OLD)
  assert np.abs(states[-1].params["turn"]).max() > 0
