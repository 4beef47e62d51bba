"""Bottleneck: rounding and its stand-in, step by step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from repjax.codes import Bottleneck, FactorizedPrior, add_unit_noise

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3, 6)).astype(np.float32)
NET = Bottleneck(nn.Dense(2), nn.Dense(5), FactorizedPrior(2))


@functools.cache
def drawn():
  params = jax.jit(NET.init)(jax.random.key(0), X)["params"]
  params["analysis"]["kernel"] *= 3
  return params


def test_in_use_it_rounds_and_counts_each_examples_bits():
  params = drawn()
  ours = NET.apply({"params": params}, X)
  latent = np.round(X @ np.asarray(params["analysis"]["kernel"]))
  np.testing.assert_array_equal(ours.latent, latent)
  assert len(np.unique(latent)) > 3
  wanted = latent @ np.asarray(params["synthesis"]["kernel"])
  np.testing.assert_allclose(ours.decoded, wanted, atol=1e-5)
  bits = NET.prior.apply({"params": params["prior"]}, latent)
  np.testing.assert_allclose(ours.bits, np.asarray(bits).sum((1, 2)), rtol=1e-5)


def test_in_training_each_example_has_noise_of_its_own_key():
  params, keys = drawn(), jax.random.split(jax.random.key(1), 4)
  ours = NET.apply({"params": params}, X, keys=keys)
  latent = X @ np.asarray(params["analysis"]["kernel"])
  for i in range(4):
    np.testing.assert_allclose(ours.latent[i], add_unit_noise(keys[i], latent[i]), atol=1e-5)


def test_noise_has_a_gradient_where_rounding_has_none():
  params, keys = drawn(), jax.random.split(jax.random.key(1), 4)

  @jax.jit
  @functools.partial(jax.grad, has_aux=True)
  def slope(params, keys):
    decoded = NET.apply({"params": params}, X, keys=keys).decoded
    return jnp.sum(jnp.square(decoded)), 0

  with_noise, rounded = slope(params, keys)[0], slope(params, None)[0]
  assert np.abs(with_noise["analysis"]["kernel"]).max() > 0
  np.testing.assert_array_equal(rounded["analysis"]["kernel"], 0)
  assert np.abs(rounded["synthesis"]["kernel"]).max() > 0
