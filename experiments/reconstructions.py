"""What a masked learner makes of hidden patches, as pictures for the report."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.setup import Setup
from repjax.augment import random_mask, to_float
from repjax.evaluate.pictures import Reconstructions
from repjax.learners import reconstruct
from repjax.train import hosts
from repjax.train.launch import Settings


def of_simmim(settings: Settings, setup: Setup, state, images) -> Reconstructions:
  """Images of the test split, hidden in part, and what the model makes of them."""
  side = setup.image_size // setup.encoder.patch_size
  keys = jax.random.split(jax.random.key(settings.seed), len(images))
  draw = lambda key: random_mask(key, (side, side), ratio=settings.ratio, unit=settings.unit)
  mask = jax.vmap(draw)(keys).reshape(len(images), -1)
  image = setup.normalize(to_float(jnp.asarray(images)))
  fill = lambda state, *shown: reconstruct(
    setup.encoder, state.params, state.extra, *shown, setup.encoder.patch_size
  )
  # One program and what it gives on every host, since several may hold the state.
  filled = hosts.fetch(jax.jit(fill)(state, np.asarray(image), np.asarray(mask)))
  # Back from normalised to displayed pixels: the normalisation is affine, channel by channel.
  offset = setup.normalize(jnp.zeros((1, 1, 1, setup.channels)))
  scale = setup.normalize(jnp.ones((1, 1, 1, setup.channels))) - offset
  shown = [np.asarray(jnp.clip((x - offset) / scale, 0, 1)) for x in filled]
  return Reconstructions(images, *shown)
