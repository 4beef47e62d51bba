"""Merging of units: what a network computes, and loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.measure import merge_features

RNG = np.random.default_rng(0)
merge = jax.jit(merge_features)


def by_loops(w, v, threshold, least):
  units = {i: (w[i], v[i], 1) for i in range(len(w))}
  while len(units) > least:
    gap = lambda a, b: (
      np.linalg.norm(units[a][0] - units[b][0])
      / np.sqrt((np.sum(units[a][0] ** 2) + np.sum(units[b][0] ** 2)) / 2)
    )
    a, b = min(((a, b) for a in units for b in units if a < b), key=lambda pair: gap(*pair))
    if gap(a, b) > threshold:
      break
    (w_a, v_a, n_a), (w_b, v_b, n_b) = units[a], units.pop(b)
    units[a] = ((n_a * w_a + n_b * w_b) / (n_a + n_b), v_a + v_b, n_a + n_b)
  return units


@pytest.mark.parametrize(("threshold", "least"), [(0.9, 1), (np.inf, 3)])
def test_merging_equals_loops_in_float64(threshold, least):
  w, v = RNG.normal(size=(12, 4)), RNG.normal(size=(12, 3))
  wanted = by_loops(w, v, threshold, least)
  found = merge(
    jnp.asarray(w, jnp.float32), jnp.asarray(v, jnp.float32), threshold=threshold, least=least
  )
  assert sorted(wanted) == np.flatnonzero(found.sizes).tolist()
  for unit, (incoming, outgoing, size) in wanted.items():
    np.testing.assert_allclose(found.incoming[unit], incoming, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.outgoing[unit], outgoing, rtol=1e-4, atol=1e-5)
    assert found.sizes[unit] == size
  assert 1 < len(wanted) < 12 or least == 3
  np.testing.assert_array_equal(np.isinf(found.distances), np.asarray(found.sizes) > 0)


def test_copies_merge_and_the_network_computes_what_it_did():
  w, v = np.repeat(RNG.normal(size=(4, 4)), 3, 0), RNG.normal(size=(12, 3))
  order = RNG.permutation(12)
  w, v = jnp.asarray(w[order], jnp.float32), jnp.asarray(v, jnp.float32)
  found = merge(w, v, threshold=1e-3)
  np.testing.assert_array_equal(found.sizes[found.sizes > 0], 3)
  x = jnp.asarray(RNG.normal(size=(20, 4)), jnp.float32)
  compute = lambda w, v: np.maximum(x @ w.T, 0) @ v
  np.testing.assert_allclose(compute(*found[:2]), compute(w, v), rtol=1e-4, atol=1e-4)


def test_the_scale_of_all_weights_does_not_matter():
  w, v = (jnp.asarray(RNG.normal(size=(12, d)), jnp.float32) for d in (4, 3))
  one, other = merge(w, v, threshold=0.9), merge(1e-4 * w, v, threshold=0.9)
  np.testing.assert_array_equal(one.sizes, other.sizes)
  assert 1 < np.sum(one.sizes > 0) < 12


def test_rows_of_other_numbers_are_named():
  with pytest.raises(ValueError, match=r"got \(12, 4\), \(11, 3\)"):
    merge_features(jnp.ones((12, 4)), jnp.ones((11, 3)), threshold=0.1)
