"""Neural collapse: NumPy in float64, frames that are known, and the minimum of the model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.measure import (
  class_means,
  frame_deviation,
  nearest_mean_disagreement,
  self_duality,
  unconstrained_norms,
  within_class_variability,
)

RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(4), [30, 20, 10, 5]).astype(np.int32)
MEANS = RNG.normal(size=(4, 7))
X = MEANS[LABELS] + 0.3 * RNG.normal(size=(65, 7))
variability = jax.jit(within_class_variability, static_argnames=("classes", "by_example"))
frame = jax.jit(frame_deviation, static_argnames="centre")


def variability_in_float64(x, labels, by_example):
  classes = np.unique(labels)
  rows = [x[labels == c] for c in classes]
  means = np.stack([r.mean(0) for r in rows])
  weight = np.array([len(r) if by_example else 1 for r in rows], float)
  weight /= weight.sum()
  centre = weight @ means
  within = sum(w * np.cov(r.T, bias=True) for w, r in zip(weight, rows, strict=True))
  between = sum(w * np.outer(m - centre, m - centre) for w, m in zip(weight, means, strict=True))
  return np.trace(within @ np.linalg.pinv(between, rcond=1e-9)) / len(classes)


def simplex(classes, dim):
  turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(dim, dim)))
  frame = np.eye(classes) - 1 / classes
  return np.pad(frame, ((0, 0), (0, dim - classes))) @ turn


@pytest.mark.parametrize("by_example", [False, True])
def test_variability_equals_its_definition_in_float64(by_example):
  value = variability(jnp.asarray(X, jnp.float32), LABELS, classes=4, by_example=by_example)
  np.testing.assert_allclose(value, variability_in_float64(X, LABELS, by_example), rtol=1e-4)


def test_both_conventions_are_one_for_balanced_classes():
  labels = np.tile(np.arange(5, dtype=np.int32), 13)
  values = [
    variability(jnp.asarray(X, jnp.float32), labels, classes=5, by_example=by_example)
    for by_example in (False, True)
  ]
  np.testing.assert_allclose(*values, rtol=1e-5)


def test_unlabelled_rows_and_classes_without_rows_take_no_part():
  x = jnp.asarray(X, jnp.float32)
  hidden = np.where(LABELS == 3, -1, LABELS)
  value = variability(x, hidden, classes=6)
  kept = LABELS < 3
  np.testing.assert_allclose(value, variability_in_float64(X[kept], LABELS[kept], False), rtol=1e-4)
  means, counts = class_means(x, hidden, classes=6)
  np.testing.assert_array_equal(counts, [30, 20, 10, 0, 0, 0])
  np.testing.assert_array_equal(means[3:], 0)
  np.testing.assert_allclose(means[1], X[LABELS == 1].mean(0), rtol=1e-5)


def test_variability_ignores_turn_scale_and_offset_and_is_0_when_collapsed():
  turn, _ = np.linalg.qr(RNG.normal(size=(7, 7)))
  other = jnp.asarray(50 * X @ turn + 3, jnp.float32)
  value = lambda x: variability(x, LABELS, classes=4)
  np.testing.assert_allclose(value(other), value(jnp.asarray(X, jnp.float32)), rtol=1e-3)
  np.testing.assert_allclose(value(jnp.asarray(MEANS[LABELS], jnp.float32)), 0, atol=1e-9)
  assert np.isnan(value(jnp.ones((65, 7))))


def test_a_simplex_deviates_in_nothing_and_an_orthogonal_frame_by_its_own_angle():
  for value in frame(jnp.asarray(9 * simplex(5, 8) + 2, jnp.float32)):
    np.testing.assert_allclose(value, 0, atol=2e-5)
  orthogonal = jnp.asarray(np.eye(5, 8), jnp.float32)
  for value in frame(orthogonal, centre=False, cosine=0.0):
    np.testing.assert_allclose(value, 0, atol=1e-6)
  # Not centred, each pair is 1 / (C - 1) from where a simplex has it.
  np.testing.assert_allclose(frame(orthogonal, centre=False).angle_offset, 0.25, 1e-5)


def test_frame_equals_its_definition_in_float64_over_the_classes_that_take_part():
  where = np.array([True, False, True, True])
  kept = MEANS[where] - MEANS[where].mean(0)
  norms = np.linalg.norm(kept, axis=1)
  cosines = (kept @ kept.T / np.outer(norms, norms))[~np.eye(3, dtype=bool)]
  wanted = norms.std() / norms.mean(), cosines.std(), np.mean(np.abs(cosines + 1 / 2))
  found = frame(jnp.asarray(MEANS, jnp.float32), where=jnp.asarray(where))
  np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_self_duality_is_0_for_multiples_4_for_opposites_and_else_as_defined():
  means = jnp.asarray(MEANS, jnp.float32)
  centred = (MEANS - MEANS.mean(0)).T
  np.testing.assert_allclose(self_duality(jnp.asarray(7 * centred), means), 0, atol=1e-6)
  np.testing.assert_allclose(self_duality(jnp.asarray(-centred), means), 4, rtol=1e-5)
  kernel = RNG.normal(size=(7, 4))
  unit = lambda x: x / np.linalg.norm(x)
  wanted = np.sum((unit(kernel) - unit(centred)) ** 2)
  np.testing.assert_allclose(self_duality(jnp.asarray(kernel), means), wanted, rtol=1e-5)
  with pytest.raises(ValueError, match=r"got \(4, 7\) and \(4, 7\)"):
    self_duality(means, means)


def test_disagreement_with_the_nearest_mean_counts_examples():
  x, means = jnp.asarray(X, jnp.float32), jnp.asarray(MEANS, jnp.float32)
  distance = ((X[:, None] - MEANS[None]) ** 2).sum(-1)
  logits = RNG.normal(size=(65, 4))
  wanted = np.mean(distance.argmin(1) != logits.argmax(1))
  np.testing.assert_allclose(nearest_mean_disagreement(x, jnp.asarray(logits), means), wanted, 1e-6)
  assert nearest_mean_disagreement(x, -jnp.asarray(distance), means) == 0
  where = np.array([True, True, False, False])
  wanted = np.mean(distance[:, :2].argmin(1) != logits[:, :2].argmax(1))
  found = nearest_mean_disagreement(x, jnp.asarray(logits), means, where=where)
  np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_norms_are_those_of_the_minimum_and_a_class_below_the_threshold_is_lost():
  from scipy.optimize import minimize

  counts, kernel, features = np.array([40, 12, 5, 1]), 0.03, 0.02
  total = counts.sum()  # lost are classes of 58**2 * 0.0006 = 2.02 examples or fewer

  def objective(v):
    w, h = v[:16].reshape(4, 4), v[16:].reshape(4, 4)
    product = w @ h
    error = np.sum(counts * np.sum((product - np.eye(4)) ** 2, 0)) / (2 * total)
    gap = counts * (product - np.eye(4)) / total
    slope = np.concatenate([gap @ h.T + kernel * w, w.T @ gap + features * counts * h], None)
    loss = error + kernel / 2 * np.sum(w * w) + features / 2 * np.sum(counts * np.sum(h * h, 0))
    return loss, slope

  start = np.random.default_rng(2).normal(size=32)
  best = minimize(objective, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-10, "ftol": 0})
  w, h = best.x[:16].reshape(4, 4), best.x[16:].reshape(4, 4)
  rows, columns = unconstrained_norms(
    jnp.asarray(counts, jnp.float32), penalty_kernel=kernel, penalty_features=features
  )
  np.testing.assert_allclose(rows, np.linalg.norm(w, axis=1), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(columns, np.linalg.norm(h, axis=0), rtol=1e-4, atol=1e-5)
  assert rows[3] == 0 == columns[3] and rows[2] > 0
  np.testing.assert_allclose((h.T @ h)[~np.eye(4, dtype=bool)], 0, atol=1e-6)


def test_shapes_that_do_not_fit_are_named():
  with pytest.raises(ValueError, match=r"features \[batch, dim\] and labels .* \(65, 7\) and"):
    within_class_variability(jnp.asarray(X), LABELS[1:], classes=4)
  with pytest.raises(ValueError, match=r"two classes or more, got \(1, 7\)"):
    frame_deviation(jnp.ones((1, 7)))
  with pytest.raises(ValueError, match=r"counts \[classes\], got \(2, 2\)"):
    unconstrained_norms(jnp.ones((2, 2)), penalty_kernel=1.0, penalty_features=1.0)
