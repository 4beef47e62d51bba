"""Crops, flips and affine maps: known fixed points, Pillow as a twin, and each draw's marginal."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, stats

from repjax import augment

RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(size=(9, 9, 3)).astype(np.float32)
WIDE = RNG.uniform(size=(10, 14, 1)).astype(np.float32)
KEYS = jax.random.split(jax.random.key(0), 2000)


@pytest.mark.parametrize("image", [IMAGE, IMAGE[..., :1]], ids=["colour", "grey"])
def test_crop_of_the_whole_image_is_the_identity(image):
  np.testing.assert_array_equal(augment.crop_and_resize(image, 0, 0, 9, 9, 9), image)
  crop = partial(augment.random_resized_crop, size=9, area=(1, 1), ratio=(1, 1))
  np.testing.assert_allclose(jax.jit(crop)(KEYS[0], image), image, atol=1e-6)


@pytest.mark.parametrize(
  "box", [(0.0, 0.0, 10.0, 14.0), (2.0, 3.0, 5.0, 4.0), (1.3, 2.6, 7.25, 4.5)]
)
@pytest.mark.parametrize("size", [4, 8, 17])
def test_crop_and_resize_is_pillows(box, size):
  top, left, height, width = box
  pillow = Image.fromarray(WIDE[..., 0]).resize(
    (size, size), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height)
  )
  ours = jax.jit(augment.crop_and_resize, static_argnums=5)(WIDE, *box, size)
  np.testing.assert_allclose(ours[..., 0], np.asarray(pillow), atol=2e-6)


@pytest.fixture(scope="module")
def boxes():
  draw = partial(augment.random_box, height=20, width=20, area=(0.08, 0.75), ratio=(3 / 4, 4 / 3))
  return np.asarray(jax.jit(jax.vmap(draw))(KEYS), np.float64)


def test_crops_area_is_uniform_where_every_draw_fits(boxes):
  assert stats.kstest(boxes[:, 2] * boxes[:, 3] / 400, stats.uniform(0.08, 0.67).cdf).pvalue > 1e-3


def test_crops_log_ratio_is_uniform_where_every_draw_fits(boxes):
  low, high = np.log(3 / 4), np.log(4 / 3)
  ratios = np.log(boxes[:, 3] / boxes[:, 2])
  assert stats.kstest(ratios, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_crops_place_is_uniform_over_the_room_left(boxes):
  for start, side in ((0, 2), (1, 3)):
    place = boxes[:, start] / (20 - boxes[:, side])
    assert stats.kstest(place, stats.uniform.cdf).pvalue > 1e-3


def boxes_by_rejection(rng, n, height, width, area, ratio):
  """Areas by the rule of torchvision's get_params, without its rounding; one try after another."""
  out = []
  for _ in range(n):
    for _ in range(10):
      target = height * width * rng.uniform(*area)
      r = np.exp(rng.uniform(*np.log(ratio)))
      w, h = np.sqrt(target * r), np.sqrt(target / r)
      if w <= width and h <= height:
        break
    else:
      r = min(max(width / height, ratio[0]), ratio[1])
      w, h = min(width, height * r), min(height, width / r)
    out.append((h, w))
  return np.array(out)


@pytest.mark.parametrize("height, width, area", [(20, 20, (0.08, 1.0)), (10, 40, (0.2, 1.0))])
def test_crops_sides_are_distributed_as_by_rejection(height, width, area):
  draw = partial(augment.random_box, height=height, width=width, area=area)
  ours = np.asarray(jax.jit(jax.vmap(draw))(KEYS))
  theirs = boxes_by_rejection(np.random.default_rng(1), 2000, height, width, area, (3 / 4, 4 / 3))
  for i in (0, 1):
    # Rounded: the fallback is one value, which float32 and float64 would order apart.
    samples = (np.round(x.astype(np.float64), 3) for x in (ours[:, 2 + i], theirs[:, i]))
    assert stats.ks_2samp(*samples, method="asymp").pvalue > 1e-3
  assert (ours[:, :2] >= 0).all()
  assert (ours[:, :2] + ours[:, 2:] <= np.array([height, width]) + 1e-4).all()


def test_flipping_twice_is_the_identity():
  flip = partial(augment.flip, KEYS[0], probability=1.0)
  np.testing.assert_array_equal(flip(WIDE), WIDE[:, ::-1])
  np.testing.assert_array_equal(flip(flip(WIDE)), WIDE)


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5])
def test_flips_are_as_frequent_as_asked(probability):
  flip = partial(augment.flip, probability=probability)
  flipped = jax.vmap(flip, (0, None))(KEYS, WIDE)
  count = int(jnp.sum(jnp.all(flipped == WIDE[None, :, ::-1], (1, 2, 3))))
  assert stats.binomtest(count, len(KEYS), probability).pvalue > 1e-3


@pytest.mark.parametrize("image", [IMAGE, WIDE], ids=["colour", "grey"])
def test_affine_of_strength_zero_is_the_identity(image):
  still = jax.jit(partial(augment.affine, fill=0.5))
  np.testing.assert_array_equal(still(KEYS[0], image), image)


def test_a_quarter_turn_is_rot90():
  matrix = jnp.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
  np.testing.assert_allclose(augment.warp(IMAGE, matrix), np.rot90(IMAGE), atol=1e-6)


def test_warp_is_scipys_affine_transform():
  matrix = np.array([[0.9, 0.3, -0.7], [-0.2, 1.2, 1.4]])
  centre = np.array([4.5, 6.5])
  offset = matrix[:, 2] + centre - matrix[:, :2] @ centre
  # SciPy's "grid-constant" blends with the fill at the border, as ours does.
  theirs = ndimage.affine_transform(
    WIDE[..., 0].astype(np.float64), matrix[:, :2], offset, order=1, mode="grid-constant", cval=0.3
  )
  np.testing.assert_allclose(
    augment.warp(WIDE, jnp.array(matrix), fill=0.3)[..., 0], theirs, atol=1e-5
  )


# What a smooth blob's position and second moments say about the map it went through.
ROW, COLUMN = np.mgrid[:33, :33] - 16.0
BLOB = np.exp(-(ROW**2) / 18 - (COLUMN - 6) ** 2 / 2)[..., None].astype(np.float32)


def moments(images):
  images = np.asarray(images, np.float64)[..., 0]
  mass = images.sum((1, 2))
  return mass, (images * ROW).sum((1, 2)) / mass, (images * COLUMN).sum((1, 2)) / mass


def affines(image=BLOB, **how):
  return jax.jit(jax.vmap(partial(augment.affine, **how), (0, None)))(KEYS[:500], image)


def test_affines_angle_is_uniform_and_anticlockwise():
  _, row, column = moments(affines(degrees=40))
  angle = np.degrees(np.arctan2(-row, column))
  assert stats.kstest(angle, stats.uniform(-40, 80).cdf).pvalue > 1e-3


def test_affines_scale_is_uniform_and_enlarges():
  mass, _, column = moments(affines(scale=(0.8, 1.3)))
  np.testing.assert_allclose(np.sqrt(mass / BLOB.sum()), column / 6, rtol=0.03)
  assert stats.kstest(column / 6, stats.uniform(0.8, 0.5).cdf).pvalue > 1e-3


def test_affines_shift_is_uniform_on_each_axis():
  _, row, column = moments(affines(translate=0.1))
  for shift in (row, column - 6):
    assert stats.kstest(shift / 33, stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3


def test_affines_shear_slants_columns_and_keeps_rows():
  _, row, column = moments(affines(BLOB.swapaxes(0, 1), shear=30))
  np.testing.assert_allclose(row, 6, atol=0.02)
  angle = np.degrees(np.arctan(-column / 6))
  assert stats.kstest(angle, stats.uniform(-30, 60).cdf).pvalue > 1e-3


def test_values_stay_in_range_and_vmap_equals_a_loop():
  def both(key, image):
    image = augment.random_resized_crop(key, image, size=9)
    return augment.affine(key, image, degrees=20, shear=10, translate=0.1)

  images = RNG.uniform(size=(4, 9, 9, 3)).astype(np.float32)
  both = jax.jit(both)
  loop = [both(k, i) for k, i in zip(KEYS[:4], images, strict=True)]
  out = jax.vmap(both)(KEYS[:4], images)
  np.testing.assert_allclose(out, loop, atol=1e-6)
  assert out.min() >= 0
  assert out.max() <= 1 + 1e-6


def test_a_batch_or_bytes_are_refused():
  with pytest.raises(ValueError, match=r"shape \(1, 9, 9, 3\), not \[h, w, c\]; jax.vmap"):
    augment.flip(KEYS[0], jnp.asarray(IMAGE)[None])
  with pytest.raises(ValueError, match=r"uint8, not floating; call augment\.to_float"):
    augment.flip(KEYS[0], jnp.zeros((4, 4, 1), jnp.uint8))


def test_impossible_ranges_are_refused():
  with pytest.raises(ValueError, match=r"area=\(0.5, 1.5\) .* choose"):
    augment.random_box(KEYS[0], 8, 8, area=(0.5, 1.5))
  with pytest.raises(ValueError, match=r"ratio=\(2, 1\) .* choose"):
    augment.random_box(KEYS[0], 8, 8, ratio=(2, 1))
  with pytest.raises(ValueError, match=r"scale=\(0, 1\) .* choose"):
    augment.affine(KEYS[0], IMAGE, scale=(0, 1))
