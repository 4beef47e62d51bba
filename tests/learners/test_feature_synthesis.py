"""Feature synthesis and the auto-encoder: what is drawn, what is changed, what gets gradients."""

import jax
import layouts
import numpy as np
import pytest

from repjax.encoders import MLP, PixelDecoder
from repjax.learners import autoencoder, feature_synthesis

NETS = layouts.Tiny(), PixelDecoder((8, 8, 3), (6,)), MLP((4,))
LEARNERS = {
  "autoencoder": lambda axis: autoencoder(*NETS[:2], layouts.noise, axis_name=axis),
  "feature_synthesis": lambda axis: feature_synthesis(*NETS, layouts.noise, axis_name=axis),
}


def same(key, image):
  return image


@layouts.everywhere
@pytest.mark.parametrize("name", list(LEARNERS))
def test_eight_devices_make_the_steps_of_one(name, layout):
  layouts.check_layout(LEARNERS[name], layout)


def test_the_error_is_of_the_image_before_it_was_damaged():
  objective = autoencoder(*NETS[:2], lambda key, image: 0.5 * image, normalize=lambda x: 2 * x)
  params, extra = jax.jit(objective.init)(jax.random.key(0), layouts.BATCH)
  value, _ = jax.jit(objective.loss)(params, extra, layouts.BATCH, jax.random.key(1))
  image = (layouts.BATCH["image"] / 255).astype(np.float32)
  pooled = NETS[0].apply({"params": params["encoder"]}, image).pooled
  drawn = np.asarray(NETS[1].apply({"params": params["decoder"]}, pooled), np.float64)
  np.testing.assert_allclose(value, np.square(drawn - 2 * image).mean(), rtol=1e-5)


@pytest.fixture(scope="module")
def start():
  """Parameters, and loss and metrics of images as they are for other options."""
  objective = feature_synthesis(*NETS, same)
  params, extra = jax.jit(objective.init)(jax.random.key(0), layouts.BATCH)

  def loss(params, **options):
    loss = feature_synthesis(*NETS, same, **options).loss
    value, (_, metrics) = loss(params, extra, layouts.BATCH, jax.random.key(1))
    return value, metrics

  return params, loss


def test_without_noise_the_pair_is_one_image_drawn_twice(start):
  params, loss = start
  _, metrics = jax.jit(lambda p: loss(p, share=0.0, temperature=0.5))(params)
  image = (layouts.BATCH["image"] / 255).astype(np.float32)
  encode = lambda image: NETS[0].apply({"params": params["encoder"]}, image).pooled
  drawn = NETS[1].apply({"params": params["decoder"]}, encode(image))

  def contrast(image):  # NT-Xent of a batch and itself
    z = np.float64(NETS[2].apply({"params": params["projector"]}, encode(image)))
    z = np.concatenate([z, z]) / np.linalg.norm(z, axis=1)[np.r_[:16, :16], None]
    cosine = z @ z.T / 0.5
    others = np.exp(cosine).sum(1) - np.exp(np.diag(cosine))
    return np.log(others).mean() - 1 / 0.5

  np.testing.assert_allclose(metrics["contrast"], contrast(image), rtol=1e-5)
  np.testing.assert_allclose(metrics["synthesis"], contrast(drawn), rtol=1e-5)
  assert metrics["perturbed"] == 0


def test_at_random_as_many_dimensions_change_as_by_the_two_measures(start):
  params, loss = start
  chosen, drawn = (
    jax.jit(lambda p, r=r: loss(p, share=0.25, at_random=r))(params)[1] for r in (False, True)
  )
  assert chosen["perturbed"] == drawn["perturbed"]
  # Two of eight by either measure: all four, or fewer where the measures agree.
  assert 0.25 <= chosen["perturbed"] <= 0.5
  assert abs(chosen["synthesis"] - drawn["synthesis"]) > 1e-4


def test_images_that_were_drawn_are_data(start):
  params, loss = start
  alone = lambda p: loss(p, reconstruction_weight=0.0)[1]["synthesis"]
  grad = jax.jit(jax.grad(alone))(params)
  largest = lambda tree: max(float(np.abs(x).max()) for x in jax.tree.leaves(tree))
  assert largest(grad["decoder"]) == 0
  assert largest(grad["encoder"]) > 1e-5 and largest(grad["projector"]) > 1e-5
