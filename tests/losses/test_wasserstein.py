"""Limits and closed forms of losses with a critic, and errors that name shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.losses import wasserstein
from repjax.losses.contrastive import info_nce

KEY = jax.random.key(0)


def pairs():
  return np.random.default_rng(0).normal(size=(2, 11, 6)).astype(np.float32)


def test_a_product_as_critic_gives_info_nce():
  x, y = pairs()
  ours = wasserstein.wasserstein_predictive(jnp.dot, x, y)
  wanted = info_nce(x, y, temperature=1.0, normalize=False)
  np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6)


def test_a_critic_of_one_argument_finds_no_dependence():
  x, y = pairs()
  ours = wasserstein.wasserstein_dependency(lambda a, b: jnp.sum(b), x, y)
  np.testing.assert_allclose(jnp.mean(ours), 0, atol=1e-6)


def test_a_slope_of_one_costs_nothing_and_a_flat_critic_one():
  x, y = pairs()
  steep = wasserstein.gradient_penalty(lambda a, b: b[0], x, y, y[::-1], KEY)
  flat = wasserstein.gradient_penalty(lambda a, b: 0 * b[0], x, y, y[::-1], KEY)
  np.testing.assert_allclose(steep, 0, atol=1e-6)
  np.testing.assert_allclose(flat, 1)


def test_the_critics_own_parameters_get_a_gradient():
  x, y = pairs()

  def loss(scale):
    critic = lambda a, b: scale * jnp.dot(a, b)
    score = wasserstein.wasserstein_dependency(critic, x, y)
    return jnp.mean(score + wasserstein.gradient_penalty(critic, x, y, y[::-1], KEY))

  slope = (loss(0.51) - loss(0.49)) / 0.02
  np.testing.assert_allclose(jax.grad(loss)(0.5), slope, rtol=1e-3)


def test_mismatched_shapes_are_named():
  x, y = pairs()
  for loss in (wasserstein.wasserstein_dependency, wasserstein.wasserstein_predictive):
    with pytest.raises(ValueError, match=r"\(11, 6\).*\(7, 6\)"):
      loss(jnp.dot, x, y[:7])
  with pytest.raises(ValueError, match=r"\(11, 6\).*\(7, 6\)"):
    wasserstein.gradient_penalty(jnp.dot, x, y, y[:7], KEY)
