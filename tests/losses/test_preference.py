"""Laws of preference losses: symmetry, limits, circles, errors that name shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.losses import preference

RNG = np.random.default_rng(0)
V, U = RNG.normal(size=(2, 8, 6)).astype(np.float32)


def test_chances_of_both_orders_add_up_to_1():
  pairs = (preference.general_preference, V, U), (preference.bradley_terry, V[:, 0], U[:, 0])
  for loss, v, u in pairs:
    np.testing.assert_allclose(np.exp(-loss(v, u)) + np.exp(-loss(u, v)), 1, rtol=1e-5)


def test_rewards_beside_a_constant_are_compared_as_by_bradley_terry():
  with_one = lambda r: np.stack([r, np.ones_like(r)], 1)
  ours = preference.general_preference(with_one(V[:, 0]), with_one(U[:, 0]), temperature=1.0)
  np.testing.assert_allclose(ours, preference.bradley_terry(V[:, 0], U[:, 0]), rtol=1e-5)


def test_turning_both_answers_changes_nothing():
  turn = np.array([[0.6, -0.8], [0.8, 0.6]])
  turned = [(x.reshape(8, 3, 2) @ turn).reshape(8, 6) for x in (V, U)]
  ours = preference.general_preference(*turned, temperature=1.0)
  np.testing.assert_allclose(ours, preference.general_preference(V, U, temperature=1.0), rtol=1e-4)


def test_a_circle_of_preferences_can_be_learned_as_embeddings_alone():
  """Rock, scissors, paper: rewards can do no better than to guess."""
  winners, losers = np.array([0, 1, 2]), np.array([1, 2, 0])

  def descend(loss, x):
    step = jax.jit(lambda x: x - 0.1 * jax.grad(lambda x: jnp.mean(loss(x[winners], x[losers])))(x))
    for _ in range(200):
      x = step(x)
    return loss(x[winners], x[losers])

  start = RNG.normal(size=(3, 2)).astype(np.float32)
  assert (descend(preference.general_preference, start) < 0.1).all()
  by_rewards = descend(preference.bradley_terry, start[:, 0])
  np.testing.assert_allclose(np.mean(by_rewards), np.log(2), rtol=1e-3)


def test_a_margin_is_a_head_start_of_the_worse_answer():
  margin = RNG.uniform(size=8).astype(np.float32)
  ours = preference.bradley_terry(V[:, 0], U[:, 0], margin=margin)
  np.testing.assert_allclose(ours, preference.bradley_terry(V[:, 0], U[:, 0] + margin), rtol=1e-5)


def test_mismatched_answers_are_named():
  with pytest.raises(ValueError, match=r"\(8,\).*\(4,\)"):
    preference.bradley_terry(V[:, 0], U[:4, 0])
  with pytest.raises(ValueError, match=r"\(8, 6\).*\(8, 4\)"):
    preference.general_preference(V, U[:, :4])
  with pytest.raises(ValueError, match="odd number: 5"):
    preference.general_preference(V[:, :5], U[:, :5])
