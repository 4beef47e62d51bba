"""OBoW: which words come in, which distance scales, what a crop is asked for."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from repjax.learners import Crops, obow
from repjax.learners.obow import _Classifier

pytestmark = pytest.mark.usefixtures("unoptimized")
SAME = lambda key, image: image
IMAGE = layouts.BATCH["image"] / np.float32(255)


def small(key, image):
  return layouts.noise(key, image[:4, :4])


CROPS = [Crops(layouts.noise, 2), Crops(small, 1)]


def make(axis, crops=CROPS, **options):
  options = {"words": 24, "momentum": 0.9, "border": 0, "window": 2} | options
  return obow(layouts.Tiny(2), crops, SAME, axis_name=axis, **options)


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(make, layout)


def found(params, border):
  """The teacher's places, ``[batch, side, side, dim]``."""
  tokens = layouts.Tiny(2).apply({"params": params["encoder"]}, IMAGE).tokens
  inner = slice(border, 4 - border)
  return np.asarray(tokens, np.float64).reshape(16, 4, 4, -1)[:, inner, inner]


def test_each_image_gives_the_mean_of_neighbours_at_some_place_as_a_word():
  start, (first, second), _ = layouts.steps(make)
  before, after = start.extra["memory"]["words"].rows, first.extra["memory"]["words"].rows
  maps = found(start.params, 0)
  means = sum(maps[:, i : 3 + i, j : 3 + j] for i in (0, 1) for j in (0, 1)) / 4
  distance = np.abs(means.reshape(16, 9, -1) - after[:16, None]).max(-1)
  assert distance.min(1).max() < 1e-5
  assert len(set(distance.argmin(1))) > 1
  np.testing.assert_array_equal(after[16:], before[16:])
  assert int(second.extra["memory"]["words"].next) == 32 % 24


def test_a_vocabulary_can_stay_from_a_step_on():
  _, (first, second), _ = layouts.steps(lambda axis: make(axis, renew_steps=1))
  rows = lambda state: state.extra["memory"]["words"].rows
  np.testing.assert_array_equal(rows(second), rows(first))
  assert np.abs(rows(first) - rows(layouts.steps(make)[0])).max() > 1e-2


def test_each_crop_tells_the_bag_of_words_of_the_places_within_the_border():
  half = lambda key, image: image / 2
  crops = [Crops(SAME, 1), Crops(half, 2)]
  objective = make(None, crops, border=1, inverse_delta=3.0, kappa=2.0)
  params, extra = jax.jit(objective.init)(jax.random.key(0), layouts.BATCH)
  value, (after, _) = jax.jit(objective.loss)(params, extra, layouts.BATCH, jax.random.key(1))
  words = np.asarray(extra["memory"]["words"].rows, np.float64)
  places = found(params, 1).reshape(16, 4, 1, -1)
  squared = np.sum(np.square(places - words[None, None]), -1)
  distance = 0.99 * 0.5 + 0.01 * squared.min(-1).mean()
  np.testing.assert_allclose(after["memory"]["distance"], distance, rtol=1e-5)
  bags = softmax(-3.0 * squared / distance, -1).max(1)
  bags /= bags.sum(1, keepdims=True)
  weights = np.asarray(_Classifier().apply({"params": params["predictor"]}, jnp.asarray(words)))
  np.testing.assert_allclose(np.linalg.norm(weights, axis=1), 1, rtol=1e-5)

  def told(image):
    pooled = layouts.Tiny(2).apply({"params": params["encoder"]}, image).pooled
    return -np.mean(np.sum(bags * log_softmax(2.0 * pooled @ weights.T, -1), -1))

  np.testing.assert_allclose(value, told(IMAGE) + told(IMAGE / 2), rtol=1e-4)


def test_a_map_too_small_for_border_and_window_is_refused():
  with pytest.raises(ValueError, match="16 places, border=1 and window=3 need a square of"):
    jax.eval_shape(make(None, border=1, window=3).init, jax.random.key(0), layouts.BATCH)
