"""Subspace alignment: planted factors, scikit-learn's CCA, and CKA one pair at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax import measure

RNG = np.random.default_rng(0)


def drawn(size, noise, rng=RNG, factors=4):
  """Two modalities of shared factors and much of their own."""
  z = rng.normal(size=(size, factors))
  own = [noise * rng.normal(size=(size, width)) for width in (8, 10)]
  return [z @ mix + part @ turn for mix, part, turn in zip(MIXES, own, TURNS, strict=True)]


MIXES = [RNG.normal(size=(4, width)) for width in (8, 10)]
TURNS = [RNG.normal(size=(width, width)) for width in (8, 10)]
X, Y = drawn(300, 0.3)


def single(*arrays):
  return [jnp.asarray(x, jnp.float32) for x in arrays]


def test_projections_are_scikit_learn_s_canonical_variates_up_to_scale_and_sign():
  from sklearn.cross_decomposition import CCA

  rival = CCA(3, max_iter=10000, tol=1e-12).fit(X, Y)
  found = measure.fit_subspace_alignment(*single(X, Y), dim=3)
  pairs = zip(
    (measure.project_source(found, single(X)[0]), measure.project_target(found, single(Y)[0])),
    rival.transform(X, Y),
    strict=True,
  )
  for ours, theirs in pairs:
    correlation = np.corrcoef(np.asarray(ours).T, theirs.T)[:3, 3:]
    np.testing.assert_allclose(np.abs(correlation), np.eye(3), atol=5e-3)


def test_within_the_subspace_the_map_is_least_squares():
  # Canonical variates have the diagonal of their correlations as cross product.
  found = measure.fit_subspace_alignment(*single(X, Y), dim=4)
  truth = np.diag(found.shared.correlations[:4])
  np.testing.assert_allclose(found.within.matrix, truth, atol=1e-3)


def test_without_noise_of_their_own_the_shared_factors_meet_on_new_data():
  rng = np.random.default_rng(1)
  anchors, queries = drawn(60, 0.0, rng), drawn(20, 0.0, rng)
  found = measure.fit_subspace_alignment(*single(*anchors), dim=4)
  first = measure.project_source(found, single(queries[0])[0])
  second = measure.project_target(found, single(queries[1])[0])
  np.testing.assert_allclose(first, second, atol=1e-3)


def test_an_affine_map_of_either_modality_changes_no_projection():
  first = measure.fit_subspace_alignment(*single(X, Y), dim=3)
  second = measure.fit_subspace_alignment(*single(X @ TURNS[0] + 3, Y), dim=3)
  value = measure.project_source(first, single(X)[0])
  moved = measure.project_source(second, single(X @ TURNS[0] + 3)[0])
  # Up to the sign of each direction, which both sides share.
  np.testing.assert_allclose(np.abs(moved), np.abs(value), atol=0.02)


def test_local_cka_gain_is_cka_with_one_pair_more():
  anchors, queries = (X[:50], Y[:50]), (X[50:54], Y[60:63])
  found = jax.jit(measure.local_cka_gain)(*single(*anchors, *queries))

  def cka(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    norm = np.linalg.norm
    return norm(x.T @ y) ** 2 / norm(x.T @ x) / norm(y.T @ y)

  before = cka(*anchors)
  truth = [
    [
      np.log(cka(np.vstack([anchors[0], x]), np.vstack([anchors[1], y])) / before)
      for y in queries[1]
    ]
    for x in queries[0]
  ]
  np.testing.assert_allclose(found, truth, rtol=1e-3, atol=1e-6)


def test_what_does_not_fit_is_said_in_a_line():
  with pytest.raises(ValueError, match="dim=9 is not within widths of 8 and 10"):
    measure.fit_subspace_alignment(*single(X, Y), dim=9)
  with pytest.raises(ValueError, match="anchors of widths 8 and 10, queries of"):
    measure.local_cka_gain(*single(X, Y, Y, X))
