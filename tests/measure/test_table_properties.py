"""Properties of tables: NumPy and SciPy in float64, and tables whose answer is planted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.measure import (
  containment,
  dependency_spread,
  join_correlation,
  mean_cosine,
  order_sensitivity,
  rank_correlation,
)

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 30, 5)) + 1


def test_sensitivity_is_the_multivariate_coefficient_of_variation_of_each_item():
  x = RNG.normal(size=(20, 3, 5)) + 2
  wanted = []
  for item in range(3):
    mean, cov = x[:, item].mean(0), np.cov(x[:, item].T)
    wanted.append(np.sqrt(mean @ cov @ mean / (mean @ mean) ** 2))
  found = jax.jit(order_sensitivity)
  np.testing.assert_allclose(found(jnp.asarray(x, jnp.float32)), wanted, rtol=1e-4)
  np.testing.assert_allclose(found(jnp.asarray(50 * x, jnp.float32)), wanted, rtol=1e-4)
  same = jnp.asarray(np.repeat(x[:1], 20, 0), jnp.float32)
  np.testing.assert_allclose(found(same), 0, atol=1e-6)
  with pytest.raises(ValueError, match=r"two permutations or more, got \(1, 3, 5\)"):
    order_sensitivity(same[:1])


def test_cosines_and_joins_equal_scipy():
  from scipy.spatial.distance import cosine
  from scipy.stats import spearmanr

  each = np.array([1 - cosine(x, y) for x, y in zip(X, Y, strict=True)])
  x, y = jnp.asarray(X, jnp.float32), jnp.asarray(1e-6 * Y, jnp.float32)
  np.testing.assert_allclose(mean_cosine(x, y), each.mean(), rtol=1e-5)
  overlap = np.round(RNG.random(30), 1)  # with ties
  found = jax.jit(join_correlation)(x, y, jnp.asarray(overlap, jnp.float32))
  np.testing.assert_allclose(found, spearmanr(each, overlap).statistic, rtol=1e-4)
  ties = np.array([3, 1, 1, 2, 2, 2, 5])
  wanted = spearmanr(ties, ties[::-1]).statistic
  np.testing.assert_allclose(rank_correlation(jnp.array(ties), jnp.array(ties[::-1])), wanted, 1e-5)


def test_containment_is_the_share_of_the_querys_values():
  a = jnp.array([[True, True, False, False], [False] * 4])
  b = jnp.array([[True, False, True, True], [True] * 4])
  np.testing.assert_allclose(containment(a, b), [0.5, 0])
  np.testing.assert_allclose(containment(b, a), [1 / 3, 0], rtol=1e-6)


def test_a_planted_dependency_has_translations_of_one_length_and_a_random_pair_has_not():
  groups = np.repeat(np.arange(5), 6).astype(np.int32)
  noise = RNG.normal(size=(30, 5))
  planted = X + RNG.normal(size=(5, 5))[groups] + 1e-3 * noise
  spread = jax.jit(lambda y, g: dependency_spread(jnp.asarray(X, jnp.float32), y, g, count=6))
  known = spread(jnp.asarray(planted, jnp.float32), groups)
  random = spread(jnp.asarray(Y, jnp.float32), groups)
  assert known < 1e-4 < random
  length = np.linalg.norm(Y - X, axis=1).reshape(5, 6)
  np.testing.assert_allclose(random, length.var(1).mean(), rtol=1e-4)
  hidden = np.where(np.arange(30) < 6, -1, groups)
  found = spread(jnp.asarray(Y, jnp.float32), hidden)
  np.testing.assert_allclose(found, length[1:].var(1).mean(), rtol=1e-4)
