"""Chains: order, independent keys, frequencies, and presets that stay in range."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from repjax import augment

RNG = np.random.default_rng(0)
KEYS = jax.random.split(jax.random.key(0), 1000)


def test_compose_applies_the_first_first():
  double = lambda key, image: 2 * image
  add = lambda key, image: image + 1
  image = jnp.ones((2, 2, 1))
  np.testing.assert_array_equal(augment.compose(double, add)(KEYS[0], image), 3 * image)
  np.testing.assert_array_equal(augment.compose()(KEYS[0], image), image)


def test_compose_gives_each_step_a_key_of_its_own():
  draw = lambda key, image: jnp.append(image, jax.random.uniform(key))
  out = jax.jit(jax.vmap(augment.compose(draw, draw), (0, None)))(KEYS, jnp.zeros(0))
  assert abs(np.corrcoef(out.T)[0, 1]) < 0.1


def test_with_probability_is_as_frequent_as_asked_and_independent_of_what_it_gates():
  f = augment.with_probability(0.3, lambda key, image: image + 1 + jax.random.uniform(key))
  out = np.asarray(jax.jit(jax.vmap(f, (0, None)))(KEYS, jnp.zeros((1, 1, 1))))[:, 0, 0, 0]
  applied = out[out > 0] - 1
  assert stats.binomtest(len(applied), len(KEYS), 0.3).pvalue > 1e-3
  assert stats.kstest(applied, stats.uniform.cdf).pvalue > 1e-3


def test_to_float_maps_bytes_to_the_unit_interval_and_passes_floats():
  image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
  np.testing.assert_allclose(augment.to_float(image), image.astype(np.float64) / 255, rtol=1e-7)
  half = jnp.full((2, 2, 1), 0.5)
  assert augment.to_float(half) is half
  with pytest.raises(ValueError, match="int32, neither uint8 nor floating"):
    augment.to_float(jnp.zeros((2, 2, 1), jnp.int32))


def test_normalize_standardises_each_channel_of_a_batch():
  images = RNG.uniform(size=(5, 4, 4, 3)).astype(np.float32)
  out = augment.normalize(jnp.asarray(images), images.mean((0, 1, 2)), images.std((0, 1, 2)))
  np.testing.assert_allclose(np.mean(out, (0, 1, 2)), 0, atol=1e-5)
  np.testing.assert_allclose(np.std(out, (0, 1, 2)), 1, atol=1e-5)
  np.testing.assert_array_equal(
    augment.normalize(images[0], images.mean((0, 1, 2)), images.std((0, 1, 2))), out[0]
  )
  with pytest.raises(ValueError, match=r"std has shape \(1,\) for 3 channels"):
    augment.normalize(images, [0.0] * 3, [1.0])


@pytest.mark.parametrize(
  "preset", [augment.simclr_augment(24), augment.affine_augment()], ids=["simclr", "affine"]
)
def test_presets_stay_in_range_and_differ_between_keys(preset):
  image = jnp.asarray(RNG.integers(0, 2, (24, 24, 1)), jnp.float32)  # all at the limits
  out = jax.jit(jax.vmap(preset, (0, None)))(KEYS[:16], image)
  assert out.min() >= 0
  assert out.max() <= 1 + 1e-6
  assert len(np.unique(np.asarray(out).reshape(16, -1), axis=0)) == 16


def test_affine_augment_of_no_strength_is_the_identity():
  image = jnp.asarray(RNG.uniform(size=(8, 8, 1)), jnp.float32)
  still = augment.affine_augment(
    degrees=0, scale=(1, 1), shear=0, translate=0, brightness=0, contrast=0, noise=0
  )
  np.testing.assert_allclose(jax.jit(still)(KEYS[0], image), image, atol=1e-6)


def test_simclr_greys_and_jitters_as_often_as_the_paper():
  # A flat colour shows neither crop, flip nor blur.
  colour = np.array([0.2, 0.5, 0.4], np.float32)
  image = np.broadcast_to(colour, (24, 24, 3))
  out = np.asarray(jax.jit(jax.vmap(augment.simclr_augment(24), (0, None)))(KEYS, image))[:, 0, 0]
  spread = np.ptp(out, axis=-1)
  assert stats.binomtest(int((spread < 1e-6).sum()), len(KEYS), 0.2).pvalue > 1e-3
  untouched = np.abs(out - colour).max(-1) < 1e-6
  assert stats.binomtest(int(untouched.sum()), len(KEYS), 0.2 * 0.8).pvalue > 1e-3


def test_crop_flip_is_a_crop_then_a_flip():
  image = jnp.asarray(RNG.uniform(size=(6, 8, 3)), jnp.float32)
  crop = partial(augment.random_resized_crop, size=4, area=(0.67, 1.0))
  keys = jax.random.split(KEYS[0])
  wanted = augment.flip(keys[1], jax.jit(crop)(keys[0], image))
  np.testing.assert_allclose(jax.jit(augment.crop_flip(4))(KEYS[0], image), wanted, atol=1e-6)
