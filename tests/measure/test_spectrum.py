"""RankMe and uniformity: NumPy in float64, and values that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.evaluate import Embedded, spectrum
from repjax.measure import rank_me, uniformity

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(300, 12)) * np.geomspace(1, 1e-3, 12) + 0.3).astype(np.float32)


def rank_in_float64(x, epsilon=1e-7):
  values = np.linalg.svd(x.astype(np.float64), compute_uv=False)
  shares = values / values.sum() + epsilon
  return np.exp(-np.sum(shares * np.log(shares)))


def uniformity_in_float64(x, t=2.0):
  z = x.astype(np.float64)
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  square = np.sum((z[:, None] - z[None]) ** 2, -1)
  return np.log(np.mean(np.exp(-t * square[~np.eye(len(z), dtype=bool)])))


def test_rank_me_equals_its_definition_in_float64():
  np.testing.assert_allclose(rank_me(jnp.asarray(X)), rank_in_float64(X), rtol=1e-5)
  centred = X.astype(np.float64) - X.mean(0, dtype=np.float64)
  np.testing.assert_allclose(rank_me(jnp.asarray(X), centre=True), rank_in_float64(centred), 1e-4)


def test_rank_me_counts_equal_directions_and_ignores_scale_and_turn():
  turn, _ = np.linalg.qr(RNG.normal(size=(6, 6)))
  x = np.tile(np.diag([1.0, 1, 1, 1, 0, 0]), (10, 1)) @ turn * 7
  np.testing.assert_allclose(rank_me(jnp.asarray(x, jnp.float32)), 4, rtol=1e-4)
  np.testing.assert_allclose(rank_me(jnp.ones((5, 3))), 1, rtol=1e-4)


def test_uniformity_equals_its_definition_in_float64():
  value = jax.jit(lambda x: uniformity(x, rows=64))(jnp.asarray(X))
  np.testing.assert_allclose(value, uniformity_in_float64(X), rtol=1e-4)


def test_uniformity_of_opposite_points_is_that_of_their_distance():
  np.testing.assert_allclose(uniformity(jnp.array([[3.0], [-1.0]])), -8, rtol=1e-6)
  with pytest.raises(ValueError, match=r"\(1, 2\) hold no pair"):
    uniformity(jnp.ones((1, 2)))


def test_the_protocol_measures_train_features_and_no_more_than_it_is_to():
  train = Embedded(X, np.full(len(X), -1, np.int32))
  numbers = spectrum(train, train, key=jax.random.key(0))
  wanted = {"rank_me": rank_in_float64(X), "uniformity": uniformity_in_float64(X)}
  assert numbers.keys() == wanted.keys()
  for name, value in wanted.items():
    np.testing.assert_allclose(numbers[name], value, rtol=1e-4)
  few = spectrum(train, train, key=jax.random.key(0), samples=4)
  assert few["rank_me"] < 4.001
  assert few == spectrum(train, train, key=jax.random.key(0), samples=4)
