"""Self-distillation: what the whole of a net says is what its first layers shall say too."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.arrays import at_least_float32, cross_entropy, standardize
from repjax.augment import to_float
from repjax.learners.learner import (
  Objective,
  apply_module,
  example_keys,
  init_module,
  labelled_mean,
)
from repjax.learners.spread import spread
from repjax.losses import soft_labels


def self_distillation(
  encoder: nn.Module,
  classes: int,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  weight: float = 1.0,
  temperature: float = 3.0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of a classifier whose layers before the last learn what it says.

  .. math:: \ell = \operatorname{CE}(y, t) + \frac{\lambda}{L - 1} \sum_{i < L}
    \tau^2 \operatorname{KL}\!\left(\operatorname{softmax}(t / \tau) \,\middle\|\,
      \operatorname{softmax}(s_i / \tau)\right)

  of the net's logits t and those :math:`s_i` of a linear layer on what its i-th layer has,
  averaged over places and standardised. In a transformer that is the sum over all paths up to
  block i, so that long paths teach the short ones that they start from; with
  `repjax.encoders.PathEnsemble` the teacher is the weighted sum. No gradient reaches the teacher
  this way. The linear layers of the short paths are dropped after training.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features` of two ``layers`` or more.
    classes: number of classes.
    augment: ``(key, image) -> image`` for one image in [0, 1].
    weight: lambda >= 0.
    temperature: of both softmaxes, > 0.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; ``batch["label"]`` is ``[batch]`` int32, and of an example with -1 the net alone
    speaks. Metrics are both losses, ``accuracy`` on the augmented batch and those of `spread`.

  Raises:
    ValueError: at ``init``, if the encoder has a single layer.

  References:
    Zhang et al., `Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via
    Self Distillation <https://arxiv.org/abs/1905.08094>`_, 2019, section 3, whose labels and
    features for the short paths are left out.
    Chang et al., `Revisiting Vision Transformer from the View of Path Ensemble
    <https://arxiv.org/abs/2308.06548>`_, 2023, abstract; more of its text was not at hand, and
    where a path's class is read and by which divergence is ours.
  """
  head = nn.Dense(classes)

  def rows(layer):
    return standardize(at_least_float32(jnp.mean(layer, tuple(range(1, layer.ndim - 1)))))

  def init(key, batch):
    k_encoder, k_head = jax.random.split(key)
    image = normalize(to_float(batch["image"]))
    params, rest = init_module(encoder, k_encoder, image)
    features = encoder.apply({"params": params, **rest}, image)
    *short, _ = features.layers
    if not short:
      raise ValueError("an encoder of 1 layer has none to teach; choose a deeper one")
    exits = {
      f"exit_{i}": head.init(jax.random.fold_in(k_head, i), rows(layer))["params"]
      for i, layer in enumerate(short)
    }
    head_params = head.init(k_head, features.pooled)["params"]
    return {"encoder": params, "head": head_params, **exits}, rest

  def loss(params, extra, batch, key):
    image, label = to_float(batch["image"]), batch["label"]
    keys = example_keys(key, len(image), axis_name=axis_name)
    image = normalize(jax.vmap(augment)(keys, image))
    features, extra = apply_module(encoder, params["encoder"], extra, image, train=True)
    say = lambda name, x: head.apply({"params": params[name]}, x).astype(jnp.float32)
    logits = say("head", features.pooled)
    short = [say(f"exit_{i}", rows(layer)) for i, layer in enumerate(features.layers[:-1])]
    apart = [jnp.mean(soft_labels(s, logits, temperature=temperature)) for s in short]

    mean = labelled_mean(label, axis_name=axis_name)
    label_loss, short_loss = mean(cross_entropy(logits, label)), sum(apart) / len(apart)
    metrics = {
      "label_loss": label_loss,
      "short_loss": short_loss,
      "accuracy": mean(jnp.argmax(logits, -1) == label),
      **spread(features.pooled, axis_name=axis_name),
    }
    return label_loss + weight * short_loss, (extra, metrics)

  def encode(params, extra, image):
    return apply_module(encoder, params["encoder"], extra, normalize(to_float(image)))[0]

  return Objective(init, loss, encode)
