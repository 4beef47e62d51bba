"""Ranks, spectra and spread: NumPy in float64, values that are known, and what others get wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax import losses
from repjax.evaluate import Embedded, spectrum
from repjax.measure import (
  alignment,
  alpha_req,
  coding_rate,
  covariance_spectrum,
  effective_rank,
  lidar,
  participation_ratio,
  rank_me,
  uniformity,
)

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


def with_singular_values(values, n=60, dim=9):
  """Centred features whose singular values are given, in drawn directions."""
  rng = np.random.default_rng(1)
  left = rng.normal(size=(n, len(values)))
  left, _ = np.linalg.qr(left - left.mean(0))
  right, _ = np.linalg.qr(rng.normal(size=(dim, len(values))))
  return jnp.asarray(left * np.asarray(values) @ right.T, jnp.float32)


def entropy_rank(shares):
  shares = np.asarray(shares, np.float64)
  return np.exp(-np.sum(shares * np.log(shares)))


def test_ranks_take_singular_values_and_not_their_squares_as_some_libraries_do():
  x = with_singular_values([2.0, 1.0, 1.0])
  wanted, of_squares = entropy_rank([1 / 2, 1 / 4, 1 / 4]), entropy_rank([2 / 3, 1 / 6, 1 / 6])
  assert wanted - of_squares > 0.4
  np.testing.assert_allclose(rank_me(x), wanted, rtol=1e-4)
  np.testing.assert_allclose(effective_rank(x), wanted, rtol=1e-4)
  np.testing.assert_allclose(participation_ratio(x), 36 / 18, rtol=1e-4)


def test_spectrum_is_that_of_the_covariance_and_ends_in_zeros_where_examples_are_few():
  wanted = np.linalg.eigvalsh(np.cov(X.astype(np.float64).T, bias=True))[::-1]
  values = np.asarray(covariance_spectrum(jnp.asarray(X)))
  np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1e-7 * wanted[0])
  few = np.asarray(covariance_spectrum(jnp.asarray(X[:4])))
  assert few.shape == (12,) and np.all(few[4:] == 0) and few[2] > 0
  np.testing.assert_allclose(few[3], 0, atol=1e-10)


def test_measures_of_the_spectrum_ignore_scale_turn_and_order():
  turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(12, 12)))
  other = jnp.asarray(30 * X[::-1] @ turn, jnp.float32)
  for measure in (effective_rank, participation_ratio, lambda x: alpha_req(x, start=2)):
    np.testing.assert_allclose(measure(jnp.asarray(X)), measure(other), rtol=2e-3)


def test_alpha_of_a_power_law_is_its_exponent_and_else_a_weighted_line():
  rank = np.arange(1, 31)
  exact = with_singular_values(rank**-0.65, n=80, dim=40)
  np.testing.assert_allclose(alpha_req(exact, start=3, stop=30), 1.3, rtol=1e-4)
  values = np.linalg.eigvalsh(np.cov(X.astype(np.float64).T, bias=True))[::-1]
  rank = np.arange(2, 10)
  # polyfit squares its weights.
  slope, _ = np.polyfit(np.log(rank), np.log(values[1:9]), 1, w=rank**-0.5)
  np.testing.assert_allclose(alpha_req(jnp.asarray(X), start=2, stop=9), -slope, rtol=1e-3)
  with pytest.raises(ValueError, match=r"\(300, 12\) leave ranks 12 to 12; lower start, now 12"):
    alpha_req(jnp.asarray(X), start=12)


def lidar_in_float64(x, delta):
  dim = x.shape[2]
  means = x.mean(1)
  about = (x - means[:, None]).reshape(-1, dim)
  within = about.T @ about / len(about)
  between = np.cov(means.T, bias=True)
  within = within + delta * np.trace(between + within) / dim * np.eye(dim)
  values = np.linalg.eigvals(np.linalg.solve(within, between)).real
  shares = values / values.sum() + 1e-8
  return np.exp(-np.sum(shares * np.log(np.maximum(shares, 1e-300))))


def test_lidar_equals_its_definition_in_float64_and_is_relative_to_scale():
  rng = np.random.default_rng(4)
  x = rng.normal(size=(40, 1, 6)) * np.geomspace(1, 0.01, 6) + 0.1 * rng.normal(size=(40, 5, 6))
  ours = jax.jit(lidar)
  for delta in (1e-4, 0.1):
    value = ours(jnp.asarray(x, jnp.float32), delta=delta)
    np.testing.assert_allclose(value, lidar_in_float64(x, delta), rtol=1e-4)
  small = ours(jnp.asarray(1e-3 * x + 1, jnp.float32))
  np.testing.assert_allclose(small, ours(jnp.asarray(x, jnp.float32)), rtol=1e-2)


def test_lidar_takes_eigenvalues_of_the_matrix_and_not_of_its_columns_covariance():
  # Objects differ along three axes, by variances of 2, 1 and 1; views by 1 along all eight.
  objects, dim = 16, 8
  rng = np.random.default_rng(5)
  means = rng.normal(size=(objects, 3))
  means, _ = np.linalg.qr(means - means.mean(0))
  means = np.pad(means * np.sqrt(objects * np.array([2.0, 1.0, 1.0])), ((0, 0), (0, dim - 3)))
  aside = np.sqrt(dim) * np.tile(np.eye(dim), (objects // dim, 1))
  x = jnp.asarray(np.stack([means + aside, means - aside], 1), jnp.float32)
  np.testing.assert_allclose(lidar(x, delta=1e-6), entropy_rank([1 / 2, 1 / 4, 1 / 4]), rtol=1e-4)
  # What PCA of the matrix itself gives.
  matrix = np.diag([2.0, 1, 1, 0, 0, 0, 0, 0])
  wrong = np.linalg.eigvalsh(np.cov(matrix, rowvar=False))
  wrong = wrong[wrong > 1e-9] / wrong.sum()
  assert abs(entropy_rank(wrong) - entropy_rank([1 / 2, 1 / 4, 1 / 4])) > 0.2


def test_lidar_leaves_out_directions_that_views_alone_vary_in():
  rng = np.random.default_rng(6)
  objects = np.pad(rng.normal(size=(200, 1, 2)), ((0, 0), (0, 0), (0, 8)))
  views = np.pad(rng.normal(size=(200, 30, 8)), ((0, 0), (0, 0), (2, 0)))
  x = jnp.asarray(objects + views + 0.01 * rng.normal(size=(200, 30, 10)), jnp.float32)
  assert lidar(x) < 2.1 and rank_me(x.reshape(-1, 10)) > 9
  with pytest.raises(ValueError, match=r"two or more each, got \(1, 30, 10\)"):
    lidar(x[:1])


def test_coding_rate_and_alignment_are_those_of_the_losses():
  x = jnp.asarray(X)
  np.testing.assert_allclose(coding_rate(x), losses.coding_rate(x), rtol=1e-4)
  z_1, z_2 = x / jnp.linalg.norm(x, axis=1, keepdims=True), jnp.roll(x, 1, 0)
  z_2 = z_2 / jnp.linalg.norm(z_2, axis=1, keepdims=True)
  cosine = np.sum(np.asarray(z_1, np.float64) * np.asarray(z_2, np.float64), 1)
  np.testing.assert_allclose(alignment(z_1, 5 * z_2), np.mean(2 - 2 * cosine), rtol=1e-5)
  wanted = np.mean(np.sqrt(np.maximum(2 - 2 * cosine, 0)))
  np.testing.assert_allclose(alignment(z_1, z_2, alpha=1), wanted, rtol=1e-4)
  with pytest.raises(ValueError, match="features_1"):
    alignment(z_1, z_2[1:])


def test_measures_of_the_spectrum_stay_in_float64():
  few = jnp.asarray(X[:240]).reshape(40, 6, 12)

  @jax.jit
  def measures(x):
    x = x.reshape(-1, 12)
    return (
      effective_rank(x),
      participation_ratio(x),
      coding_rate(x),
      alpha_req(x, start=2),
      lidar(x.reshape(40, 6, 12)),
    )

  narrow = measures(few)
  with jax.enable_x64(True):
    for wide, value in zip(measures(jnp.asarray(few, jnp.float64)), narrow, strict=True):
      assert wide.dtype == jnp.float64 and value.dtype == jnp.float32
      np.testing.assert_allclose(value, wide, rtol=2e-3)
