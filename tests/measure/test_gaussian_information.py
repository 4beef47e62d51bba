"""Gaussian information: determinants in NumPy, its invariance, and its bias taken off."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.measure import covariance_information, gaussian_information

RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(5, 5))
SAMPLE = RNG.normal(size=(200, 5)) @ MIX + 3
X, Y = SAMPLE[:, :2], SAMPLE[:, 2:]
plain = jax.jit(gaussian_information)


def by_determinants(covariance, dim_x):
  log_det = lambda part: np.linalg.slogdet(part)[1]
  parts = covariance[:dim_x, :dim_x], covariance[dim_x:, dim_x:]
  return (sum(map(log_det, parts)) - log_det(covariance)) / 2


def test_the_plain_value_is_that_of_the_determinants():
  wanted = by_determinants(np.cov(SAMPLE.T), 2)
  np.testing.assert_allclose(plain(X.astype(np.float32), Y.astype(np.float32)), wanted, rtol=1e-4)
  with jax.enable_x64(True):
    np.testing.assert_allclose(plain(X, Y), wanted, rtol=1e-10)
    known = jax.jit(covariance_information, static_argnums=1)(np.cov(SAMPLE.T), 2)
    np.testing.assert_allclose(known, wanted, rtol=1e-10)


def test_linear_maps_of_either_side_change_nothing():
  with jax.enable_x64(True):
    moved = plain(X @ RNG.normal(size=(2, 2)) + 5, 1e3 * Y @ RNG.normal(size=(3, 3)))
    np.testing.assert_allclose(moved, plain(X, Y), rtol=1e-9)


def test_one_pair_has_what_its_correlation_says():
  rho = np.corrcoef(X[:, 0], Y[:, 0])[0, 1]
  value = plain(X[:, :1].astype(np.float32), Y[:, :1].astype(np.float32))
  np.testing.assert_allclose(value, -np.log(1 - rho**2) / 2, rtol=1e-4)
  np.testing.assert_allclose(
    covariance_information(jnp.array([[1, 0.75], [0.75, 1]]), 1), 0.4133, atol=5e-5
  )


def test_the_correction_takes_the_bias_off():
  draws = RNG.normal(size=(400, 20, 5)) @ MIX
  truth = by_determinants(MIX.T @ MIX, 2)
  for unbiased in (False, True):
    estimate = lambda z: gaussian_information(z[:, :2], z[:, 2:], unbiased=unbiased)
    values = np.asarray(jax.jit(jax.vmap(estimate))(draws.astype(np.float32)))
    error, noise = values.mean() - truth, values.std() / np.sqrt(len(values))
    assert abs(error) < 4 * noise if unbiased else error > 8 * noise


def test_errors_name_shapes_and_numbers():
  with pytest.raises(ValueError, match=r"\{'x': \(5, 1\), 'y': \(4, 1\)\}"):
    gaussian_information(jnp.ones((5, 1)), jnp.ones((4, 1)))
  with pytest.raises(ValueError, match="4 points are too few for 2 and 2 columns"):
    gaussian_information(jnp.ones((4, 2)), jnp.ones((4, 2)))
  with pytest.raises(ValueError, match=r"more than dim_x=2, got \(2, 2\)"):
    covariance_information(jnp.eye(2), 2)
