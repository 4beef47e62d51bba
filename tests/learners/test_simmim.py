"""SimMIM: what is hidden stays hidden, and is all that is asked for."""

from collections.abc import Callable

import jax
import numpy as np
import pytest
from flax import linen as nn

from repjax.encoders import Features, ViT
from repjax.learners import reconstruct, simmim

PATCH, ROWS = 4, 4
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(6, PATCH * ROWS, PATCH * ROWS, 3)).astype(np.float32)
BATCH = {"image": IMAGES}


class Blank(nn.Module):
  """Sees nothing, so that the head predicts its bias, which is 0 at first; notes the masks."""

  see: Callable[[np.ndarray], None]

  def __call__(self, image, *, train=False, mask=None):
    if train:
      self.see(np.asarray(mask))
    tokens = np.zeros((len(image), ROWS * ROWS, 8), np.float32)
    return Features(tokens[:, 0], tokens, ())


def evaluate(key=1, **options):
  seen = []
  objective = simmim(Blank(seen.append), lambda key, image: image, patch_size=PATCH, **options)
  params, extra = objective.init(jax.random.key(0), BATCH)
  value, _ = objective.loss(params, extra, BATCH, jax.random.key(key))
  return value, seen[0]


def to_pixels(mask, unit=PATCH):
  """``[batch, patches]`` as ``[batch, height, width, 1]``."""
  side = ROWS * PATCH // unit
  return mask.reshape(-1, side, side, 1).repeat(unit, 1).repeat(unit, 2)


@pytest.mark.parametrize(("ratio", "unit", "hidden"), [(0.6, 1, 10), (0.5, 2, 8), (0.6, 2, 12)])
def test_masks_hide_the_ratio_in_whole_units(ratio, unit, hidden):
  _, mask = evaluate(ratio=ratio, unit=unit)
  assert (mask.sum(1) == hidden).all()
  units = mask.reshape(6, ROWS // unit, unit, ROWS // unit, unit)
  np.testing.assert_array_equal(units.any((2, 4)), units.all((2, 4)))


def test_images_and_steps_have_masks_of_their_own():
  masks = np.concatenate([evaluate(key, ratio=0.5)[1] for key in (1, 2)])
  assert len(np.unique(masks, axis=0)) == 12


def test_the_loss_is_the_error_of_normalised_hidden_pixels():
  value, mask = evaluate(normalize=lambda image: 4 * image - 1)
  where = np.broadcast_to(to_pixels(mask), IMAGES.shape)
  wanted = np.abs(4 * IMAGES.astype(np.float64) - 1)[where].mean()
  np.testing.assert_allclose(value, wanted, rtol=1e-5)


@pytest.fixture(scope="module")
def model():
  """A net in which no parameter is at a special value, and a mask."""
  encoder = ViT(patch_size=PATCH, dim=16, depth=1, heads=2)
  objective = simmim(encoder, lambda key, image: image, patch_size=PATCH)
  params, extra = jax.jit(objective.init)(jax.random.key(0), BATCH)
  params = jax.tree.map(lambda x: x + 0.1 * RNG.normal(size=x.shape).astype(np.float32), params)
  mask = RNG.uniform(size=(6, ROWS * ROWS)) < 0.6
  fill = jax.jit(lambda image: reconstruct(encoder, params, extra, image, mask, PATCH))
  return fill, to_pixels(mask)


def test_hidden_pixels_do_not_reach_the_prediction(model):
  fill, hidden = model
  ours, wanted = fill(np.where(hidden, 9.0, IMAGES)), fill(IMAGES)
  jax.tree.map(np.testing.assert_array_equal, ours, wanted)


def test_visible_pixels_do_reach_the_prediction(model):
  fill, hidden = model
  changed = fill(np.where(hidden, IMAGES, 9.0)).predicted - fill(IMAGES).predicted
  assert np.abs(changed).min() > 0


def test_reconstructions_keep_what_is_visible(model):
  fill, hidden = model
  hidden = np.broadcast_to(hidden, IMAGES.shape)
  out = jax.tree.map(np.asarray, fill(IMAGES))
  for image in (out.pasted, out.masked):
    np.testing.assert_array_equal(image[~hidden], IMAGES[~hidden])
  np.testing.assert_array_equal(out.pasted[hidden], out.predicted[hidden])
  assert (out.masked[hidden] == 0).all()
