"""CPC: what is predicted from what, and against which others."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest

from repjax.encoders import GRU, MLP, PatchMLP
from repjax.learners import cpc

ROWS = PatchMLP((1, 8), (4,))
IMAGE = jnp.asarray(layouts.BATCH["image"] / 255, jnp.float32)


class Sums(MLP):
  """A causal state that is cheap to compile: dense layers of sums so far."""

  def __call__(self, tokens, *, train=False):
    return super().__call__(jnp.cumsum(tokens, 1), train=train)


def learner(axis):
  return cpc(ROWS, Sums((5,)), steps=3, axis_name=axis)


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(learner, layout)


def test_each_state_picks_out_the_codes_of_its_future():
  objective = learner(None)
  params, extra = jax.jit(objective.init)(jax.random.key(0), layouts.BATCH)
  value, (_, metrics) = jax.jit(objective.loss)(params, extra, layouts.BATCH, jax.random.key(1))
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  rows = np.asarray(IMAGE, np.float64).reshape(16, 8, 24)
  layer = lambda part, x: x @ part["kernel"] + part["bias"]
  z = layer(p["encoder"]["mlp"]["dense_0"], rows)
  c = layer(p["context"]["dense_0"], np.cumsum(z, 1))
  total = []
  for k in range(1, 4):
    w = p["predictors"]["kernel"][:, 4 * (k - 1) : 4 * k]
    guess, truth = (c[:, :5] @ w).reshape(80, 4), z[:, k : k + 5].reshape(80, 4)
    logits = guess @ truth.T
    total.append(np.log(np.exp(logits).sum(1)) - np.diag(logits))
  np.testing.assert_allclose(value, np.mean(total), rtol=1e-5)
  np.testing.assert_allclose(metrics["information"], np.log(80) - np.mean(total), atol=1e-5)


def test_states_know_nothing_of_what_comes():
  objective = cpc(ROWS, GRU(5), steps=3)
  params, extra = jax.jit(objective.init)(jax.random.key(0), layouts.BATCH)
  encode = jax.jit(lambda image: objective.encode(params, extra, image))
  before, after = encode(IMAGE), encode(IMAGE.at[:, 5:].multiply(0.5))
  np.testing.assert_array_equal(before.tokens[:, :5], after.tokens[:, :5])
  np.testing.assert_array_equal(before.pooled, before.tokens[:, -1])
  assert np.abs(before.tokens[:, 5:] - after.tokens[:, 5:]).min() > 0


def test_sequences_that_are_too_short_are_refused():
  objective = cpc(ROWS, Sums((5,)), steps=8)
  params, extra = objective.init(jax.random.key(0), layouts.BATCH)
  with pytest.raises(ValueError, match="steps=8 ahead of 8 codes"):
    objective.loss(params, extra, layouts.BATCH, jax.random.key(0))
