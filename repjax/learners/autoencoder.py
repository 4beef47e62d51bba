"""Auto-encoder: features from which the image can be drawn again."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.augment import to_float
from repjax.learners.learner import Objective, apply_module, example_keys, init_module
from repjax.learners.spread import spread


def autoencoder(
  encoder: nn.Module,
  decoder: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array] = lambda key, image: image,
  *,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of an auto-encoder: squared error of the pixels.

  With an ``augment`` that damages the image it is a denoising one: what is drawn is the image as
  it was.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    decoder: ``[batch, dim] -> [batch, height, width, channels]``, such as `PixelDecoder`.
    augment: ``(key, image) -> image`` of the same shape, for one image in [0, 1].
    normalize: last step before the encoder, in training and in ``encode``; of what is drawn too.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. Its metrics are those of `spread`.

  References:
    Hinton and Salakhutdinov, `Reducing the Dimensionality of Data with Neural Networks
    <https://doi.org/10.1126/science.1127647>`_, 2006.
    Vincent et al., `Extracting and Composing Robust Features with Denoising Autoencoders
    <https://doi.org/10.1145/1390156.1390294>`_, 2008.
  """

  def init(key, batch):
    k_encoder, k_decoder = jax.random.split(key)
    image = normalize(to_float(batch["image"]))
    params, rest = init_module(encoder, k_encoder, image)
    pooled = encoder.apply({"params": params, **rest}, image).pooled
    return {"encoder": params, "decoder": decoder.init(k_decoder, pooled)["params"]}, rest

  def loss(params, extra, batch, key):
    image = to_float(batch["image"])
    keys = example_keys(key, len(image), axis_name=axis_name)
    seen = normalize(jax.vmap(augment)(keys, image))
    features, extra = apply_module(encoder, params["encoder"], extra, seen, train=True)
    drawn = decoder.apply({"params": params["decoder"]}, features.pooled, train=True)
    metrics = spread(features.pooled, axis_name=axis_name)
    return jnp.mean(jnp.square(drawn - normalize(image))), (extra, metrics)

  def encode(params, extra, image):
    return apply_module(encoder, params["encoder"], extra, normalize(to_float(image)))[0]

  return Objective(init, loss, encode)
