"""MAE: encode a quarter of the patches, decode the pixels of the others."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.arrays import at_least_float32
from repjax.augment import Blocks
from repjax.encoders import patchify
from repjax.learners.context import (
  ContextNetwork,
  at_targets,
  flat_blocks,
  predict_from_context,
)
from repjax.learners.learner import Objective, Tree
from repjax.learners.masking import Reconstruction, paste, split
from repjax.losses import masked_pixels


def mae(
  encoder: nn.Module,
  decoder: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  patch_size: int,
  ratio: float = 0.75,
  normalize_target: bool = True,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of a masked autoencoder.

  Args:
    encoder: a `ViT`: images ``[batch, height, width, channels]`` to `Features`, with ``keep=``.
    decoder: ``(tokens, at, targets) -> [batch, asked, pixels]``, a `TokenPredictor` whose ``out``
      is the number of values of a patch. In the paper it is 8 blocks of 512.
    augment: ``(key, image) -> image`` for one image in [0, 1]; a crop and a flip suffice.
    patch_size: that of the encoder, in pixels.
    ratio: share of the patches that is hidden, in (0, 1).
    normalize_target: whether pixels are standardised patch by patch before they are compared.
    normalize: last step before the encoder, in training and in ``encode``; what is predicted is
      normalised too.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective.

  References:
    He et al., `Masked Autoencoders Are Scalable Vision Learners
    <https://arxiv.org/abs/2111.06377>`_, 2021, section 3.
  """

  def loss(seen):
    target = at_targets(patchify(seen.inputs, patch_size), seen.parts)
    hidden = jnp.ones(target.shape[:2], bool)
    per_image = masked_pixels(
      flat_blocks(seen.predicted), target, hidden, norm="l2", normalize_target=normalize_target
    )
    return jnp.mean(per_image)

  return predict_from_context(
    ContextNetwork(encoder, decoder),
    functools.partial(split, patch_size=patch_size, ratio=ratio),
    loss,
    augment=augment,
    normalize=normalize,
    axis_name=axis_name,
  )


def reconstruct_mae(
  encoder: nn.Module,
  decoder: nn.Module,
  params: Tree,
  extra: Tree,
  image: jax.Array,
  parts: Blocks,
  patch_size: int,
  *,
  normalize_target: bool = True,
) -> Reconstruction:
  """Fills hidden patches in.

  Args:
    encoder: as given to `mae`.
    decoder: likewise.
    params: as trained by `mae`.
    extra: likewise.
    image: ``[batch, height, width, channels]``, normalised.
    parts: places that are seen and places that are hidden; `repjax.learners.masking.split` draws.
    patch_size: that of the encoder, in pixels.
    normalize_target: as given to `mae`; each predicted patch then gets the true one's mean and
      deviation, which is what the authors' pictures show.

  Returns:
    The images. Nothing is predicted where the image is seen.
  """
  variables = {"params": params, **extra["rest"]}
  _, predicted = ContextNetwork(encoder, decoder).apply(variables, image, parts)
  truth = at_least_float32(patchify(image, patch_size))
  pixels, hidden = flat_blocks(predicted), parts.targets.reshape(len(image), -1)
  if normalize_target:
    true = at_targets(truth, parts)
    deviation = jnp.sqrt(jnp.var(true, -1, ddof=1, keepdims=True) + 1e-6)
    pixels = pixels * deviation + jnp.mean(true, -1, keepdims=True)
  put = jax.vmap(lambda patches, where, values: patches.at[where].set(values))
  mask = put(jnp.zeros(truth.shape[:2], bool), hidden, jnp.ones(hidden.shape, bool))
  return paste(image, put(truth, hidden, pixels.astype(truth.dtype)), mask, patch_size)
