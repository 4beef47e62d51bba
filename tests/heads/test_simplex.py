"""Simplex classifiers: lengths and angles, whatever the dim; no corner is special."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax import heads


def angles(classes):
  return np.eye(classes) * (1 + 1 / (classes - 1)) - 1 / (classes - 1)


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_corners_have_length_one_and_equal_angles_and_sum_to_zero(classes):
  w = np.asarray(heads.d_simplex(classes), float)
  assert w.shape == (classes, classes - 1)
  np.testing.assert_allclose(
    np.asarray(w, float) @ np.asarray(w, float).T, angles(classes), 0, 2e-6
  )
  np.testing.assert_allclose(np.sum(w, 0), 0, atol=1e-5)


def test_corners_are_those_of_the_published_construction_in_float64():
  dim = 6
  corners = np.vstack([np.eye(dim), np.full((1, dim), (1 - np.sqrt(dim + 1)) / dim)])
  corners -= corners.mean(0)
  np.testing.assert_allclose(heads.d_simplex(7), corners / np.linalg.norm(corners[0]), atol=1e-6)


@pytest.mark.parametrize("dim", [4, 5, 64])
def test_turned_corners_keep_lengths_and_angles_and_turns_differ(dim):
  one, other = (heads.simplex_etf(jax.random.key(i), 5, dim) for i in range(2))
  for w in (one, other):
    np.testing.assert_allclose(np.asarray(w) @ np.asarray(w).T, angles(5), atol=1e-5)
  assert np.max(np.abs(one - other)) > 0.1


def test_a_feature_on_a_corner_has_the_same_logit_for_all_other_classes():
  w = heads.d_simplex(10)
  logits = jax.jit(heads.simplex_logits)(w, 3.0 * w, scale=20.0)
  np.testing.assert_allclose(logits, 20 * angles(10), atol=1e-4)


def test_too_narrow_features_and_single_classes_are_refused():
  with pytest.raises(ValueError, match="dim=4 or more, got dim=3"):
    heads.simplex_etf(jax.random.key(0), 5, 3)
  with pytest.raises(ValueError, match="1 classes"):
    heads.d_simplex(1)
  with pytest.raises(ValueError, match=r"one dim, got \(4, 3\) and \(2, 4\)"):
    heads.simplex_logits(heads.d_simplex(4), jnp.ones((2, 4)))
