"""Lifetimes of components: SciPy's minimum spanning tree, and clusters that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.measure import component_lifetimes, topological_separability

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3))
lifetimes, separability = jax.jit(component_lifetimes), jax.jit(topological_separability)


def test_lifetimes_are_the_edges_of_the_minimum_spanning_tree():
  from scipy.sparse.csgraph import minimum_spanning_tree
  from scipy.spatial.distance import pdist, squareform

  wanted = np.sort(minimum_spanning_tree(squareform(pdist(X))).data)
  np.testing.assert_allclose(lifetimes(jnp.asarray(X, jnp.float32)), wanted, rtol=1e-5)


def test_copies_of_a_point_die_at_0_and_order_does_not_matter():
  x = np.concatenate([X[:25], X[:25]])
  found = np.asarray(lifetimes(jnp.asarray(x, jnp.float32)))
  assert np.all(found[:25] == 0) and np.all(found[25:] > 0)
  other = lifetimes(jnp.asarray(x[RNG.permutation(50)], jnp.float32))
  np.testing.assert_allclose(other, found, rtol=1e-5, atol=1e-7)


def test_tight_clusters_are_as_separable_as_their_number_allows():
  directions = np.eye(5, 6)
  points = np.repeat(directions, 10, 0) + 1e-6 * RNG.normal(size=(50, 6))
  # Four long lives of 49, all alike.
  np.testing.assert_allclose(separability(jnp.asarray(points, jnp.float32)), 1 - 4 / 49, atol=1e-4)
  spread = np.repeat(directions, 10, 0) + 0.3 * RNG.normal(size=(50, 6))
  assert separability(jnp.asarray(spread, jnp.float32)) < 1 - 12 / 49


def test_separability_ignores_turn_and_scale():
  turn, _ = np.linalg.qr(RNG.normal(size=(3, 3)))
  found = [separability(jnp.asarray(x, jnp.float32)) for x in (X, 40 * X @ turn)]
  np.testing.assert_allclose(*found, rtol=1e-4)
  with pytest.raises(ValueError, match=r"\(1, 3\) hold no pair"):
    component_lifetimes(jnp.ones((1, 3)))
