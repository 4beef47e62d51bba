"""Laws and closed forms of coding rates."""

import jax
import numpy as np
import pytest

from repjax.losses.coding_rates import coding_rate, coding_rate_reduction, mlc


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Twelve vectors, evenly along two orthogonal axes of each of three planes.
PLANES = np.tile(np.eye(6, dtype=np.float32), (2, 1))
OWN_PLANE = np.eye(3, dtype=np.float32)[np.tile([0, 0, 1, 1, 2, 2], 2)]


def test_rate_of_an_isotropic_batch_is_the_closed_form():
  # Z^T Z is n / d times the identity.
  np.testing.assert_allclose(coding_rate(PLANES), 6 / 2 * np.log1p(1 / 0.5**2), rtol=1e-6)


def test_rate_of_one_point_is_the_closed_form():
  z = np.repeat(normal(1, 6), 12, 0)
  np.testing.assert_allclose(coding_rate(z), np.log1p(6 / 0.5**2) / 2, rtol=1e-6)


def test_no_batch_has_a_higher_rate_than_an_isotropic_one():
  assert all(coding_rate(normal(12, 6, seed=seed)) < coding_rate(PLANES) for seed in range(5))


@pytest.mark.parametrize("loss", [coding_rate, lambda z: coding_rate_reduction(z, OWN_PLANE)])
def test_lengths_and_rotations_do_not_matter(loss):
  z, length = normal(12, 6), np.exp(normal(12, 1, seed=1))
  rotation = np.linalg.qr(normal(6, 6, seed=2))[0]
  np.testing.assert_allclose(loss(length * z @ rotation), loss(z), rtol=1e-4)


def test_reduction_by_orthogonal_planes_is_the_closed_form():
  # Each plane's Gram matrix is 2 on its two axes, of 4 vectors.
  within = 3 * 4 / 12 * np.log1p(6 / (4 * 0.25) * 2)
  wanted = 3 * np.log1p(4) - within
  np.testing.assert_allclose(coding_rate_reduction(PLANES, OWN_PLANE), wanted, rtol=1e-5)


@pytest.mark.parametrize("membership", [np.ones((12, 1)), np.full((12, 4), 0.25)])
def test_clusters_that_do_not_differ_reduce_nothing(membership):
  ours = coding_rate_reduction(normal(12, 6), membership.astype(np.float32))
  np.testing.assert_allclose(ours, 0, atol=2e-6)


def test_empty_clusters_do_not_matter():
  z, padded = normal(12, 6), np.pad(OWN_PLANE, ((0, 0), (1, 2)))
  ours, grads = jax.value_and_grad(coding_rate_reduction, (0, 1))(z, padded)
  np.testing.assert_allclose(ours, coding_rate_reduction(z, OWN_PLANE), rtol=1e-5)
  assert all(np.isfinite(g).all() for g in grads)


def test_wrong_clusters_reduce_less():
  shuffled = OWN_PLANE[np.random.default_rng(0).permutation(12)]
  assert coding_rate_reduction(PLANES, shuffled) < coding_rate_reduction(PLANES, OWN_PLANE)


def test_mlc_of_sharp_heads_is_the_reduction_by_their_clusters():
  """Rows of the membership are then uniform over a cluster, and clusters are counted once each."""
  ours = mlc(PLANES, OWN_PLANE, entropy_weight=0.02)
  np.testing.assert_allclose(ours, -coding_rate_reduction(PLANES, OWN_PLANE), rtol=1e-5)


def test_mlc_of_a_blunt_head_gains_nothing():
  ours = mlc(PLANES, np.ones((12, 3), np.float32))
  np.testing.assert_allclose(ours, 0, atol=1e-5)


@pytest.mark.parametrize(
  ("loss", "shapes", "message"),
  [
    (coding_rate, [(12,)], r"\[batch, dim\], got shape \(12,\)"),
    (coding_rate_reduction, [(12, 6), (11, 3)], r"\(12, 6\).*\(11, 3\)"),
    (mlc, [(12, 6), (11, 6)], r"\(12, 6\).*\(11, 6\)"),
  ],
)
def test_mismatched_arrays_name_their_shapes(loss, shapes, message):
  with pytest.raises(ValueError, match=message):
    loss(*map(np.ones, shapes))
