"""Barlow Twins: make the cross-correlation of two views the identity."""

from collections.abc import Callable

import jax
from flax import linen as nn

from repjax import losses
from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.views import Crops, joint_embedding


def barlow_twins(
  encoder: nn.Module,
  projector: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  redundancy_weight: float = 5e-3,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of Barlow Twins.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``; in the paper three layers of 8192, far wider than
      features are.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn twice per example.
    redundancy_weight: of what dimensions have in common; the paper finds 5e-3 for 8192 of them.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective.

  References:
    Zbontar et al., `Barlow Twins: Self-Supervised Learning via Redundancy Reduction
    <https://arxiv.org/abs/2103.03230>`_, 2021, algorithm 1.
  """

  def loss(seen):
    z_1, z_2 = (view.projected for view in seen.online)
    return losses.barlow_twins(z_1, z_2, redundancy_weight=redundancy_weight, axis_name=axis_name)

  return joint_embedding(
    Network(encoder, projector),
    [Crops(augment, 2)],
    loss,
    normalize=normalize,
    axis_name=axis_name,
  )
