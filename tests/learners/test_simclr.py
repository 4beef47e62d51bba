"""SimCLR: two draws an image, the paper's loss of them, and a projector that is dropped."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from repjax.encoders import MLP, Features
from repjax.learners import simclr

IMAGES = np.random.default_rng(0).uniform(size=(6, 2, 2, 3)).astype(np.float32)
BATCH = {"image": IMAGES}


class Spy(nn.Module):
  """Hands pixels on, and notes what it was shown."""

  see: Callable[[np.ndarray], None]

  def __call__(self, image, *, train=False):
    if train:
      self.see(np.asarray(image))
    return Features(image.reshape(len(image), -1), image.reshape(len(image), -1, 3), ())


class Identity(nn.Module):
  """No projector."""

  def __call__(self, x, *, train=False):
    return x


def evaluate(augment, **options):
  seen = []
  objective = simclr(Spy(seen.append), Identity(), augment, **options)
  params, extra = objective.init(jax.random.key(0), BATCH)
  value, (_, metrics) = objective.loss(params, extra, BATCH, jax.random.key(1))
  return value, metrics, seen


def test_the_loss_of_equal_views_is_the_closed_form():
  value, metrics, _ = evaluate(lambda key, image: image, temperature=0.3)
  z = IMAGES.reshape(6, -1).astype(np.float64)
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  similarity = np.exp(z @ z.T / 0.3)
  # Each other image is met twice, oneself once.
  loss = np.log(2 * similarity.sum(1) - np.exp(1 / 0.3)) - 1 / 0.3
  np.testing.assert_allclose(value, loss.mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics["agreement"], 1, rtol=1e-6)


def test_every_view_is_drawn_apart_and_both_go_in_together():
  _, metrics, (views,) = evaluate(lambda key, image: jax.random.uniform(key, image.shape))
  z = views.reshape(12, -1)
  assert len(np.unique(z, axis=0)) == 12
  z = z / np.linalg.norm(z, axis=1, keepdims=True)
  np.testing.assert_allclose(metrics["agreement"], (z[::2] * z[1::2]).sum(1).mean(), rtol=1e-5)


def test_views_stay_with_their_images():
  mark = lambda key, image: image + 10 * jax.random.uniform(key)
  _, _, (views,) = evaluate(mark, normalize=lambda image: image - image[:, :1, :1])
  wanted = np.repeat(IMAGES - IMAGES[:, :1, :1], 2, 0)
  np.testing.assert_allclose(views, wanted, atol=1e-5)


def test_the_projector_is_dropped():
  objective = simclr(Spy(print), MLP((2,)), lambda key, image: image)
  params, extra = objective.init(jax.random.key(0), BATCH)
  assert params["projector"]
  broken = params | {"projector": jax.tree.map(lambda x: x + jnp.nan, params["projector"])}
  pooled = objective.encode(broken, extra, IMAGES).pooled
  np.testing.assert_array_equal(pooled, IMAGES.reshape(6, -1))
