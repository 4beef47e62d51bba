"""SlotCon: groups in the box that views share, slots that both have, prototypes that follow."""

from functools import partial

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from repjax.augment import place_crop, place_whole, placed
from repjax.encoders import MLP
from repjax.learners import slotcon

pytestmark = pytest.mark.usefixtures("unoptimized")
IMAGE = layouts.BATCH["image"] / np.float32(255)


def make(axis, place=None, patch_size=2, **options):
  crop = placed(partial(place_crop, size=8, area=(0.4, 1.0)), layouts.noise)
  projector = MLP((8, 4), norm="batch", axis_name=axis)
  options = {"slots": 5, "momentum": 0.9, "axis_name": axis} | options
  return slotcon(layouts.Tiny(patch_size), projector, MLP((4,)), place or crop, **options)


def value(objective):
  params, extra = jax.jit(objective.init)(jax.random.key(0), layouts.BATCH)
  return params, *jax.jit(objective.loss)(params, extra, layouts.BATCH, jax.random.key(1))


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(make, layout)


def test_prototypes_are_learned_and_the_teachers_follow():
  start, states, _ = layouts.steps(make)
  teacher = start.extra["teacher"].params["prototypes"]
  assert "predictor" not in start.extra["teacher"].params
  for state in states:
    teacher = 0.9 * teacher + 0.1 * state.params["prototypes"]
    np.testing.assert_allclose(state.extra["teacher"].params["prototypes"], teacher, rtol=1e-5)
  moved = np.abs(states[0].params["prototypes"] - start.params["prototypes"])
  assert moved.max() > 1e-5


def unit(x):
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-6)


def test_both_ways_grouping_and_slots_are_compared_with_the_teacher():
  params, loss, (extra, _) = value(make(None, place_whole, group_weight=0.3))
  tokens = layouts.Tiny(2).apply({"params": params["encoder"]}, IMAGE).tokens
  module = MLP((8, 4), norm="batch")
  stats = {"norm_0": {"mean": np.zeros(8, np.float32), "var": np.ones(8, np.float32)}}
  variables = {"params": params["projector"], "batch_stats": stats}
  pixels = module.apply(variables, tokens, train=True, mutable=["batch_stats"])[0]
  pixels = np.asarray(pixels, np.float64)
  scores = unit(pixels) @ unit(np.asarray(params["prototypes"], np.float64)).T
  grouping = -np.mean(np.sum(softmax(scores / 0.07, -1) * log_softmax(scores / 0.1, -1), -1))
  weight = softmax(scores / 0.07, -1) + 1e-6
  slots = np.einsum("bpk,bpd->bkd", weight / weight.sum(1, keepdims=True), pixels)
  wins = (scores.argmax(-1)[..., None] == np.arange(5)).any(1).reshape(-1)
  query = MLP((4,)).apply({"params": params["predictor"]}, slots.astype(np.float32))
  query, key = (unit(np.asarray(x, np.float64).reshape(-1, 4))[wins] for x in (query, slots))
  logits = query @ key.T / 0.2
  contrast = 0.4 * np.mean(logsumexp(logits, 1) - np.diag(logits))
  np.testing.assert_allclose(loss, 2 * (0.3 * grouping + 0.7 * contrast), rtol=1e-4)
  np.testing.assert_allclose(extra["memory"], 0.1 * scores.mean((0, 1)), rtol=1e-4, atol=1e-6)


def mirrored(key, image):
  """Half of the views the other way round."""
  turn = jax.random.bernoulli(key)
  sign = jnp.where(turn, -1.0, 1.0)
  placement = jnp.zeros((2, 3)).at[0, 0].set(1.0).at[1, 1].set(sign)
  return jnp.where(turn, image[:, ::-1], image), placement


def test_a_mirrored_view_is_compared_where_it_shows_the_same():
  # The encoder looks at single pixels, so that mirroring moves scores and changes none.
  seen = lambda place: value(make(None, place, patch_size=1, group_weight=1.0))[1]
  whole = seen(place_whole)
  np.testing.assert_allclose(seen(mirrored), whole, rtol=1e-5)
  lying = lambda key, image: (mirrored(key, image)[0], jnp.eye(2, 3))
  assert abs(seen(lying) - whole) > 1e-2


def test_images_whose_views_share_nothing_are_left_out():
  def elsewhere(key, image):
    return image, jnp.eye(2, 3).at[1, 2].set(jax.random.uniform(key) * 1e6)

  assert value(make(None, elsewhere))[1] == 0
