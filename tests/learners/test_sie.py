"""SIE: parts, the transformation between views, and a predictor that is linear given it."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np

from repjax.augment import adjust_hue, turn_and_tint, turn_and_tint_between
from repjax.encoders import MLP
from repjax.learners import Hypernetwork, Split, sie

RNG = np.random.default_rng(0)


NETWORK = Split(layouts.Tiny(), 5, MLP((4,)), MLP((6, 3)), Hypernetwork())


def brighten(key, image):
  by = jax.random.uniform(key, (1,), minval=0.5, maxval=1.5)
  return image * by[0], jnp.log(by)


def difference(p_1, p_2):
  return p_2 - p_1


LEARNERS = {"sie": lambda axis: sie(NETWORK, brighten, difference, axis_name=axis)}


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(LEARNERS["sie"], layout)


def test_turn_and_tint_does_what_it_says():
  image = RNG.uniform(size=(9, 9, 3)).astype(np.float32)
  both = jax.jit(turn_and_tint, static_argnames="degrees")
  out, (angle, hue) = both(jax.random.key(3), image, degrees=0)
  assert angle == 0 and abs(hue) > 0.05
  np.testing.assert_allclose(out, adjust_hue(image, hue), atol=1e-6)
  blob = np.zeros((31, 31, 1), np.float32)
  blob[15, 22] = 1  # seven pixels to the right of the centre
  out, (angle, _) = both(jax.random.key(3), blob)
  row, column = np.argwhere(np.asarray(out[..., 0]) > 0).mean(0) - 15
  np.testing.assert_allclose([-row, column], [7 * np.sin(angle), 7 * np.cos(angle)], atol=0.7)


def test_between_two_views_is_the_angle_that_leads_from_one_to_the_other():
  p_1, p_2 = RNG.uniform(-3, 3, (2, 6, 2)).astype(np.float32)
  between = np.asarray(turn_and_tint_between(p_1, p_2))
  first, second = np.exp(1j * p_1[:, 0]), np.exp(1j * p_2[:, 0])
  np.testing.assert_allclose((between[:, 0] + 1j * between[:, 1]) * first, second, atol=1e-5)
  first, second = np.exp(2j * np.pi * p_1[:, 1]), np.exp(2j * np.pi * p_2[:, 1])
  np.testing.assert_allclose((between[:, 2] + 1j * between[:, 3]) * first, second, atol=1e-5)


def test_the_predictor_is_linear_in_what_it_moves_and_depends_on_the_transformation():
  module, z, g = Hypernetwork((5,)), RNG.normal(size=(4, 3)), RNG.normal(size=(4, 2))
  z, g = z.astype(np.float32), g.astype(np.float32)
  params = jax.jit(module.init)(jax.random.key(0), z, g)
  move = jax.jit(lambda z, g: module.apply(params, z, g))
  mixed = move(2 * z - 3 * z[::-1], g)
  np.testing.assert_allclose(mixed, 2 * move(z, g) - 3 * move(z[::-1], g), atol=1e-5)
  assert np.abs(move(z, g) - move(z, g[::-1])).max() > 1e-2


def test_the_loss_is_that_of_the_parts_and_the_moved_part():
  objective = sie(
    NETWORK, lambda key, image: (image, image[0, 0]), lambda p_1, p_2: p_1, variance_weight=0.0,
    covariance_weight=0.0,
  )  # fmt: skip
  params, extra = jax.jit(objective.init)(jax.random.key(0), layouts.BATCH)
  value, _ = jax.jit(objective.loss)(params, extra, layouts.BATCH, jax.random.key(1))
  # Both views are the image: invariant parts agree, and the error is of the prediction alone.
  image = (layouts.BATCH["image"] / 255).astype(np.float32)
  pooled = layouts.Tiny().apply({"params": params["encoder"]}, image).pooled
  dense = lambda x, layer: np.float64(x) @ layer["kernel"] + np.asarray(layer["bias"])[None]
  mlp, entries = params["equivariant_projector"], params["predictor"]["entries"]
  z = dense(np.maximum(dense(pooled[:, 5:], mlp["dense_0"]), 0), mlp["dense_1"])
  rho = dense(image[:, 0, 0], entries).reshape(-1, 3, 3)
  error = np.square(np.einsum("bij,bj->bi", rho, z) - z).mean()
  np.testing.assert_allclose(value, 4.5 * error, rtol=1e-4)
