"""Canonical correlations: scipy's subspace angles, scikit-learn's CCA, and what they cannot see."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import subspace_angles

from repjax import measure

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 6)) @ RNG.normal(size=(6, 6)) + 2
Y = X[:, :4] @ RNG.normal(size=(4, 4)) + 3 * RNG.normal(size=(120, 4))
AFFINE = RNG.normal(size=(6, 6))
CCA = jax.jit(measure.cca)
MEAN = jax.jit(measure.mean_squared_cca)
SVCCA = jax.jit(measure.svcca, static_argnames="variance")
PWCCA = jax.jit(measure.pwcca)


def single(*arrays):
  return [jnp.asarray(x, jnp.float32) for x in arrays]


def correlations_in_float64(x, y):
  return np.cos(np.sort(subspace_angles(x - x.mean(0), y - y.mean(0))))


def test_correlations_are_cosines_of_scipy_s_subspace_angles():
  truth = correlations_in_float64(X, Y)
  np.testing.assert_allclose(CCA(*single(X, Y)).correlations, truth, rtol=1e-4)
  np.testing.assert_allclose(MEAN(*single(X, Y)), np.mean(truth**2), rtol=1e-4)
  with jax.enable_x64(True):
    found = jax.jit(measure.cca)(X, Y).correlations
    np.testing.assert_allclose(found, truth, rtol=1e-10)


def test_correlations_are_those_of_scikit_learn():
  from sklearn.cross_decomposition import CCA as Rival

  first, second = Rival(4, max_iter=5000, tol=1e-10).fit(X, Y).transform(X, Y)
  truth = [np.corrcoef(first[:, i], second[:, i])[0, 1] for i in range(4)]
  np.testing.assert_allclose(CCA(*single(X, Y)).correlations, truth, rtol=1e-3)


def test_canonical_variates_are_uncorrelated_of_unit_length_and_paired():
  found = CCA(*single(X, Y))
  first = (single(X)[0] - found.mean_1[None]) @ found.weights_1
  second = (single(Y)[0] - found.mean_2[None]) @ found.weights_2
  np.testing.assert_allclose(first.T @ first, np.eye(4), atol=1e-4)
  np.testing.assert_allclose(first.T @ second, np.diag(found.correlations), atol=1e-4)


def test_no_affine_map_of_either_side_changes_cca():
  value = CCA(*single(X, Y)).correlations
  mapped = single(X @ AFFINE - 5, Y * [1, -2, 3, 0.1])
  np.testing.assert_allclose(CCA(*mapped).correlations, value, rtol=1e-3)
  np.testing.assert_allclose(MEAN(*mapped), MEAN(*single(X, Y)), rtol=1e-3)
  np.testing.assert_allclose(CCA(*single(X, X @ AFFINE)).correlations, np.ones(6), rtol=1e-4)
  np.testing.assert_allclose(PWCCA(*single(X, X @ AFFINE)), 1, rtol=1e-4)


def test_directions_beyond_the_rank_do_not_count():
  doubled = np.concatenate([Y[:, :2], Y[:, :2] @ RNG.normal(size=(2, 2))], 1)
  truth = correlations_in_float64(X, Y[:, :2])
  found = CCA(*single(X, doubled)).correlations
  np.testing.assert_allclose(found, [*truth, 0, 0], rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(MEAN(*single(X, doubled)), np.mean(truth**2), rtol=1e-4)
  assert MEAN(jnp.ones((120, 6)), single(Y)[0]) == PWCCA(jnp.ones((120, 6)), single(Y)[0]) == 0


def test_independent_features_have_a_mean_squared_correlation_of_width_over_examples():
  draws = np.random.default_rng(1).normal(size=(100, 2, 60, 6)).astype(np.float32)
  found = jax.jit(jax.vmap(lambda z: measure.mean_squared_cca(z[0], z[1][:, :4])))(draws)
  np.testing.assert_allclose(np.mean(found), 6 / 59, atol=0.012)


def test_a_ridge_is_that_of_regularised_covariances():
  x, y = X - X.mean(0), Y - Y.mean(0)
  root = lambda c: np.linalg.inv(np.linalg.cholesky(c))
  of = lambda z: z.T @ z + 0.1 * np.linalg.eigvalsh(z.T @ z)[-1] * np.eye(z.shape[1])
  product = root(of(x)) @ x.T @ y @ root(of(y)).T
  found = CCA(*single(X, Y), ridge=0.1).correlations
  np.testing.assert_allclose(found, np.linalg.svd(product)[1], rtol=1e-4)


def test_svcca_is_cca_of_the_principal_components_that_scikit_learn_keeps():
  from sklearn.decomposition import PCA

  parts = [PCA(0.9, svd_solver="full").fit_transform(z) for z in (X, Y)]
  assert parts[0].shape[1] < 6
  truth = correlations_in_float64(*parts).mean()
  np.testing.assert_allclose(SVCCA(*single(X, Y), variance=0.9), truth, rtol=1e-4)
  turn = np.linalg.qr(AFFINE)[0]
  np.testing.assert_allclose(SVCCA(*single(3 * X @ turn + 1, Y), variance=0.9), truth, rtol=1e-3)


def test_pwcca_weighs_by_the_first_representation():
  from sklearn.cross_decomposition import CCA as Rival

  first, second = Rival(4, max_iter=5000, tol=1e-10).fit(X, Y).transform(X, Y)
  rho = [np.corrcoef(first[:, i], second[:, i])[0, 1] for i in range(4)]
  h = first / np.linalg.norm(first, axis=0)
  weight = np.abs(h.T @ (X - X.mean(0))).sum(1)
  np.testing.assert_allclose(PWCCA(*single(X, Y)), np.average(rho, weights=weight), rtol=1e-3)


@pytest.mark.parametrize("of", [CCA, MEAN, SVCCA, PWCCA, functools.partial(SVCCA, variance=0.5)])
def test_rows_that_differ_are_an_error(of):
  with pytest.raises(ValueError, match=r"same n examples, got \(120, 6\) and \(119, 4\)"):
    of(*single(X, Y[1:]))
