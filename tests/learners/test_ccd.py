"""CCD: which characters, where they are in a view, what is said of them."""

from functools import partial

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

from repjax.augment import place_affine, place_whole
from repjax.encoders import MLP, Prototypes
from repjax.learners import ccd

pytestmark = pytest.mark.usefixtures("unoptimized")
RNG = np.random.default_rng(0)
HEAD = Prototypes(6, MLP((4,)))
# Two strokes an image, of which the right one is long.
WRITTEN = np.zeros((16, 8, 16), bool)
WRITTEN[:, 1:4, 2:4] = True
WRITTEN[:, 2:7, 9:12] = True
IMAGE = np.where(WRITTEN[..., None], RNG.integers(180, 256, (16, 8, 16, 1)), 20).astype(np.uint8)
BATCH = {"image": IMAGE, "label": np.zeros(16, np.int32)}


def make(axis, place=None, **options):
  moved = partial(place_affine, degrees=10, scale=(0.8, 1.0), translate=0.1)
  options = {"characters": 3, "least_pixels": 4, "momentum": 0.9, "axis_name": axis} | options
  return ccd(layouts.Tiny(2), HEAD, place or moved, patch_size=2, **options)


def value(objective):
  params, extra = jax.jit(objective.init)(jax.random.key(0), BATCH)
  loss, (extra, _) = jax.jit(objective.loss)(params, extra, BATCH, jax.random.key(1))
  return params, loss, extra["memory"]


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(partial(make, segment_steps=1), layout, batch=lambda: BATCH)


def by_patch(x):
  return x.reshape(-1, 4, 2, 8, 2).swapaxes(2, 3).reshape(-1, 32, 4)


def scores_of(params, parts):
  """Scores of the characters that cover ``parts``, over all images, and tokens."""
  tokens = layouts.Tiny(2).apply({"params": params["encoder"]}, IMAGE / np.float32(255)).tokens
  tokens = np.asarray(tokens)
  features = []
  for part in parts:
    weight = by_patch(part).mean(-1)
    features.append(np.sum(tokens * weight[..., None], 1) / weight.sum(1)[:, None])
  features = np.concatenate(features).astype(np.float32)
  scores = HEAD.apply({"params": params["projector"]}, features)
  return np.asarray(scores, np.float64), tokens


def test_characters_are_compared_with_the_teacher_and_what_is_written_is_told():
  params, loss, memory = value(make(None, place_whole))
  left = WRITTEN & (np.arange(16) < 8)
  scores, tokens = scores_of(params, [left, WRITTEN & ~left])
  entropy = -np.mean(np.sum(softmax(scores / 0.04, -1) * log_softmax(scores / 0.1, -1), -1))
  head = jax.tree.map(np.asarray, params["patch_projector"]["dense_0"])
  chance = expit(np.float64(tokens @ head["kernel"] + head["bias"]))
  told = -np.mean(np.log(np.where(by_patch(WRITTEN), chance, 1 - chance)))
  np.testing.assert_allclose(loss, entropy + told, rtol=1e-4)
  np.testing.assert_allclose(memory, 0.1 * scores.mean(0), rtol=1e-4, atol=1e-6)


def mirrored(key, image):
  """Half of the views the other way round."""
  turn = jax.random.bernoulli(key)
  sign = jnp.where(turn, -1.0, 1.0)
  placement = jnp.zeros((2, 3)).at[0, 0].set(1.0).at[1, 1].set(sign)
  return jnp.where(turn, image[:, ::-1], image), placement


def test_a_character_is_found_again_where_its_view_has_moved_it():
  # The encoder sees single pixels and both strokes lie on whole ones: mirroring changes nothing.
  objective = lambda place: ccd(
    layouts.Tiny(1), HEAD, place, patch_size=1, characters=3, least_pixels=4
  )
  np.testing.assert_allclose(value(objective(mirrored))[1], value(objective(place_whole))[1], 1e-5)


def test_parts_below_the_least_size_are_no_characters():
  params, _, memory = value(make(None, place_whole, least_pixels=10))
  scores, _ = scores_of(params, [WRITTEN & (np.arange(16) >= 8)])
  np.testing.assert_allclose(memory, 0.1 * scores.mean(0), rtol=1e-4, atol=1e-6)


def test_in_time_characters_come_from_the_segmentation_head():
  objective = make(None, place_whole, segment_steps=3)
  params, extra = jax.jit(objective.init)(jax.random.key(0), BATCH)
  # A head that says of everything that it is written: one character, the whole image.
  told = {"kernel": jnp.zeros((8, 4)), "bias": jnp.ones(4)}
  params = params | {"patch_projector": {"dense_0": told}}
  extra = extra | {"step": jnp.asarray(3, jnp.int32)}
  _, (extra, _) = jax.jit(objective.loss)(params, extra, BATCH, jax.random.key(1))
  scores, _ = scores_of(params, [np.ones_like(WRITTEN)])
  np.testing.assert_allclose(extra["memory"], 0.1 * scores.mean(0), rtol=1e-4, atol=1e-6)
