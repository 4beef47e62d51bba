"""NNCLR: pick the prediction of the other view by one's nearest neighbour in a queue."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.arrays import at_least_float32, l2_normalize
from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.queue import nearest, push, start_queue
from repjax.learners.views import Crops, joint_embedding
from repjax.losses import info_nce


def nnclr(
  encoder: nn.Module,
  projector: nn.Module,
  predictor: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  queue_size: int = 98304,
  temperature: float = 0.1,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of NNCLR.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``; dropped after training.
    predictor: ``[batch, proj] -> [batch, proj]``; dropped too.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn twice per example.
    queue_size: projections of the first view that are kept as the support set, at least a batch.
    temperature: softmax temperature, > 0.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. The queue starts as random unit vectors, and neighbours are looked up before the
    batch goes in. No gradient reaches them.

  References:
    Dwibedi et al., `With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning of
    Visual Representations <https://arxiv.org/abs/2104.14548>`_, 2021, algorithm 1.
  """

  def contrast(seen, own, other):
    neighbour = nearest(seen.memory, seen.target[own].projected)
    return jnp.mean(
      info_nce(
        neighbour, seen.online[other].predicted, temperature=temperature, axis_name=axis_name
      )
    )

  def remember(seen):
    rows = l2_normalize(at_least_float32(seen.target[0].projected))
    return push(seen.memory, rows, axis_name=axis_name)

  return joint_embedding(
    Network(encoder, projector, predictor),
    [Crops(augment, 2)],
    lambda seen: (contrast(seen, 0, 1) + contrast(seen, 1, 0)) / 2,
    normalize=normalize,
    memory=lambda key, target: start_queue(key, queue_size, target.projected.shape[-1]),
    remember=remember,
    axis_name=axis_name,
  )
