"""BT^2: a new model that old indexes understand, by turns and a few more dimensions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.arrays import cross_entropy, l2_normalize
from repjax.augment import to_float
from repjax.encoders import Features
from repjax.learners.learner import (
  Objective,
  apply_module,
  example_keys,
  init_module,
  labelled_mean,
)
from repjax.learners.spread import spread
from repjax.losses import feature_cosine


def bt2(
  encoder: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  classifier: jax.Array,
  *,
  dim: int,
  added: int,
  share: float = 2.0,
  hold: float = 10.0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of BT^2.

  A linear layer of the encoder gives ``dim`` numbers y, which shall be those of a new model that
  was trained for itself, and others from which a second layer makes ``added`` more, x. With both at
  unit length, orthogonal P and Q and k the width of the old features,

  .. math::
    v = [x, P (s y)], \qquad u = [Q v_{1:k}, v_{k+1:}], \qquad
    \ell = \mathrm{CE}(y) + 1 - \cos(y, z^{\mathrm{new}})
      + \lambda \big(1 - \cos(u_{1:k}, z^{\mathrm{old}}) + \mathrm{CE}(u_{1:k} W^{\mathrm{old}})
      \big)

  Turns lose nothing: what u says of two images is ``s^2`` parts of the new model and one of x,
  which holds what the old model needs and the new one does not have. P chooses which of the new
  model's dimensions are turned into the old space. Both are exponentials of skew matrices, here
  from the identity; the code starts from random turns.

  Both models' features come with the batch, as an index has them: no model before is run.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    augment: ``(key, image) -> image`` for one image in [0, 1].
    classifier: ``[classes, k]``, means of old features of each class, by whose products u is told
      apart; its rows' length is their temperature.
    dim: width of the new model's features.
    added: dimensions that u has on top of ``dim``, at most k and at least ``k - dim``.
    share: s > 0, ``C`` in the code, which takes 2 on CIFAR-100 and 3 by default.
    hold: lambda >= 0.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. ``batch["old"]`` is ``[batch, k]``, ``batch["new"]`` ``[batch, dim]`` and
    ``batch["label"]`` ``[batch]`` int32, where -1 leaves an example out of both cross entropies.
    ``encode`` gives u, ``[batch, dim + added]``, whose first k dimensions are for old indexes and
    all for new ones. Metrics are ``accuracy`` of the new classifier, ``old_apart`` and
    ``new_apart``, the losses to either model, and those of `spread`.

  Raises:
    ValueError: if ``added`` does not fit.

  References:
    Zhou et al., `BT^2: Backward-compatible Training with Basis Transformation
    <https://arxiv.org/abs/2211.03989>`_, 2022, whose text was not at hand beyond its abstract;
    ``ResNet_ortho`` in ``models/resnet.py`` and ``trainers/transfer_trainer.py`` of
    https://github.com/YifeiZhou02/BT-2 are followed.
  """
  classifier = jnp.asarray(classifier, jnp.float32)
  classes, kept = classifier.shape
  if not max(1, kept - dim) <= added <= kept:
    raise ValueError(
      f"added={added} dimensions of {dim=} and {kept} old ones; choose from "
      f"{max(1, kept - dim)} to {kept}"
    )
  layer = nn.Dense(dim + kept)
  more = nn.Dense(added)
  head = nn.Dense(classes, use_bias=False)

  def init(key, batch):
    k_encoder, k_layer, k_more, k_head = jax.random.split(key, 4)
    image = normalize(to_float(batch["image"]))
    params, rest = init_module(encoder, k_encoder, image)
    pooled = encoder.apply({"params": params, **rest}, image).pooled
    of = lambda module, key, x: module.init(key, x)["params"]
    params = {
      "encoder": params,
      "layer": of(layer, k_layer, pooled),
      "more": of(more, k_more, jnp.zeros((1, dim + kept))),
      "head": of(head, k_head, jnp.zeros((1, dim))),
      "turn_new": jnp.zeros((dim, dim)),
      "turn_old": jnp.zeros((kept, kept)),
    }
    return params, {"rest": rest}

  def features(params, rest, image, *, train=False):
    """Encoder's features, those like the new model's, and those for old indexes and new."""
    out, rest = apply_module(encoder, params["encoder"], rest, image, train=train)
    hidden = layer.apply({"params": params["layer"]}, out.pooled).astype(jnp.float32)
    y = l2_normalize(hidden[:, :dim])
    x = l2_normalize(more.apply({"params": params["more"]}, jax.nn.relu(hidden)))
    turned = (share * y) @ _turn(params["turn_new"])
    whole = jnp.concatenate([x, turned], 1)
    old = whole[:, :kept] @ _turn(params["turn_old"])
    return out, y, jnp.concatenate([old, whole[:, kept:]], 1), rest

  def loss(params, extra, batch, key):
    image, label = to_float(batch["image"]), batch["label"]
    keys = example_keys(key, len(image), axis_name=axis_name)
    image = normalize(jax.vmap(augment)(keys, image))
    _, y, compared, rest = features(params, extra["rest"], image, train=True)
    first = compared[:, :kept]
    logits = head.apply({"params": params["head"]}, y)
    told = cross_entropy(logits, label)
    told_by_old = cross_entropy(l2_normalize(first) @ classifier.T, label)
    mean = labelled_mean(label, axis_name=axis_name)
    metrics = {
      "accuracy": mean(jnp.argmax(logits, -1) == label),
      "new_apart": jnp.mean(feature_cosine(y, batch["new"])),
      "old_apart": jnp.mean(feature_cosine(first, batch["old"])),
      **spread(compared, axis_name=axis_name),
    }
    held = metrics["old_apart"] + mean(told_by_old)
    value = mean(told) + metrics["new_apart"] + hold * held
    return value, ({"rest": rest}, metrics)

  def encode(params, extra, image):
    out, _, compared, _ = features(params, extra["rest"], normalize(to_float(image)))
    return Features(compared, out.tokens, out.layers)

  return Objective(init, loss, encode)


def _turn(free: jax.Array) -> jax.Array:
  """An orthogonal matrix: the exponential of the skew part of any."""
  return jax.scipy.linalg.expm(free - free.T)
