"""Distances, beside NumPy's, and their gradients where they are 0."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from definitions.triplets import cosine, cubic, euclidean, manhattan, noise_to_signal, squared

from repjax.losses import distances

RNG = np.random.default_rng(0)
ROWS, COLUMNS = RNG.normal(size=(5, 6)), RNG.normal(size=(7, 6))
CUBIC = functools.partial(distances.lp_distance, p=3)
SAME_AS = {
  "cosine": (distances.cosine_distance, cosine),
  "squared": (distances.squared_euclidean, squared),
  "euclidean": (distances.euclidean, euclidean),
  "manhattan": (distances.lp_distance, manhattan),
  "euclidean by coordinates": (functools.partial(distances.lp_distance, p=2), euclidean),
  "cubic": (CUBIC, cubic),
  "noise to signal": (distances.snr_distance, noise_to_signal),
}
EVERY = pytest.mark.parametrize(("ours", "wanted"), SAME_AS.values(), ids=SAME_AS)


@EVERY
def test_a_distance_equals_its_definition(ours, wanted):
  matrix = [[wanted(x, y) for y in COLUMNS] for x in ROWS]
  with jax.enable_x64(True):
    np.testing.assert_allclose(ours(ROWS, COLUMNS), matrix, rtol=1e-12)
  low = ROWS.astype(np.float32), COLUMNS.astype(np.float32)
  np.testing.assert_allclose(ours(*low), matrix, rtol=2e-6)


@EVERY
def test_aligned_distances_are_the_diagonal(ours, wanted):
  del wanted
  ours_aligned = distances.row_aligned(ours, ROWS, COLUMNS[:5])
  np.testing.assert_allclose(ours_aligned, np.diag(ours(ROWS, COLUMNS[:5])), rtol=1e-5)


@EVERY
def test_no_distance_pulls_at_equal_points(ours, wanted):
  del wanted
  rows = ROWS.astype(np.float32)
  total = lambda x, y: jnp.sum(jnp.diagonal(ours(x, y)))
  for grad in jax.grad(total, (0, 1))(rows, rows):
    np.testing.assert_allclose(grad, 0, atol=1e-6)


@EVERY
def test_a_distance_is_finite_at_zero(ours, wanted):
  del wanted
  zero = np.zeros((3, 6), np.float32)
  for rows, columns in ((zero, zero), (zero, COLUMNS), (ROWS, zero)):
    rows, columns = rows.astype(np.float32), columns.astype(np.float32)
    grads = jax.grad(lambda x, y: jnp.sum(ours(x, y)), (0, 1))(rows, columns)
    assert all(np.isfinite(x).all() for x in (ours(rows, columns), *grads))


def test_coordinates_are_taken_one_after_the_other():
  """Neither the distances nor their gradient hold a difference of every pair."""
  shape = jax.ShapeDtypeStruct((256, 64), jnp.float32)
  grad = jax.jit(jax.grad(lambda x, y: jnp.sum(CUBIC(x, y)), (0, 1)))
  temporary = grad.lower(shape, shape).compile().memory_analysis().temp_size_in_bytes
  assert temporary < 4 * 256 * 256 * 64 / 4


def test_no_norm_below_one():
  with pytest.raises(ValueError, match=r"p=0.5 is no norm"):
    distances.lp_distance(ROWS, COLUMNS, p=0.5)
