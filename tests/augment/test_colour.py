"""Colour: the published formulas in float64, Pillow, colorsys and SciPy as twins, marginals."""

import colorsys
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage, stats

from repjax import augment

RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(size=(6, 7, 3)).astype(np.float32)
GREY = IMAGE[..., :1]
KEYS = jax.random.split(jax.random.key(0), 1000)
STRONG = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}


def luma(x):
  return x[..., :1] if x.shape[-1] == 1 else x @ np.array([[0.299], [0.587], [0.114]])


def by_definition(name, x, factor):
  x = np.asarray(x, np.float64)
  if name == "hue":

    def turn(pixel):
      h, s, v = colorsys.rgb_to_hsv(*pixel)
      return colorsys.hsv_to_rgb((h + factor) % 1, s, v)

    return np.apply_along_axis(turn, -1, x)
  towards = {"brightness": 0.0, "contrast": luma(x).mean(), "saturation": luma(x)}[name]
  return np.clip(factor * x + (1 - factor) * towards, 0, 1)


@pytest.mark.parametrize(
  "name, factors",
  [("brightness", (0, 0.4, 1.7)), ("contrast", (0, 0.4, 1.7)), ("saturation", (0, 0.4, 1.7))]
  + [("hue", (-0.5, -0.1, 0, 0.4))],
)
def test_each_adjustment_is_its_definition(name, factors):
  adjust = jax.jit(getattr(augment, f"adjust_{name}"))
  for factor in factors:
    ours = adjust(IMAGE, float(factor))
    np.testing.assert_allclose(ours, by_definition(name, IMAGE, factor), atol=2e-6)


@pytest.mark.parametrize(
  "name, pillow",
  [
    ("brightness", ImageEnhance.Brightness),
    ("contrast", ImageEnhance.Contrast),
    ("saturation", ImageEnhance.Color),
  ],
)
def test_each_adjustment_is_pillows_up_to_its_rounding(name, pillow):
  pixels = (IMAGE * 255).astype(np.uint8)
  theirs = np.asarray(pillow(Image.fromarray(pixels)).enhance(1.6)) / 255
  ours = getattr(augment, f"adjust_{name}")(augment.to_float(jnp.asarray(pixels)), 1.6)
  np.testing.assert_allclose(ours, theirs, atol=2.5 / 255)


def test_hsv_is_colorsys_at_every_corner_and_grey():
  levels = np.array([0, 0.25, 0.5, 1], np.float32)
  pixels = np.array(list(itertools.product(levels, repeat=3)), np.float32)
  theirs = np.array([colorsys.rgb_to_hsv(*p) for p in pixels.tolist()])
  np.testing.assert_allclose(augment.rgb_to_hsv(pixels), theirs, atol=1e-6)
  np.testing.assert_allclose(augment.hsv_to_rgb(theirs.astype(np.float32)), pixels, atol=1e-6)


def test_adjustments_follow_the_order_given():
  orders = np.array(list(itertools.permutations(range(4))))
  factors, shift = np.array([1.3, 0.5, 1.6], np.float32), 0.15
  ours = jax.jit(jax.vmap(partial(augment.adjust_in_order, IMAGE, factors, shift)))(orders)
  names = ["brightness", "contrast", "saturation", "hue"]
  for order, got in zip(orders, ours, strict=True):
    wanted = IMAGE
    for i in order:
      wanted = by_definition(names[i], wanted, [*factors, shift][i])
    np.testing.assert_allclose(got, wanted, atol=2e-5, err_msg=str(order))


@pytest.mark.parametrize("image", [IMAGE, GREY], ids=["colour", "grey"])
def test_jitter_of_strength_zero_is_the_identity(image):
  np.testing.assert_array_equal(jax.jit(augment.jitter)(KEYS[0], image), image)


def test_saturation_and_hue_leave_grey_images_alone():
  jitter = jax.vmap(partial(augment.jitter, saturation=0.9, hue=0.5), (0, None))
  ours = jax.jit(jitter)(KEYS[:9], GREY)
  np.testing.assert_array_equal(ours, np.broadcast_to(GREY, ours.shape))
  np.testing.assert_array_equal(augment.adjust_hue(GREY, 0.3), GREY)
  np.testing.assert_array_equal(augment.adjust_saturation(GREY, 0.3), GREY)


def jittered(pixels, **strength):
  image = jnp.array(pixels, jnp.float32)[None]  # [1, w, 3]
  jitter = jax.vmap(partial(augment.jitter, **strength), (0, None))
  return np.asarray(jax.jit(jitter)(KEYS, image))[:, 0]


def test_brightness_factor_is_uniform():
  factor = jittered([[0.4, 0.4, 0.4]], brightness=0.8)[:, 0, 0] / 0.4
  assert stats.kstest(factor, stats.uniform(0.2, 1.6).cdf).pvalue > 1e-3


def test_contrast_factor_is_uniform():
  out = jittered([[0.4] * 3, [0.6] * 3], contrast=0.8)
  assert (
    stats.kstest((out[:, 1, 0] - out[:, 0, 0]) / 0.2, stats.uniform(0.2, 1.6).cdf).pvalue > 1e-3
  )


def test_saturation_factor_is_uniform_and_never_negative():
  out = jittered([[0.4, 0.5, 0.6]], saturation=1.5)
  factor = (out[:, 0, 2] - out[:, 0, 0]) / 0.2
  assert stats.kstest(factor, stats.uniform(0, 2.5).cdf).pvalue > 1e-3


def test_hue_shift_is_uniform():
  out = jittered([[0.2, 0.6, 0.6]], hue=0.3)  # hue 1/2
  shift = np.array([colorsys.rgb_to_hsv(*p)[0] for p in out[:, 0].tolist()]) - 0.5
  assert stats.kstest(shift, stats.uniform(-0.3, 0.6).cdf).pvalue > 1e-3


def test_brightness_comes_before_contrast_half_of_the_time():
  strength = {"brightness": 0.8, "contrast": 0.8}
  # The same keys on images that cannot clip give the factors away.
  low, high = jittered([[0.35] * 3, [0.45] * 3], **strength)[..., 0].astype(np.float64).T
  brightness, contrast = (low + high) / 0.8, 0.8 * (high - low) / (low + high) / 0.1
  pixels = np.array([0.1, 0.9])
  got = jittered([[p] * 3 for p in pixels], **strength)[..., 0]

  def adjust(x, order):
    for name in order:
      towards = x.mean(1, keepdims=True) if name == "contrast" else 0.0
      factor = {"brightness": brightness, "contrast": contrast}[name][:, None]
      x = np.clip(factor * x + (1 - factor) * towards, 0, 1)
    return x

  start = np.broadcast_to(pixels, (len(KEYS), 2))
  forward = adjust(start, ["brightness", "contrast"])
  backward = adjust(start, ["contrast", "brightness"])
  told = np.abs(forward - backward).max(1) > 1e-3
  is_forward = np.abs(got - forward).max(1) < 1e-4
  is_backward = np.abs(got - backward).max(1) < 1e-4
  assert (is_forward | is_backward).all()
  assert stats.binomtest(int(is_forward[told].sum()), int(told.sum())).pvalue > 1e-3


def test_greyscale_is_rec_601_luma_in_every_channel():
  ours = augment.greyscale(KEYS[0], IMAGE, probability=1.0)
  theirs = np.broadcast_to(luma(IMAGE.astype(np.float64)), IMAGE.shape)
  np.testing.assert_allclose(ours, theirs, atol=1e-6)
  np.testing.assert_array_equal(augment.greyscale(KEYS[0], GREY, probability=1.0), GREY)


def test_solarize_is_pillows():
  pixels = (IMAGE * 255).astype(np.uint8)
  theirs = np.asarray(ImageOps.solarize(Image.fromarray(pixels), 128))
  ours = augment.solarize(KEYS[0], augment.to_float(jnp.asarray(pixels)), probability=1.0)
  np.testing.assert_allclose(ours, theirs / 255, atol=1e-6)


@pytest.mark.parametrize("f", [augment.greyscale, augment.solarize])
def test_greyscale_and_solarize_are_as_frequent_as_asked(f):
  out = jax.vmap(partial(f, probability=0.3), (0, None))(KEYS, IMAGE)
  changed = int(jnp.sum(jnp.any(out != IMAGE[None], (1, 2, 3))))
  assert stats.binomtest(changed, len(KEYS), 0.3).pvalue > 1e-3


@pytest.mark.parametrize("kernel", [1, 3, 7, 23])
@pytest.mark.parametrize("image", [IMAGE, GREY], ids=["colour", "grey"])
def test_blur_is_scipys_mirrored_gaussian(kernel, image):
  theirs = image.astype(np.float64)
  for axis in (0, 1):
    theirs = ndimage.gaussian_filter1d(theirs, 1.3, axis, mode="mirror", radius=kernel // 2)
  blur = jax.jit(augment.blur, static_argnames="kernel")
  np.testing.assert_allclose(blur(image, 1.3, kernel=kernel), theirs, atol=1e-6)


def test_blurs_sigma_is_uniform():
  point = np.zeros((9, 9, 1), np.float32)
  point[4, 4] = 1
  blur = partial(augment.gaussian_blur, kernel=9, sigma=(0.6, 2.0))
  out = np.asarray(jax.jit(jax.vmap(blur, (0, None)))(KEYS, point), np.float64)[..., 0]
  sigma = np.sqrt(0.5 / np.log(out[:, 4, 4] / out[:, 4, 5]))  # one pixel off: exp(-1 / 2 sigma^2)
  assert stats.kstest(sigma, stats.uniform(0.6, 1.4).cdf).pvalue > 1e-3


def test_noise_is_normal_with_the_given_deviation():
  image = jnp.full((40, 40, 1), 0.5)
  noise = np.ravel(augment.gaussian_noise(KEYS[0], image, std=0.05) - image)
  assert stats.kstest(noise, stats.norm(0, 0.05).cdf).pvalue > 1e-3


AUGMENTATIONS = [
  partial(augment.jitter, **STRONG),
  partial(augment.greyscale, probability=0.5),
  partial(augment.solarize, probability=0.5),
  partial(augment.gaussian_blur, kernel=5),
  partial(augment.gaussian_noise, std=0.5),
]
every = jax.jit(lambda key, image: jnp.stack([f(key, image) for f in AUGMENTATIONS]))


@pytest.mark.parametrize("image", [IMAGE, GREY], ids=["colour", "grey"])
def test_values_stay_in_range(image):
  images = jnp.stack([image, 1 - image, jnp.zeros_like(image), jnp.ones_like(image)])
  out = jax.vmap(every)(KEYS[:4], images)
  assert out.min() >= 0
  assert out.max() <= 1 + 1e-6


def test_vmap_equals_a_loop():
  images = jnp.stack([IMAGE, 1 - IMAGE, jnp.zeros_like(IMAGE), jnp.ones_like(IMAGE)])
  loop = [every(k, i) for k, i in zip(KEYS[:4], images, strict=True)]
  np.testing.assert_allclose(jax.vmap(every)(KEYS[:4], images), jnp.stack(loop), atol=1e-5)


def test_impossible_strengths_are_refused():
  with pytest.raises(ValueError, match=r"hue=0.7 is outside \[0, 0.5\]"):
    augment.jitter(KEYS[0], IMAGE, hue=0.7)
  with pytest.raises(ValueError, match="contrast=-1 is negative"):
    augment.jitter(KEYS[0], IMAGE, contrast=-1)
  with pytest.raises(ValueError, match="kernel=4 is not odd; choose 3 or 5"):
    augment.blur(IMAGE, 1.0, kernel=4)
  with pytest.raises(ValueError, match=r"sigma=\(0, 1\)"):
    augment.gaussian_blur(KEYS[0], IMAGE, kernel=3, sigma=(0, 1))
  with pytest.raises(ValueError, match="image has 2 channels"):
    augment.greyscale(KEYS[0], IMAGE[..., :2])
