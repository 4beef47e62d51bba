"""MRL: a classifier whose features can be cut short."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.arrays import cross_entropy
from repjax.augment import to_float
from repjax.heads import NestedLinear
from repjax.learners.learner import (
  Objective,
  apply_module,
  example_keys,
  init_module,
  labelled_mean,
)
from repjax.learners.spread import spread


def mrl(
  encoder: nn.Module,
  classes: int,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  sizes: Sequence[int],
  weights: Sequence[float] | None = None,
  tied: bool = False,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of a classifier by every prefix of its features.

  .. math:: \ell = \sum_m c_m \operatorname{CE}\!\big(y, s_m(z_{1:m})\big)

  The logits are those of `repjax.heads.NestedLinear`. With one size it is the paper's fixed-feature
  net of that size: what lies beyond is neither trained nor to be used. Losses other than cross
  entropy are nested by `repjax.losses.matryoshka`.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    classes: number of classes.
    augment: ``(key, image) -> image`` for one image in [0, 1].
    sizes: lengths of the prefixes, ascending; 8 to 2048 by powers of two in the paper.
    weights: :math:`c_m`, one a size; 1 each if absent, as in the paper.
    tied: whether the sizes share one classifier (MRL-E).
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; ``batch["label"]`` is ``[batch]`` int32, and -1 leaves an example out. Metrics
    are ``accuracy_{size}`` on the augmented batch and those of `spread`.

  Raises:
    ValueError: if there is not a weight a size.

  References:
    Kusupati et al., `Matryoshka Representation Learning <https://arxiv.org/abs/2205.13147>`_, 2022,
    section 3, equation 1; ``MRL.py`` of https://github.com/RAIVNLab/MRL.
  """
  sizes = tuple(sizes)
  weights = (1.0,) * len(sizes) if weights is None else tuple(weights)
  if len(weights) != len(sizes):
    raise ValueError(f"expected a weight for each of sizes {list(sizes)}, got {list(weights)}")
  head = NestedLinear(classes, sizes, tied)

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
    mean = labelled_mean(label, axis_name=axis_name)
    total, metrics = 0.0, {}
    for size, weight, own in zip(sizes, weights, logits, strict=True):
      total += weight * mean(cross_entropy(own, label))
      metrics[f"accuracy_{size}"] = mean(jnp.argmax(own, -1) == label)
    return total, (extra, metrics | spread(features.pooled, axis_name=axis_name))

  def encode(params, extra, image):
    return apply_module(encoder, params["encoder"], extra, normalize(to_float(image)))[0]

  return Objective(init, loss, encode)
