"""MoCo: pick the teacher's key of the other view out of a queue, or out of the batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.arrays import at_least_float32, l2_normalize
from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.queue import push, start_queue
from repjax.learners.teacher import Schedule
from repjax.learners.views import Crops, joint_embedding
from repjax.losses import info_nce


def moco(
  encoder: nn.Module,
  projector: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  momentum: Schedule = 0.999,
  queue_size: int = 65536,
  temperature: float = 0.2,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of MoCo v2: a queue of keys from a slowly moving teacher.

  The first view asks, the second is the key, as in the paper's code. Batch norm sees the whole
  batch; the paper's shuffling is for batches that are normalised apart on each device.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``; v2 has two layers.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn twice per example.
    momentum: of the teacher.
    queue_size: keys that are kept, at least a batch.
    temperature: softmax temperature, > 0.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. The queue starts as random unit vectors.

  References:
    He et al., `Momentum Contrast for Unsupervised Visual Representation Learning
    <https://arxiv.org/abs/1911.05722>`_, 2019, algorithm 1.
    Chen et al., `Improved Baselines with Momentum Contrastive Learning
    <https://arxiv.org/abs/2003.04297>`_, 2020.
  """
  keys = lambda seen: l2_normalize(at_least_float32(seen.target[1].projected))

  def loss(seen):
    return jnp.mean(
      info_nce(
        seen.online[0].projected,
        keys(seen),
        seen.memory.rows,
        temperature=temperature,
        in_batch=False,
        axis_name=axis_name,
      )
    )

  return joint_embedding(
    Network(encoder, projector),
    [Crops(augment, 2)],
    loss,
    normalize=normalize,
    momentum=momentum,
    memory=lambda key, target: start_queue(key, queue_size, target.projected.shape[-1]),
    remember=lambda seen: push(seen.memory, keys(seen), axis_name=axis_name),
    axis_name=axis_name,
  )


def moco_v3(
  encoder: nn.Module,
  projector: nn.Module,
  predictor: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  momentum: Schedule = 0.99,
  temperature: float = 0.2,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of MoCo v3: keys of the batch, a predictor, both directions.

  The paper also freezes a ViT's patch embedding at its random values, against instability; that is
  the optimizer's to do.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``; the teacher has one too.
    predictor: ``[batch, proj] -> [batch, proj]``; the teacher has none.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn twice per example.
    momentum: of the teacher; in the paper 0.99 at first and 1 in the end (`rising_momentum`).
    temperature: softmax temperature, > 0.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective.

  References:
    Chen et al., `An Empirical Study of Training Self-Supervised Vision Transformers
    <https://arxiv.org/abs/2104.02057>`_, 2021, algorithm 1.
  """

  def contrast(query, key):
    per_image = info_nce(query, key, temperature=temperature, axis_name=axis_name)
    return 2 * temperature * jnp.mean(per_image)

  def loss(seen):
    q_1, q_2 = (view.predicted for view in seen.online)
    k_1, k_2 = (view.projected for view in seen.target)
    return contrast(q_1, k_2) + contrast(q_2, k_1)

  return joint_embedding(
    Network(encoder, projector, predictor),
    [Crops(augment, 2)],
    loss,
    normalize=normalize,
    momentum=momentum,
    axis_name=axis_name,
  )
