"""Products of layers: the way round for a kernel's gradient changes nothing but its speed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.encoders import products as room
from repjax.encoders.products import product
from repjax.train.flops import count_flops

RNG = np.random.default_rng(0)
X, KERNEL, WEIGHT = (RNG.normal(size=s).astype(np.float32) for s in ((9, 6), (6, 4), (9, 4)))


def loss(x, kernel):
  return jnp.sum(WEIGHT * jnp.sin(product(x, kernel)))


def gradient(**options):
  # A new function each time, so that none is found traced for another platform.
  return jax.jit(jax.value_and_grad(lambda *arrays: loss(*arrays), **options))


def dots(f, *arrays):
  return str(jax.make_jaxpr(f)(*arrays)).count("dot_general[")


@pytest.mark.parametrize("given", [0, 1, (0, 1)])
def test_value_and_gradients_equal_those_of_other_devices_to_the_bit(given, monkeypatch):
  turned = gradient(argnums=given)(X, KERNEL)
  monkeypatch.setattr(room, "platform", lambda: "gpu")
  jax.tree.map(np.testing.assert_array_equal, turned, gradient(argnums=given)(X, KERNEL))


def test_forward_mode_examples_and_second_derivatives_are_there(monkeypatch):
  def several():
    alone = lambda x: jax.grad(lambda *a: loss(*a), 1)(x, KERNEL)
    return (
      jax.jvp(lambda *a: loss(*a), (X, KERNEL), (X[::-1], KERNEL[::-1]))[1],
      jax.vmap(alone)(np.stack([X, X[::-1]])),
      jax.hessian(lambda *a: loss(*a), 1)(X, KERNEL),
    )

  turned = several()
  monkeypatch.setattr(room, "platform", lambda: "tpu")
  close = lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-5)
  jax.tree.map(close, turned, several())


@pytest.mark.parametrize("given, products", [(0, 2), (1, 2), ((0, 1), 3)])
def test_what_stands_still_costs_nothing(given, products, monkeypatch):
  run = lambda: jax.value_and_grad(lambda *a: loss(*a), given)
  assert dots(run(), X, KERNEL) == products
  counted = count_flops(run(), X, KERNEL)
  monkeypatch.setattr(room, "platform", lambda: "gpu")
  assert counted == count_flops(run(), X, KERNEL)


def test_few_rows_and_layers_that_widen_are_multiplied_as_they_are():
  def turned(x, kernel):
    return "barrier" in str(jax.make_jaxpr(jax.grad(lambda k: jnp.sum(product(x, k))))(kernel))

  assert turned(X, KERNEL)
  assert not turned(X[:4], KERNEL)
  assert not turned(X[:, :4], KERNEL.T)
