"""Laws and closed forms of the losses of variance, invariance and covariance."""

import numpy as np
import pytest

from repjax.losses import variance as ours

# Every combination of signs: mean 0, variance 1 (a little more without bias) and no covariance.
CUBE = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1).T.astype(np.float32)


def draw(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_vicreg_is_least_at_equal_views_of_variance_one_without_covariance():
  np.testing.assert_allclose(ours.vicreg(CUBE, CUBE), 0, atol=1e-8)


def test_vicreg_of_one_collapsed_point_is_what_deviations_lack():
  z = np.ones((8, 4), np.float32)
  # The root of eps is left of the deviation.
  np.testing.assert_allclose(ours.vicreg(z, z), 25 * (1 - 0.01), rtol=1e-6)


def test_vicreg_of_copied_dimensions_is_the_closed_form():
  z = 2 * np.repeat(CUBE[:, :1], 4, 1)
  covariance = 4 * 16 / 15
  # Two views; each dimension shares its whole variance with three others.
  np.testing.assert_allclose(ours.vicreg(z, z), 2 * 3 * covariance**2, rtol=1e-6)


def test_shift_does_not_matter_to_vicreg():
  z_1, z_2 = draw(2, 9, 4)
  np.testing.assert_allclose(ours.vicreg(z_1 + 5, z_2 + 5), ours.vicreg(z_1, z_2), rtol=1e-4)


def test_views_may_be_swapped():
  z_1, z_2 = draw(2, 9, 4)
  np.testing.assert_allclose(ours.vicreg(z_1, z_2), ours.vicreg(z_2, z_1), rtol=1e-6)


def test_vicregl_of_pooled_views_alone_is_vicreg_with_half_the_covariance():
  z_1, z_2 = draw(2, 9, 4)
  maps, grids = draw(2, 9, 6, 3), draw(2, 9, 6, 2)
  local = ours.vicregl(z_1, z_2, *maps, *grids, alpha=1.0)
  np.testing.assert_allclose(local, ours.vicreg(z_1, z_2, covariance_weight=0.5), rtol=1e-6)


def test_vicregl_finds_the_matches_of_shuffled_tokens():
  z, local, grid = draw(9, 4), draw(9, 6, 3), draw(9, 6, 2)
  order = np.random.default_rng(1).permutation(6)
  options = {"variance_weight": 0.0, "covariance_weight": 0.0}
  loss = ours.vicregl(z, z, local, local[:, order], grid, grid[:, order], **options)
  np.testing.assert_allclose(loss, 0, atol=1e-8)


def test_vicregl_keeps_the_closest_matches():
  z, local = draw(9, 4), draw(9, 6, 3)
  other, grid = local.copy(), np.tile(np.arange(6.0)[None, :, None], (9, 1, 2))
  other[:, 4:] += 50  # both far from all others in the map and, a little, in place
  moved = grid + np.array([0, 0, 0, 0, 0.3, 0.3])[None, :, None]
  weights = {"variance_weight": 0.0, "covariance_weight": 0.0, "alpha": 0.0}
  loss = lambda count: ours.vicregl(
    z, z, local, other, grid, moved, num_matches=(count,), **weights
  )
  np.testing.assert_allclose(loss(4), 0, atol=1e-8)
  assert loss(5) > 1


def test_maps_of_vicregl_may_be_swapped():
  z, maps, grids = draw(2, 9, 4), draw(2, 9, 6, 3), draw(2, 9, 6, 2)
  options = {"num_matches": (3, 1)}
  swapped = ours.vicregl(*z[::-1], *maps[::-1], *grids[::-1], **options)
  np.testing.assert_allclose(ours.vicregl(*z, *maps, *grids, **options), swapped, rtol=1e-5)


def test_sie_without_an_equivariant_error_is_vicreg_of_both_parts():
  x_1, x_2 = draw(2, 9, 4)
  parts = x_1[:, :2], x_2[:, :2], x_1[:, 2:], x_2[:, 2:]
  prediction = 10 * CUBE[:9, :2]  # of deviations above 1
  loss = ours.sie(*parts, prediction, equivariance_weight=0.0, invariance_weight=0.0)
  weights = {"invariance_weight": 0.0, "variance_weight": 10.0}
  np.testing.assert_allclose(loss, ours.vicreg(x_1, x_2, **weights), rtol=1e-5)


def test_sie_punishes_a_prediction_that_does_not_vary():
  z = 2 * CUBE
  parts = z[:, :2], z[:, :2], z[:, 2:], z[:, 2:]
  options = {"equivariance_weight": 0.0}
  constant = ours.sie(*parts, np.ones_like(parts[3]), **options)
  varied = ours.sie(*parts, parts[3], **options)
  np.testing.assert_allclose(constant - varied, 10 / 2 * (1 - 0.01), rtol=1e-5)


def test_mismatched_shapes_are_named():
  with pytest.raises(ValueError, match=r"\(3, 2\).*\(3, 4\)"):
    ours.vicreg(np.ones((3, 2)), np.ones((3, 4)))
  with pytest.raises(ValueError, match=r"\(3, 4\).*\(3, 5\)"):
    ours.sie(*map(np.ones, [(3, 2), (3, 2), (3, 4), (3, 4), (3, 5)]))
  with pytest.raises(ValueError, match="3 and 5 rows"):
    ours.sie(*map(np.ones, [(3, 2), (3, 2), (5, 4), (5, 4), (5, 4)]))
  for wrong in ((3, 5, 4), (2, 6, 4), (3, 6, 3), (3, 6)):
    shapes = [(3, 2), (3, 2), (3, 6, 4), wrong, (3, 6, 2), (3, 6, 2)]
    with pytest.raises(ValueError, match=str(wrong).replace("(", r"\(").replace(")", r"\)")):
      ours.vicregl(*map(np.ones, shapes))
