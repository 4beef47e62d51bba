"""What masked learners predict with, and what they make of hidden patches, for the report."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.setup import Setup
from repjax.augment import to_float
from repjax.encoders import TokenPredictor
from repjax.evaluate.pictures import Reconstructions
from repjax.learners import Reconstruction, reconstruct, reconstruct_mae
from repjax.learners.masking import hide, split
from repjax.train import hosts
from repjax.train.launch import Settings


def token_predictor(setup: Setup, out: int) -> TokenPredictor:
  """A narrow transformer over the places of an image."""
  encoder, side = setup.encoder, setup.image_size // setup.encoder.patch_size
  width = max(encoder.dim // 2, 32)
  return TokenPredictor(width, 2, encoder.heads, out, (side, side), dtype=setup.dtype)


def mae_decoder(setup: Setup) -> TokenPredictor:
  """From the tokens that are seen to the pixels of hidden patches."""
  return token_predictor(setup, setup.channels * setup.encoder.patch_size**2)


def of_simmim(settings: Settings, setup: Setup, state: Any, images: np.ndarray) -> Reconstructions:
  """Images of the test split, hidden in part, and what SimMIM makes of them."""
  patch = setup.encoder.patch_size
  ratio = 0.6 if settings.ratio is None else settings.ratio
  draw = functools.partial(hide, patch_size=patch, ratio=ratio, unit=settings.unit)
  fill = lambda state, image, mask: reconstruct(
    setup.encoder, state.params, state.extra, image, mask, patch
  )
  return _filled(settings, setup, state, images, draw, fill)


def of_mae(settings: Settings, setup: Setup, state: Any, images: np.ndarray) -> Reconstructions:
  """Images of the test split, hidden in part, and what MAE makes of them."""
  patch = setup.encoder.patch_size
  ratio = 0.75 if settings.ratio is None else settings.ratio
  draw = functools.partial(split, patch_size=patch, ratio=ratio)
  fill = lambda state, image, parts: reconstruct_mae(
    setup.encoder, mae_decoder(setup), state.params, state.extra, image, parts, patch
  )
  return _filled(settings, setup, state, images, draw, fill)


def _filled(
  settings: Settings,
  setup: Setup,
  state: Any,
  images: np.ndarray,
  draw: Callable[[jax.Array, jax.Array], Any],
  fill: Callable[..., Reconstruction],
) -> Reconstructions:
  """Draws what is hidden, fills it in, and turns it back into pixels."""
  keys = jax.random.split(jax.random.key(settings.seed), len(images))
  image = setup.normalize(to_float(jnp.asarray(images)))
  hidden = jax.vmap(draw)(keys, image)
  # One program and what it gives on every host, since several may hold the state.
  given = jax.tree.map(np.asarray, (image, hidden))
  filled = hosts.fetch(jax.jit(fill)(state, *given))
  # Back from normalised to displayed pixels: the normalisation is affine, channel by channel.
  offset = setup.normalize(jnp.zeros((1, 1, 1, setup.channels)))
  scale = setup.normalize(jnp.ones((1, 1, 1, setup.channels))) - offset
  shown = [np.asarray(jnp.clip((x - offset) / scale, 0, 1)) for x in filled]
  return Reconstructions(images, *shown)
