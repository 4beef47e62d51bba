"""Pictures of merged patches: means of groups, lines between them, darkness of what was dropped."""

import numpy as np
import pytest

from repjax.evaluate.token_groups import token_groups

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (1, 8, 8, 3)).astype(np.uint8)


def inside(picture, row, column):
  """A patch less its first row and column, where lines are."""
  return picture[0, 4 * row + 1 : 4 * row + 4, 4 * column + 1 : 4 * column + 4]


def test_groups_have_the_mean_of_their_patches_and_dropped_ones_are_dark():
  picture = token_groups(IMAGES, np.array([[0, 1, 0, -1]]), (2, 2))
  mean = np.concatenate([IMAGES[0, :4, :4], IMAGES[0, 4:, :4]]).reshape(-1, 3).mean(0) / 255
  for row in (0, 1):
    np.testing.assert_allclose(inside(picture, row, 0), np.broadcast_to(mean, (3, 3, 3)))
  np.testing.assert_allclose(inside(picture, 0, 1)[0, 0], IMAGES[0, :4, 4:].mean((0, 1)) / 255)
  assert inside(picture, 1, 1).max() < 0.2


def test_lines_are_between_groups_alone():
  picture = token_groups(IMAGES, np.array([[0, 1, 0, 1]]), (2, 2))
  assert not np.allclose(picture[0, :, 4], picture[0, :, 5])
  np.testing.assert_array_equal(picture[0, 4], picture[0, 5])


def test_a_grid_that_does_not_fit_is_refused():
  with pytest.raises(ValueError, match=r"grid 3x2 does not fit 1 images of 8x8 .*\(1, 4\)"):
    token_groups(IMAGES, np.zeros((1, 4), int), (3, 2))
