"""Relative representations: scikit-learn, scipy, and what each similarity cannot see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax import measure

RNG = np.random.default_rng(0)
X, ANCHORS = RNG.normal(size=(30, 6)) + 1, RNG.normal(size=(5, 6))
TURN = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
LINEAR = RNG.normal(size=(6, 6))
RELATIVE = jax.jit(measure.relative_representation, static_argnames=("similarity", "centre"))
KINDS = (
  measure.angular_similarities,
  measure.basis_coordinates,
  measure.cosine_similarities,
  measure.euclidean_distances,
)


def single(*arrays):
  return [jnp.asarray(x, jnp.float32) for x in arrays]


def test_similarities_are_those_of_scikit_learn_and_scipy():
  from scipy.spatial.distance import cdist
  from sklearn.metrics.pairwise import cosine_similarity

  cosine = cosine_similarity(X, ANCHORS)
  truth = {
    measure.angular_similarities: 1 - np.arccos(cosine) / np.pi,
    measure.basis_coordinates: np.linalg.lstsq(ANCHORS.T, X.T)[0].T,
    measure.cosine_similarities: cosine,
    measure.euclidean_distances: cdist(X, ANCHORS),
  }
  for kind in KINDS:
    found = RELATIVE(*single(X, ANCHORS), similarity=kind)
    np.testing.assert_allclose(found, truth[kind], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(RELATIVE(*single(X, ANCHORS)), cosine, rtol=1e-4, atol=1e-6)
  centred = cosine_similarity(X - ANCHORS.mean(0), ANCHORS - ANCHORS.mean(0))
  found = RELATIVE(*single(X, ANCHORS), centre=True)
  np.testing.assert_allclose(found, centred, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_similarity_sees_a_turn_and_some_see_less(kind):
  value = RELATIVE(*single(X, ANCHORS), similarity=kind)

  def same(x, anchors):
    found = RELATIVE(*single(x, anchors), similarity=kind)
    return np.allclose(found, value, rtol=1e-3, atol=1e-3)

  assert same(X @ TURN, ANCHORS @ TURN)
  angles = kind in (measure.cosine_similarities, measure.angular_similarities)
  assert same(3 * X, 3 * ANCHORS) == (kind != measure.euclidean_distances)
  assert same(3 * X, 0.1 * ANCHORS) == angles
  assert same(X + 2, ANCHORS + 2) == (kind == measure.euclidean_distances)
  # As many anchors as dimensions, so that coordinates are unique.
  full = np.concatenate([ANCHORS, X[:1]])
  value = RELATIVE(*single(X, full), similarity=kind)
  assert same(X @ LINEAR, full @ LINEAR) == (kind == measure.basis_coordinates)


def test_a_centred_representation_sees_no_shift_either():
  value = RELATIVE(*single(X, ANCHORS), centre=True)
  moved = RELATIVE(*single(5 * X @ TURN + 2, 5 * ANCHORS @ TURN + 2), centre=True)
  np.testing.assert_allclose(moved, value, rtol=1e-3, atol=1e-5)


def test_anchors_of_another_width_are_an_error():
  with pytest.raises(ValueError, match=r"of one encoder, got \(30, 6\) and \(5, 4\)"):
    measure.relative_representation(*single(X, ANCHORS[:, :4]))
