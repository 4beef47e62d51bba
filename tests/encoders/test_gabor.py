"""Gabor filters turn with the image, stay in their ranges; statistics and gate do what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.encoders import (
  ConvNet,
  GaborBank,
  GaborTexture,
  Waves,
  gabor_kernels,
  texture_statistics,
)
from repjax.train.flops import count_flops

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(3, 8, 8, 2)).astype(np.float32)
WAVES = Waves(*(RNG.uniform(1, 3, 4).astype(np.float32) for _ in range(5)))


def close(x, y, tolerance=1e-5):
  np.testing.assert_allclose(x, y, tolerance, tolerance)


def test_kernels_equal_the_formula():
  kernels = gabor_kernels(WAVES, 5)
  theta, wavelength, sigma, gamma, psi = (v.astype(np.float64) for v in WAVES)
  for row in range(5):
    for column in range(5):
      x, y = column - 2, row - 2
      a = x * np.cos(theta) + y * np.sin(theta)
      b = -x * np.sin(theta) + y * np.cos(theta)
      wave = np.cos(2 * np.pi * a / wavelength + psi)
      close(kernels[row, column], np.exp(-(a**2 + gamma**2 * b**2) / (2 * sigma**2)) * wave)


def test_filters_turned_a_quarter_see_in_a_turned_image_what_they_saw():
  bank = GaborBank(angles=3, wavelengths=2, size=5)
  variables = bank.init(jax.random.key(0), IMAGE)
  params = variables["params"]
  turned = {"params": params | {"angle": params["angle"] + np.pi / 2}}
  before = bank.apply(variables, IMAGE)
  after = bank.apply(turned, np.rot90(IMAGE, -1, (1, 2)))
  close(np.rot90(before, -1, (1, 2)), after)
  assert before.shape[-1] == 12 and np.std(before) > 0.1


@pytest.mark.parametrize("free", [-1e4, 0.0, 1e4])
def test_parameters_stay_in_their_ranges_and_gradients_finite(free):
  bank = GaborBank(angles=2, wavelengths=1, size=7, wavelength_range=(2.5, 6))
  start = bank.init(jax.random.key(0), IMAGE)
  variables = jax.tree.map(lambda x: jnp.full_like(x, free), start)
  waves = bank.apply(variables, method="waves")
  for value, (low, high) in zip(waves[1:4], ((2.5, 6), (1, 7 / 3), (0.3, 1.0)), strict=True):
    assert np.all((low - 1e-6 <= value) & (value <= high + 1e-6))
  grads = jax.grad(lambda v: jnp.sum(bank.apply(v, IMAGE) ** 2))(variables)
  assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))


def test_filters_start_at_even_angles_and_octaves():
  bank = GaborBank(angles=4, wavelengths=3, size=17, wavelength_range=(2, 16))
  waves = bank.apply(bank.init(jax.random.key(0), IMAGE), method="waves")
  close(waves.angle, np.repeat([0, np.pi / 4, np.pi / 2, 3 * np.pi / 4], 3))
  close(waves.wavelength, np.tile([2**1.5, 2**2.5, 2**3.5], 4), 1e-4)


def test_statistics_equal_numpy_and_forget_where():
  x = RNG.normal(size=(2, 4, 5, 3)).astype(np.float32)
  found = texture_statistics(x, levels=4)
  flat = x.reshape(2, 20, 3)
  close(found[..., 0], flat.mean(1))
  close(found[..., 1], flat.std(1))
  close(found[..., 2], np.abs(flat).mean(1))
  for i in range(2):
    for j in range(3):
      v = flat[i, :, j]
      grid = np.linspace(v.min(), v.max(), 4)
      shares = [np.interp(v, grid, np.eye(4)[k]).mean() for k in range(4)]
      close(found[i, j, 3:], shares, 1e-4)
  mixed = RNG.permutation(flat, axis=1).reshape(x.shape)
  close(texture_statistics(mixed, levels=4), found)
  assert np.isfinite(jax.grad(lambda v: texture_statistics(v).sum())(jnp.zeros((2, 4, 4, 1)))).all()


@pytest.fixture(scope="module")
def branch():
  encoder = ConvNet((4, 4))
  make = lambda keep: GaborTexture(encoder, GaborBank(2, 1, 3), keep=keep, hidden=8, levels=4)
  variables = jax.jit(make(4).init)(jax.random.key(0), IMAGE)
  return encoder, make, variables


def test_only_regions_that_the_gate_lets_through_are_filtered(branch):
  encoder, make, variables = branch
  plain = encoder.apply({"params": variables["params"]["encoder"]}, IMAGE)
  p = jax.tree.map(np.asarray, variables["params"])
  seen = np.asarray(plain.layers[-1]).reshape(3, 2, 2, 2, 2, 4).mean((2, 4))
  scores = seen @ p["gate"]["kernel"] + p["gate"]["bias"]
  best = np.argsort(-scores.reshape(3, 4), 1)
  textures = [make(k).apply(variables, IMAGE).pooled - plain.pooled for k in (1, 2, 4)]
  # Each region alone, by an image that is that region and an encoder's map that is not looked at.
  windows = IMAGE.reshape(3, 2, 4, 2, 4, 2).swapaxes(2, 3).reshape(3, 4, 4, 4, 2)

  def alone(window, score):
    found = texture_statistics(
      GaborBank(2, 1, 3).apply({"params": p["bank"]}, window[None]), levels=4
    )
    v = np.asarray(found).reshape(-1)
    v = (v - v.mean()) / np.sqrt(v.var() + 1e-6) * p["norm"]["scale"] + p["norm"]["bias"]
    v = np.maximum(v @ p["up"]["kernel"] + p["up"]["bias"], 0) @ p["down"]["kernel"]
    return (v + p["down"]["bias"]) / (1 + np.exp(-score))

  for texture, keep in zip(textures, (1, 2, 4), strict=True):
    for i in range(3):
      wanted = sum(alone(windows[i, r], scores.reshape(3, 4)[i, r]) for r in best[i, :keep])
      close(texture[i], wanted, 1e-4)


def test_what_the_filters_cost_goes_with_the_regions(branch):
  encoder, make, variables = branch
  bare = count_flops(encoder.apply, {"params": variables["params"]["encoder"]}, IMAGE)
  gate = 2 * 3 * 4 * 4
  one, four = (count_flops(make(k).apply, variables, IMAGE) - bare - gate for k in (1, 4))
  assert four == 4 * one > 0


def test_gradients_in_bfloat16_are_finite(branch):
  _, _, variables = branch
  low = GaborTexture(
    ConvNet((4, 4), dtype=jnp.bfloat16), GaborBank(2, 1, 3, dtype=jnp.bfloat16), hidden=8, levels=4,
    dtype=jnp.bfloat16,
  )  # fmt: skip
  loss = lambda p: jnp.sum(low.apply({"params": p}, IMAGE).pooled.astype(jnp.float32) ** 2)
  grads = jax.jit(jax.grad(loss))(variables["params"])
  assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))
  assert np.abs(grads["gate"]["kernel"]).max() > 0 and np.abs(grads["bank"]["angle"]).max() > 0


def test_errors_name_what_does_not_fit(branch):
  encoder, _, _ = branch
  init = lambda module: jax.eval_shape(module.init, jax.random.key(0), IMAGE)
  with pytest.raises(ValueError, match=r"grid=3 and keep=2 .* 8x8 .* 4x4"):
    init(GaborTexture(encoder, GaborBank(), grid=3))
  with pytest.raises(ValueError, match=r"odd size .* got size=4.* choose size=5"):
    init(GaborBank(size=4))
