"""Procrustes and shape distances, and maps between spaces: scipy and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes, sqrtm

from repjax import measure

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 5)) * [1, 2, 3, 0.5, 1] + 4
Y = np.sin(X) + 0.3 * RNG.normal(size=(50, 5)) - 1
Z = X**2 - 3 * X
TURN = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
DISTANCE = jax.jit(measure.procrustes_distance, static_argnames="normalize")
SHAPE = jax.jit(measure.shape_distance)
ORTHOGONAL = jax.jit(measure.orthogonal_map, static_argnames=("centre", "scale"))
AFFINE = jax.jit(measure.affine_map, static_argnames="centre")


def single(*arrays):
  return [jnp.asarray(x, jnp.float32) for x in arrays]


def centred(*arrays):
  return [x - x.mean(0) for x in arrays]


def shape_in_float64(x, y, alpha):
  def whiten(z):
    inverse = np.linalg.inv(sqrtm(z.T @ z).real)
    return z @ (alpha * np.eye(z.shape[1]) + (1 - alpha) * inverse)

  x, y = (whiten(z) for z in centred(x, y))
  turn, _ = orthogonal_procrustes(y, x)
  return np.arccos(np.sum(x * (y @ turn)) / np.linalg.norm(x) / np.linalg.norm(y))


def test_distance_is_what_scipy_s_procrustes_leaves():
  x, y = centred(X, Y)
  turn, _ = orthogonal_procrustes(y, x)
  truth = np.linalg.norm(x - y @ turn)
  np.testing.assert_allclose(DISTANCE(*single(X, Y), normalize=False), truth, rtol=1e-4)
  x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
  truth = np.linalg.norm(x - y @ orthogonal_procrustes(y, x)[0])
  np.testing.assert_allclose(DISTANCE(*single(X, Y)), truth, rtol=1e-4)
  with jax.enable_x64(True):
    found = jax.jit(measure.procrustes_distance)(X, Y)
    np.testing.assert_allclose(found, truth, rtol=1e-10)


def test_a_narrower_representation_is_as_one_with_columns_of_zero():
  padded = np.concatenate([Y[:, :3], np.zeros((50, 2))], 1)
  value = DISTANCE(*single(X, Y[:, :3]))
  np.testing.assert_allclose(value, DISTANCE(*single(X, padded)), rtol=1e-5)
  np.testing.assert_allclose(value, DISTANCE(*single(Y[:, :3], X)), rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_shape_distance_equals_its_definition_and_obeys_the_triangle(alpha):
  truth = [shape_in_float64(a, b, alpha) for a, b in ((X, Y), (Y, Z), (X, Z))]
  found = [SHAPE(*single(a, b), alpha=alpha) for a, b in ((X, Y), (Y, Z), (X, Z))]
  np.testing.assert_allclose(found, truth, rtol=1e-3)
  assert found[2] <= found[0] + found[1] and found[0] <= found[1] + found[2]
  turned = SHAPE(*single(X @ TURN + 1, Y), alpha=alpha)
  np.testing.assert_allclose(turned, found[0], rtol=1e-3)
  assert SHAPE(*single(X, X @ TURN), alpha=alpha) < 2e-3


def test_shape_distance_ends_at_procrustes_and_at_cca():
  # |X - YQ|^2 = 2 - 2 cos for unit norms; CCA's cosine is the mean correlation.
  angle = SHAPE(*single(X, Y), alpha=1.0)
  np.testing.assert_allclose(2 - 2 * np.cos(angle), DISTANCE(*single(X, Y)) ** 2, rtol=1e-4)
  mean = jnp.mean(jax.jit(measure.cca)(*single(X, Y)).correlations)
  np.testing.assert_allclose(np.cos(SHAPE(*single(X, Y), alpha=0.0)), mean, rtol=1e-4)
  mapped = single(X @ RNG.normal(size=(5, 5)), 2 * Y)
  np.testing.assert_allclose(np.cos(SHAPE(*mapped, alpha=0.0)), mean, rtol=1e-3)


def test_orthogonal_map_is_scipy_s():
  turn, sums = orthogonal_procrustes(*centred(X, Y))
  found = ORTHOGONAL(*single(X, Y))
  np.testing.assert_allclose(found.matrix, turn, atol=1e-4)
  factor = sums / np.linalg.norm(X - X.mean(0)) ** 2
  np.testing.assert_allclose(ORTHOGONAL(*single(X, Y), scale=True).matrix, factor * turn, atol=1e-4)
  apart = ORTHOGONAL(*single(X, Y), centre=False)
  np.testing.assert_allclose(apart.matrix, orthogonal_procrustes(X, Y)[0], atol=1e-4)


def test_a_turn_with_shift_and_scale_is_found_and_undone():
  target = 3 * X @ TURN - 7
  found = measure.orthogonal_map(*single(X[:20], target[:20]), scale=True)
  np.testing.assert_allclose(measure.apply_map(found, single(X)[0]), target, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_affine_map_is_scikit_learn_s_ridge_with_a_penalty_of_the_mean_variance(ridge):
  from sklearn.linear_model import Ridge

  penalty = ridge * np.sum((X - X.mean(0)) ** 2) / 5
  truth = Ridge(max(penalty, 1e-10)).fit(X, Y[:, :3])
  found = AFFINE(*single(X, Y[:, :3]), ridge=ridge)
  np.testing.assert_allclose(found.matrix, truth.coef_.T, atol=1e-4)
  np.testing.assert_allclose(measure.apply_map(found, single(X)[0]), truth.predict(X), atol=1e-3)
  scaled = AFFINE(*single(100 * X, Y[:, :3]), ridge=ridge)
  np.testing.assert_allclose(100 * scaled.matrix, found.matrix, atol=1e-4)


def test_fewer_anchors_than_dimensions_have_the_map_of_least_norm():
  found = AFFINE(*single(X[:3], Y[:3]))
  x, y = centred(X[:3], Y[:3])
  np.testing.assert_allclose(found.matrix, np.linalg.pinv(x) @ y, atol=1e-3)


def test_what_does_not_fit_is_said_in_a_line():
  x, y = single(X, Y)
  for of in (DISTANCE, SHAPE, ORTHOGONAL, AFFINE):
    with pytest.raises(ValueError, match=r"same n examples, got \(50, 5\) and \(49, 5\)"):
      of(x, y[1:])
  with pytest.raises(ValueError, match=r"from 5 dimensions got features \(50, 3\)"):
    measure.apply_map(measure.orthogonal_map(x, y), x[:, :3])
