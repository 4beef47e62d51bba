"""KSG: scikit-learn, a KD-tree in float64, and what Gaussians are known to have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import KDTree
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_regression

from repjax.measure import ksg_information, ksg_information_2

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 2))
Y = np.stack([X[:, 0] ** 2, X[:, 1], RNG.normal(size=300)], 1) + 0.3 * RNG.normal(size=(300, 3))
first = jax.jit(ksg_information, static_argnames=("neighbours", "rows"))
second = jax.jit(ksg_information_2, static_argnames=("neighbours", "rows"))


def by_tree(x, y, k, variant):
  """Kraskov et al., eq. 8 and 9, by range counts in KD-trees."""
  n = len(x)
  near = KDTree(np.concatenate([x, y], 1)).query(np.concatenate([x, y], 1), k + 1, p=np.inf)
  terms = []
  for z in (x, y):
    tree = KDTree(z)
    if variant == 1:
      radius = np.nextafter(near[0][:, -1], 0)
    else:
      radius = np.abs(z[near[1][:, 1:]] - z[:, None]).max(-1).max(-1) * (1 + 1e-12)
    counts = tree.query_ball_point(z, radius, p=np.inf, return_length=True) - 1
    terms.append(digamma(counts + (variant == 1)))
  return digamma(k) - (variant == 2) / k + digamma(n) - np.mean(terms[0] + terms[1])


def test_both_variants_equal_range_counts_in_kd_trees():
  for variant, estimate in ((1, first), (2, second)):
    wanted = by_tree(X, Y, 3, variant)
    with jax.enable_x64(True):
      value = estimate(X, Y, neighbours=3, rows=64)
    np.testing.assert_allclose(value, wanted, rtol=1e-10)
    # In float32 other pairs may tie, which moves a count by one.
    single = estimate(X.astype(np.float32), Y.astype(np.float32), neighbours=3, rows=64)
    np.testing.assert_allclose(single, wanted, atol=2e-3)


def test_the_first_variant_is_that_of_scikit_learn():
  x, y = X[:, :1], Y[:, 0]
  wanted = mutual_info_regression(x, y, discrete_features=False, n_neighbors=3, random_state=0)[0]
  with jax.enable_x64(True):  # it brings both to one scale first
    value = first(x / x.std(), y[:, None] / y.std(), neighbours=3, rows=64)
  np.testing.assert_allclose(value, wanted, rtol=1e-6)


def test_points_and_sides_may_be_ordered_at_will_and_tiles_too():
  order = RNG.permutation(300)
  with jax.enable_x64(True):
    value = first(X, Y, neighbours=3, rows=64)
    turned = first(X[order], Y[order], neighbours=3, rows=64)
    swapped = first(Y, X, neighbours=3, rows=64)
    # 300 is no multiple of 64, so that the tiles above have a rest; one tile has none.
    whole = first(X, Y, neighbours=3, rows=300)
    again = [second(x, y, neighbours=3, rows=64) for x, y in ((X, Y), (X[order], Y[order]))]
  np.testing.assert_allclose((turned, swapped, whole), np.full(3, value), rtol=1e-12)
  np.testing.assert_allclose(*again, rtol=1e-12)


def test_independent_variables_have_nothing_on_average_and_negative_values_stay():
  draws = RNG.normal(size=(2, 24, 100, 1))
  for estimate in (ksg_information, ksg_information_2):
    values = np.asarray(jax.jit(jax.vmap(lambda x, y: estimate(x, y)))(*jnp.asarray(draws)))
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(24)
    assert values.min() < 0


def test_errors_name_shapes_and_numbers():
  with pytest.raises(ValueError, match=r"\{'x': \(5, 1\), 'y': \(4, 1\)\}"):
    ksg_information(jnp.ones((5, 1)), jnp.ones((4, 1)))
  with pytest.raises(ValueError, match="3 points have no 3 neighbours each; take 1 to 2"):
    ksg_information_2(jnp.ones((3, 1)), jnp.ones((3, 1)))
