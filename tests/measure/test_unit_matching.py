"""Convergent learning: NumPy, scikit-learn's lasso, brute force and planted groups."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax import measure

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6)) * [1, 10, 0.1, 2, 3, 1] + [0, 5, 1, -2, 0, 9]
ORDER = np.array([3, 0, 5, 1, 4, 2])
Y = X[:, ORDER] * [2, 0.5, 1, 7, 1, 3] + 0.3 * RNG.normal(size=(200, 6)) * X.std(0)[ORDER]
CORRELATION = jax.jit(measure.unit_correlation)
SPARSE = jax.jit(measure.sparse_map, static_argnames="steps")


def single(*arrays):
  return [jnp.asarray(x, jnp.float32) for x in arrays]


def test_correlation_is_numpy_s_and_0_for_a_unit_that_never_changes():
  truth = np.corrcoef(X.T, Y.T)[:6, 6:]
  np.testing.assert_allclose(CORRELATION(*single(X, Y)), truth, atol=1e-5)
  dead = X.copy()
  dead[:, 2] = 7
  found = CORRELATION(*single(dead, Y))
  np.testing.assert_array_equal(found[2], np.zeros(6))
  np.testing.assert_allclose(found[3], truth[3], atol=1e-5)
  scaled = CORRELATION(*single(100 * X - 3, Y))
  np.testing.assert_allclose(scaled, truth, atol=1e-5)


def test_one_to_one_undoes_a_permutation():
  partner, value = measure.one_to_one(CORRELATION(*single(X, Y)))
  np.testing.assert_array_equal(ORDER[partner], np.arange(6))
  assert value.min() > 0.9


def test_one_to_one_is_the_best_of_all_assignments_and_leaves_the_rest_out():
  for shape in ((4, 6), (6, 4)):
    correlation = np.random.default_rng(1).uniform(-1, 1, shape)
    partner, value = measure.one_to_one(correlation)
    small, large = (correlation, 6) if shape[0] == 4 else (correlation.T, 6)
    orders = itertools.permutations(range(large), 4)
    best = max(small[range(4), order].sum() for order in orders)
    np.testing.assert_allclose(np.nansum(value), best, rtol=1e-5)
    chosen = partner[partner >= 0]
    assert len(set(chosen)) == len(chosen) == 4 and np.isnan(value[partner < 0]).all()


def test_semi_matching_may_share_a_partner_and_is_never_worse():
  correlation = np.array([[0.9, 0.8], [0.8, 0.1]], np.float32)
  partner, value = measure.semi_matching(correlation)
  np.testing.assert_array_equal(partner, [0, 0])
  np.testing.assert_allclose(value, [0.9, 0.8])
  assert (measure.one_to_one(correlation)[1] <= value + 1e-7).all()


@pytest.mark.parametrize("penalty", [0.02, 0.3])
def test_sparse_map_is_scikit_learn_s_lasso_of_standardised_units(penalty):
  from sklearn.linear_model import Lasso

  mixed = X @ RNG.normal(size=(6, 4)) + RNG.normal(size=(200, 4))
  standard = lambda z: (z - z.mean(0)) / z.std(0)
  truth = Lasso(penalty, tol=1e-8, max_iter=100000).fit(standard(X), standard(mixed)).coef_.T
  found = SPARSE(*single(X, mixed), penalty=penalty)
  weights = found.matrix * X.std(0)[:, None] / mixed.std(0)[None]
  np.testing.assert_allclose(weights, truth, atol=1e-4)
  np.testing.assert_array_equal(weights == 0, truth == 0)
  predicted = standard(X) @ truth * mixed.std(0) + mixed.mean(0)
  np.testing.assert_allclose(
    measure.apply_map(found, single(X)[0]), predicted, rtol=1e-3, atol=1e-2
  )


def test_sparse_map_has_no_weights_from_the_largest_correlation_on_and_all_at_none():
  top = float(jnp.max(jnp.abs(CORRELATION(*single(X, Y)))))
  assert not SPARSE(*single(X, Y), penalty=top + 1e-5).matrix.any()
  assert SPARSE(*single(X, Y), penalty=top - 1e-2).matrix.any()
  dense = measure.affine_map(*single(X, Y)).matrix
  np.testing.assert_allclose(SPARSE(*single(X, Y), penalty=0.0).matrix, dense, atol=1e-3)


def test_clusters_are_planted_groups_of_both_nets():
  from sklearn.metrics import adjusted_rand_score

  factors = RNG.normal(size=(300, 3))
  group_1, group_2 = np.array([0, 0, 1, 1, 2]), np.array([2, 1, 0, 1, 2, 2])
  noisy = lambda group: (
    factors[:, group] * RNG.choice([-1, 1], len(group)) + 0.5 * RNG.normal(size=(300, len(group)))
  )
  found = measure.unit_clusters(noisy(group_1), noisy(group_2), clusters=3)
  truth = np.concatenate([group_1, group_2])
  assert adjusted_rand_score(truth, np.concatenate(found)) == 1
  assert [len(part) for part in found] == [5, 6]


def test_rows_that_differ_are_an_error():
  for of in (CORRELATION, lambda x, y: measure.sparse_map(x, y, penalty=0.1)):
    with pytest.raises(ValueError, match=r"same n examples, got \(200, 6\) and \(199, 6\)"):
      of(*single(X, Y[1:]))
