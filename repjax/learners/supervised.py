"""Supervised classification: the encoder that labels make."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from repjax.augment import to_float
from repjax.learners.learner import (
  Objective,
  apply_module,
  example_keys,
  init_module,
  labelled_mean,
)
from repjax.learners.spread import spread


def supervised(
  encoder: nn.Module,
  classes: int,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  label_smoothing: float = 0.0,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of a classifier: cross entropy over a linear layer.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    classes: number of classes.
    augment: ``(key, image) -> image`` for one image in [0, 1].
    normalize: last step before the encoder, in training and in ``encode``.
    label_smoothing: share of the target spread over all classes, in [0, 1).
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; ``batch["label"]`` is ``[batch]`` int32, and -1 leaves an example out. Its
    metrics are ``accuracy`` on the augmented batch and those of `spread`.
  """
  head = nn.Dense(classes)

  def init(key, batch):
    k_encoder, k_head = jax.random.split(key)
    image = normalize(to_float(batch["image"]))
    params, rest = init_module(encoder, k_encoder, image)
    features = encoder.apply({"params": params, **rest}, image)
    return {"encoder": params, "head": head.init(k_head, features.pooled)["params"]}, rest

  def loss(params, extra, batch, key):
    image, label = to_float(batch["image"]), batch["label"]
    keys = example_keys(key, len(image), axis_name=axis_name)
    image = normalize(jax.vmap(augment)(keys, image))
    features, extra = apply_module(encoder, params["encoder"], extra, image, train=True)
    logits = head.apply({"params": params["head"]}, features.pooled).astype(jnp.float32)

    target = optax.smooth_labels(jax.nn.one_hot(label, classes), label_smoothing)
    per_example = optax.softmax_cross_entropy(logits, target)
    mean = labelled_mean(label, axis_name=axis_name)
    metrics = {
      "accuracy": mean(jnp.argmax(logits, -1) == label),
      **spread(features.pooled, axis_name=axis_name),
    }
    return mean(per_example), (extra, metrics)

  def encode(params, extra, image):
    return apply_module(encoder, params["encoder"], extra, normalize(to_float(image)))[0]

  return Objective(init, loss, encode)
