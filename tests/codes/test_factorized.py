"""A learnt density: a latent at a time in NumPy, a logistic in closed form, sums that are one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.codes import FactorizedPrior, add_unit_noise

RNG = np.random.default_rng(0)
PRIOR = FactorizedPrior(2)
PARAMS = jax.tree.map(
  lambda x: (x + RNG.normal(size=x.shape)).astype(np.float32),
  jax.jit(PRIOR.init)(jax.random.key(0), jnp.zeros((1, 2)))["params"],
)
bits = jax.jit(lambda y: PRIOR.apply({"params": PARAMS}, y))
logits = jax.jit(lambda y: PRIOR.apply({"params": PARAMS}, y, method="cumulative_logits"))


def cumulative(y, channel):
  """One number through the layers, in float64."""
  x = np.array([y], np.float64)
  for k in range(4):
    kernel = np.log1p(np.exp(np.float64(PARAMS[f"kernel_{k}"][channel])))
    x = kernel @ x + PARAMS[f"bias_{k}"][channel]
    if k < 3:
      x = x + np.tanh(np.float64(PARAMS[f"factor_{k}"][channel])) * np.tanh(x)
  return 1 / (1 + np.exp(-x[0]))


def test_lengths_are_those_of_a_latent_at_a_time():
  y = RNG.normal(size=(3, 5, 2), scale=2).astype(np.float32)
  ours = bits(y)
  for place in np.ndindex(*y.shape):
    value, channel = np.float64(y[place]), place[-1]
    mass = cumulative(value + 0.5, channel) - cumulative(value - 0.5, channel)
    np.testing.assert_allclose(ours[place], -np.log2(mass), rtol=1e-4, atol=1e-4)


def test_integers_have_probability_one_in_all():
  every = np.repeat(np.arange(-3000, 3001, dtype=np.float32)[:, None], 2, 1)
  np.testing.assert_allclose(np.sum(2.0 ** -np.float64(bits(every)), 0), 1, atol=1e-4)


def test_the_density_integrates_to_one_and_is_never_negative():
  step = 1 / 8
  grid = np.repeat(np.arange(-3000, 3000, step, dtype=np.float32)[:, None], 2, 1)
  mass = 2.0 ** -np.float64(bits(grid))  # the density behind unit noise
  np.testing.assert_allclose(mass.sum(0) * step, 1, atol=1e-4)
  rise = np.diff(np.float64(logits(grid)), axis=0)
  assert rise.min() >= 0 and np.isfinite(mass).all()


def test_without_layers_between_it_is_a_logistic():
  prior = FactorizedPrior(1, widths=())
  params = {"kernel_0": np.full((1, 1, 1), 0.3, np.float32), "bias_0": np.full((1, 1), -0.7)}
  y = np.linspace(-30, 30, 61, dtype=np.float32)[:, None]
  slope = np.log1p(np.exp(0.3))
  sigmoid = lambda x: 1 / (1 + np.exp(-x))
  mass = sigmoid(slope * (y + 0.5) - 0.7) - sigmoid(slope * (y - 0.5) - 0.7)
  ours = prior.apply({"params": params}, y)
  np.testing.assert_allclose(ours, -np.log2(np.float64(mass)), rtol=1e-4)


def test_lengths_and_gradients_are_finite_in_the_tails():
  y = jnp.array([[-1e4, 1e4], [-300.0, 300.0], [0.0, 0.0]])
  value, slope = jax.jit(jax.value_and_grad(lambda y: jnp.sum(bits(y))))(y)
  assert np.isfinite(value) and np.isfinite(slope).all()
  assert (np.asarray(slope)[:2] * np.sign(y[:2]) > 0).all()  # less far is shorter


def test_no_variable_is_coded_in_less_than_its_entropy():
  y = np.repeat(np.arange(4, dtype=np.float32)[:, None], 2, 1)  # each as often, two bits
  assert (np.mean(bits(y), 0) >= 2).all() and (np.asarray(bits(y)) > 0).all()


def test_noise_is_uniform_and_hands_gradients_on():
  y = jnp.asarray(RNG.normal(size=(100, 100)), jnp.float32)
  key = jax.random.key(0)
  noise = np.float64(add_unit_noise(key, y) - y)
  assert np.abs(noise).max() <= 0.5 + 1e-6
  np.testing.assert_allclose([noise.mean(), noise.var()], [0, 1 / 12], atol=5e-3)
  slope = jax.grad(lambda y: jnp.sum(jnp.square(add_unit_noise(key, y))))(y)
  np.testing.assert_allclose(slope, 2 * add_unit_noise(key, y), rtol=1e-6)


def test_another_number_of_channels_is_an_error():
  with pytest.raises(ValueError, match=r"\[..., 2\], got \(4, 3\)"):
    PRIOR.apply({"params": PARAMS}, jnp.zeros((4, 3)))
