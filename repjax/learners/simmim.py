"""SimMIM: hide patches, predict their pixels from what is left."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.augment import to_float
from repjax.encoders import patchify
from repjax.learners.learner import Objective, apply_module, example_keys, init_module
from repjax.learners.masking import Reconstruction, hide, paste
from repjax.learners.spread import spread
from repjax.losses import masked_pixels


def simmim(
  encoder: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  patch_size: int,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  ratio: float = 0.6,
  unit: int = 1,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of SimMIM: a linear layer predicts hidden patches.

  Args:
    encoder: a `ViT`: images ``[batch, height, width, channels]`` to `Features`, with ``mask=``.
    augment: ``(key, image) -> image`` for one image in [0, 1].
    patch_size: that of the encoder, in pixels.
    normalize: last step before the encoder, in training and in ``encode``; what is predicted is
      normalised too.
    ratio: share of the image that is hidden, in (0, 1); the paper settles on 0.6.
    unit: side of a hidden square, in patches; the paper hides squares of 32 pixels.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective.

  References:
    Xie et al., `SimMIM: A Simple Framework for Masked Image Modeling
    <https://arxiv.org/abs/2111.09886>`_, 2021, section 3 and eq. 1.
  """
  masks = jax.vmap(functools.partial(hide, patch_size=patch_size, ratio=ratio, unit=unit))

  def init(key, batch):
    k_encoder, k_head, k_mask = jax.random.split(key, 3)
    image = normalize(to_float(batch["image"]))
    mask = masks(jax.random.split(k_mask, len(image)), image)
    params, rest = init_module(encoder, k_encoder, image, mask=mask)
    features = encoder.apply({"params": params, **rest}, image)
    head = _head(image, patch_size, features.tokens).init(k_head, features.tokens)["params"]
    return {"encoder": params, "head": head}, rest

  def loss(params, extra, batch, key):
    image = to_float(batch["image"])
    k_augment, k_mask = (
      example_keys(k, len(image), axis_name=axis_name) for k in jax.random.split(key)
    )
    image = normalize(jax.vmap(augment)(k_augment, image))
    mask = masks(k_mask, image)
    features, extra = apply_module(encoder, params["encoder"], extra, image, mask=mask, train=True)
    head = _head(image, patch_size, features.tokens)
    prediction = head.apply({"params": params["head"]}, features.tokens)
    target = patchify(image, patch_size)
    metrics = spread(features.pooled, axis_name=axis_name)
    return jnp.mean(masked_pixels(prediction, target, mask)), (extra, metrics)

  def encode(params, extra, image):
    return apply_module(encoder, params["encoder"], extra, normalize(to_float(image)))[0]

  return Objective(init, loss, encode)


def reconstruct(
  encoder: nn.Module, params: dict, extra: dict, image: jax.Array, mask: jax.Array, patch_size: int
) -> Reconstruction:
  """Fills hidden patches in.

  Args:
    encoder: as given to `simmim`.
    params: as trained by `simmim`.
    extra: likewise.
    image: ``[batch, height, width, channels]``, normalised.
    mask: ``[batch, patches]`` bool, what to hide.
    patch_size: that of the encoder, in pixels.

  Returns:
    The images.
  """
  features, _ = apply_module(encoder, params["encoder"], extra, image, mask=mask)
  head = _head(image, patch_size, features.tokens)
  pixels = head.apply({"params": params["head"]}, features.tokens)
  return paste(image, pixels, mask, patch_size)


def _head(image: jax.Array, patch_size: int, tokens: jax.Array) -> nn.Dense:
  # In the encoder's dtype: it is as large as one of an attention's products.
  return nn.Dense(patch_size**2 * image.shape[-1], dtype=tokens.dtype)
