"""Shortcuts and cues: frequencies that are asked for, closed forms, and counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.measure import (
  cue_preference,
  diagonal,
  embed,
  reliance,
  separation,
  shortcut_bias,
  two_features,
)

RHO, ALPHA = jnp.array([0.7, 0.9]), jnp.array([4.0, 0.5])
DRAWN = jax.jit(
  lambda key: two_features(key, size=20000, predictivity=RHO, availability=ALPHA, dim=6)
)(jax.random.key(0))


def test_signs_are_right_as_often_as_predictivity_says():
  right = (np.asarray(DRAWN.latents) > 0) == np.asarray(DRAWN.labels)[:, None]
  np.testing.assert_allclose(right.mean(0), RHO, atol=0.015)  # 4 standard errors
  assert abs(np.mean(DRAWN.labels) - 0.5) < 0.015
  side = 2 * np.asarray(DRAWN.labels)[:, None] - 1
  within = np.asarray(DRAWN.latents) - side * np.asarray(separation(RHO))
  np.testing.assert_allclose(np.cov(within.T), np.eye(2), atol=0.04)


def test_availability_is_the_length_of_a_features_direction():
  columns = np.asarray(embed(jax.random.key(0), jnp.eye(2), availability=ALPHA, dim=6), np.float64)
  np.testing.assert_allclose(columns @ columns.T, np.diag(ALPHA**2), atol=1e-5)
  np.testing.assert_allclose(DRAWN.inputs, DRAWN.latents @ columns, rtol=1e-4, atol=1e-4)
  with pytest.raises(ValueError, match="dim=1 has no room"):
    embed(jax.random.key(0), jnp.eye(2), availability=ALPHA, dim=1)


def test_reliance_is_1_and_minus_1_for_one_feature_alone_and_heeds_conflicts_only():
  first, second = DRAWN.latents.T
  np.testing.assert_allclose(reliance(first, DRAWN.latents), 1)
  np.testing.assert_allclose(reliance(3 * second, DRAWN.latents), -1)
  agree = jnp.array([[1.0, 2.0], [-1.0, -3.0], [2.0, -1.0], [-1.0, 1.0], [1.0, -1.0]])
  np.testing.assert_allclose(reliance(jnp.array([-1.0, 1, 1, 1, 1]), agree), 1 / 3, rtol=1e-6)
  with pytest.raises(ValueError, match=r"got \(5,\) and \(4, 2\)"):
    reliance(jnp.ones(5), agree[1:])


def test_bias_is_0_for_linear_discriminant_analysis_and_positive_for_the_shortcut():
  from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

  x, z = np.asarray(DRAWN.inputs), DRAWN.latents
  best = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=1e-9).fit(x, DRAWN.labels)
  decisions = jnp.asarray(best.decision_function(x), jnp.float32)
  np.testing.assert_allclose(shortcut_bias(decisions, z, predictivity=RHO), 0, atol=0.03)
  bias = shortcut_bias(z[:, 0], z, predictivity=RHO)
  np.testing.assert_allclose(bias, 1 - reliance(jnp.sum(z * separation(RHO)[None], 1), z), 1e-5)
  assert bias > 1


def test_cues_are_told_apart_off_the_diagonal_alone():
  cues = jnp.array([[0, 0, 0], [1, 1, 1], [0, 1, 2], [2, 1, 1], [1, 2, 1]])
  np.testing.assert_array_equal(diagonal(cues), [True, True, False, False, False])
  found = jax.jit(cue_preference)(jnp.array([2, 2, 0, 2, 2]), cues)
  np.testing.assert_allclose(found, [2 / 3, 1 / 3, 0], rtol=1e-6)
  order = jnp.array([2, 0, 1])
  np.testing.assert_allclose(cue_preference(cues[:, 1], cues[:, order])[2], 1)
  with pytest.raises(ValueError, match=r"predictions \(5,\) for cues \(5, 3\), got \(4,\)"):
    cue_preference(jnp.zeros(4, int), cues)
