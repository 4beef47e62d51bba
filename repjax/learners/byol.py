"""BYOL: predict what a teacher, a moving average of oneself, says of the other view."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax import losses
from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.teacher import Schedule
from repjax.learners.views import Crops, joint_embedding


def byol(
  encoder: nn.Module,
  projector: nn.Module,
  predictor: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  momentum: Schedule = 0.996,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of BYOL.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``; the teacher has one too.
    predictor: ``[batch, proj] -> [batch, proj]``; the teacher has none.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn twice per example.
    momentum: of the teacher; in the paper 0.996 at first and 1 in the end (`rising_momentum`).
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective.

  References:
    Grill et al., `Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning
    <https://arxiv.org/abs/2006.07733>`_, 2020, section 3.1, eq. 1 and 2.
  """

  def loss(seen):
    (p_1, p_2), (z_1, z_2) = [
      (view.predicted for view in seen.online),
      (view.projected for view in seen.target),
    ]
    return jnp.mean(losses.byol(p_1, z_2) + losses.byol(p_2, z_1))

  return joint_embedding(
    Network(encoder, projector, predictor),
    [Crops(augment, 2)],
    loss,
    normalize=normalize,
    momentum=momentum,
    axis_name=axis_name,
  )
