"""SCAN: put an image and its neighbours into one cluster, then learn from confident images."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax import losses
from repjax.augment import to_float
from repjax.learners.learner import (
  Objective,
  apply_module,
  example_keys,
  init_module,
  join_views,
  part_views,
)
from repjax.learners.network import Network, encode_with
from repjax.learners.spread import spread
from repjax.learners.views import Crops, joint_embedding


def scan(
  encoder: nn.Module,
  head: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  entropy_weight: float = 5.0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of SCAN's clustering step.

  The encoder starts with what a pretext task taught it (`start_from`), and neighbours are those of
  that task's features (`mine_neighbors`). Clusters are the arg max of the head; of several heads
  the paper keeps the one of least loss. An image and its neighbour go through the net together;
  the authors' code has two passes.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    head: ``[batch, dim] -> [batch, clusters]`` logits; a linear layer in the paper.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn for image and neighbour apart.
    entropy_weight: of the mean prediction, 5 in the paper.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; ``batch["neighbors"]`` is ``[batch, k, height, width, channels]`` uint8, of which
    each step draws one an image. It has the parameters of a `Network`, the head as ``projector``.

  References:
    Van Gansbeke et al., `SCAN: Learning to Classify Images without Labels
    <https://arxiv.org/abs/2005.12320>`_, 2020, section 2.2, eq. 2.
  """
  network = Network(encoder, head)

  def views(batch, key, axis_name=axis_name):
    image, neighbors = batch["image"], batch["neighbors"]
    k_draw, *k_views = (
      example_keys(k, len(image), axis_name=axis_name) for k in jax.random.split(key, 3)
    )
    draw = lambda k, of_one: of_one[jax.random.randint(k, (), 0, len(of_one))]
    pair = to_float(image), to_float(jax.vmap(draw)(k_draw, neighbors))
    return [jax.vmap(augment)(k, x) for k, x in zip(k_views, pair, strict=True)]

  def init(key, batch):
    k_network, k_views = jax.random.split(key)  # no axis is mapped yet
    params, rest = init_module(network, k_network, normalize(views(batch, k_views, None)[0]))
    return params, {"rest": rest}

  def loss(params, extra, batch, key):
    image = normalize(join_views(views(batch, key)))
    seen, rest = apply_module(network, params, extra["rest"], image, train=True)
    anchors, neighbors = part_views(seen.projected, 2)
    value = losses.scan(anchors, neighbors, entropy_weight=entropy_weight, axis_name=axis_name)
    metrics = spread(part_views(seen.features.pooled, 2)[0], axis_name=axis_name)
    same = jnp.argmax(anchors, -1) == jnp.argmax(neighbors, -1)
    metrics["agreement"] = jnp.mean(same, dtype=jnp.float32)
    return value, ({"rest": rest}, metrics)

  def encode(params, extra, image):
    return encode_with(encoder, params, extra["rest"], normalize(to_float(image)))

  return Objective(init, loss, encode)


def self_label(
  encoder: nn.Module,
  head: nn.Module,
  weak: Callable[[jax.Array, jax.Array], jax.Array],
  strong: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  threshold: float = 0.99,
  balance: bool = True,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of SCAN's self-labelling step.

  Of images whose cluster is certain from a weakly augmented view, it is learned from a strongly
  augmented one. It starts with what `scan` learned.

  Args:
    encoder: as given to `scan`.
    head: as given to `scan`.
    weak: ``(key, image) -> image``, as in `scan`.
    strong: ``(key, image) -> image``; RandAugment and Cutout in the paper.
    threshold: probability above which an image is confident, 0.99 in the paper.
    balance: whether clusters count equally.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; it has the parameters of a `Network`, the head as ``projector``.

  References:
    Van Gansbeke et al., `SCAN: Learning to Classify Images without Labels
    <https://arxiv.org/abs/2005.12320>`_, 2020, section 2.3.
  """

  def loss(seen):
    logits = [view.projected for view in seen.online]
    options = {"threshold": threshold, "balance": balance}
    return losses.self_label(*logits, axis_name=axis_name, **options)

  return joint_embedding(
    Network(encoder, head),
    [Crops(weak, 1), Crops(strong, 1)],
    loss,
    normalize=normalize,
    axis_name=axis_name,
  )
