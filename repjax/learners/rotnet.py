"""RotNet: see by which quarter of a turn an image was rotated."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.arrays import at_least_float32, cross_entropy
from repjax.augment import quarter_turns, to_float
from repjax.learners.learner import Objective, apply_module, example_keys, init_module
from repjax.learners.spread import spread


def rotnet(
  encoder: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of RotNet: every image at all four quarters of a turn, told apart.

  All four copies of an image are in its batch, which the paper found better than one drawn at
  random. What is used afterwards is a layer before the last (``encode(...).layers``): the last
  ones serve the pretext. Keep rotations out of ``augment``.

  Args:
    encoder: square images ``[batch, size, size, channels]`` to `Features`.
    augment: ``(key, image) -> image`` for one image in [0, 1], drawn once for all four copies.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. Its metrics are ``rotation_accuracy`` and those of `spread`, of upright images.

  References:
    Gidaris et al., `Unsupervised Representation Learning by Predicting Image Rotations
    <https://arxiv.org/abs/1803.07728>`_, 2018, eq. 2 and 3, section 3.1.
  """
  head = nn.Dense(4)

  def init(key, batch):
    k_encoder, k_head = jax.random.split(key)
    image = normalize(to_float(batch["image"]))
    params, rest = init_module(encoder, k_encoder, image)
    features = encoder.apply({"params": params, **rest}, image)
    return {"encoder": params, "head": head.init(k_head, features.pooled)["params"]}, rest

  def loss(params, extra, batch, key):
    image = to_float(batch["image"])
    keys = example_keys(key, len(image), axis_name=axis_name)
    # The copies of an image are neighbours, so that a batch split over devices stays where it is.
    turned = jax.vmap(quarter_turns)(jax.vmap(augment)(keys, image))
    turned = normalize(turned.reshape(-1, *turned.shape[2:]))
    features, extra = apply_module(encoder, params["encoder"], extra, turned, train=True)
    logits = at_least_float32(head.apply({"params": params["head"]}, features.pooled))
    turns = jnp.tile(jnp.arange(4), len(image))
    metrics = {
      "rotation_accuracy": jnp.mean(jnp.argmax(logits, -1) == turns),
      **spread(features.pooled[::4], axis_name=axis_name),
    }
    return jnp.mean(cross_entropy(logits, turns)), (extra, metrics)

  def encode(params, extra, image):
    return apply_module(encoder, params["encoder"], extra, normalize(to_float(image)))[0]

  return Objective(init, loss, encode)
