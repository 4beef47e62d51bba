"""Placements: what is brought from one view lies where the other view shows it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from repjax import augment

# Each pixel holds where its centre lies, so that views can be asked where they are.
ROW, COLUMN = np.meshgrid(
  (np.arange(24) + 0.5) / 12 - 1, (np.arange(32) + 0.5) / 16 - 1, indexing="ij"
)
PLACES = jnp.asarray(np.stack([ROW, COLUMN, np.ones_like(ROW)], -1), jnp.float32)
KEYS = jax.random.split(jax.random.key(0), 40)

CROP = partial(augment.place_crop, size=12, area=(0.3, 0.8))
AFFINE = partial(
  augment.place_affine, degrees=20, scale=(0.8, 1.2), shear=15, translate=0.2, fill=0.0
)


@pytest.mark.parametrize("place", [CROP, AFFINE], ids=["crop", "affine"])
def test_a_view_shows_what_lies_where_its_placement_says(place):
  view, placement = jax.jit(jax.vmap(place, (0, None)))(KEYS, PLACES)
  height, width = view.shape[1:3]
  row, column = np.meshgrid(
    (np.arange(height) + 0.5) * 2 / height - 1,
    (np.arange(width) + 0.5) * 2 / width - 1,
    indexing="ij",
  )
  said = np.einsum("bij,hwj->bhwi", placement, np.stack([row, column, np.ones_like(row)], -1))
  inside = (np.abs(said).max(-1) < 0.9) & (np.asarray(view[..., 2]) > 0.999)
  assert inside.mean() > 0.3
  np.testing.assert_allclose(
    view[..., :2][inside], said[inside], atol=0.015
  )  # pixels are 0.06 wide


def test_crops_are_mirrored_as_often_as_asked():
  placement = jax.jit(jax.vmap(partial(CROP, flip=0.25), (0, None)))(
    jax.random.split(KEYS[0], 400), PLACES
  )[1]
  assert 60 < int(jnp.sum(placement[:, 1, 1] < 0)) < 140


@pytest.mark.parametrize("place", [CROP, AFFINE], ids=["crop", "affine"])
def test_what_is_brought_over_is_what_the_other_view_shows(place):
  @jax.jit
  @jax.vmap
  def brought(key):
    k_1, k_2 = jax.random.split(key)
    (view_1, at_1), (view_2, at_2) = place(k_1, PLACES), place(k_2, PLACES)
    return augment.bring(view_1, at_1, at_2), view_2

  moved, there = brought(KEYS)
  seen = (moved[..., 2] > 0.999) & (there[..., 2] > 0.999) & (jnp.abs(there).max(-1) < 1.001)
  interior = np.abs(np.asarray(there[..., :2])).max(-1) < 0.85
  both = np.asarray(seen) & interior
  assert both.mean() > 0.1
  np.testing.assert_allclose(moved[both], there[both], atol=0.02)


def test_two_crops_brought_to_their_overlap_show_the_same():
  @jax.jit
  @jax.vmap
  def aligned(key):
    k_1, k_2 = jax.random.split(key)
    (view_1, at_1), (view_2, at_2) = CROP(k_1, PLACES), CROP(k_2, PLACES)
    box, share = augment.overlap(at_1, at_2)
    bring = partial(augment.bring, target=box, extend=True)
    return bring(view_1, at_1), bring(view_2, at_2), box, share

  one, other, box, share = aligned(KEYS)
  assert np.all((share > 0) & (share <= 1 + 1e-5))
  np.testing.assert_allclose(one[..., :2], other[..., :2], atol=0.06)
  np.testing.assert_allclose(one[..., :2].mean((1, 2)), box[..., 2], atol=0.03)
  assert np.all(np.diff(one[..., 1], axis=2) > -1e-6)  # neither is mirrored


def test_views_that_share_nothing_say_so():
  left = jnp.array([[1.0, 0, 0], [0, 0.2, -0.5]])
  right = jnp.array([[1.0, 0, 0], [0, -0.2, 0.5]])
  assert augment.overlap(left, right)[1] == 0
  np.testing.assert_allclose(augment.overlap(left, left)[1], 1, rtol=1e-6)


def test_colours_change_and_places_stay():
  place = augment.placed(CROP, lambda key, view: 1 - view)
  k_place = jax.random.split(KEYS[0])[0]
  view, placement = jax.jit(place)(KEYS[0], PLACES)
  wanted, there = jax.jit(CROP)(k_place, PLACES)
  np.testing.assert_allclose(view, 1 - wanted, atol=1e-6)
  np.testing.assert_array_equal(placement, there)


def test_regions_are_scipys_from_left_to_right():
  rng = np.random.default_rng(0)
  masks = ndimage.gaussian_filter(rng.normal(size=(6, 20, 40)), (0, 1, 1)) > 0.25
  found = jax.jit(jax.vmap(partial(augment.connected_regions, count=12, least=6)))(masks)
  for mask, regions in zip(masks, np.asarray(found), strict=True):
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    parts = [labels == i for i in range(1, count + 1) if np.sum(labels == i) >= 6]
    parts.sort(key=lambda part: np.nonzero(part)[1].mean())
    assert len(parts) > 2
    wanted = np.zeros_like(regions)
    wanted[: len(parts)] = parts[:12]
    np.testing.assert_array_equal(regions, wanted)


@pytest.mark.parametrize("invert", [False, True])
def test_what_is_written_is_found_dark_on_light_and_light_on_dark(invert):
  rng = np.random.default_rng(1)
  written = rng.random((16, 16)) < 0.2
  image = np.where(written, 0.7, 0.2)[..., None] + rng.normal(size=(16, 16, 1)) * 0.05
  image = jnp.asarray(1 - image if invert else image, jnp.float32)
  np.testing.assert_array_equal(augment.smaller_cluster(image), written)
