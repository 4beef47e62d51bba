"""DINO: say of every crop what a centred, sharpened teacher says of the large ones."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax import losses
from repjax.learners.freeze import hold_prototypes
from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.teacher import Schedule, at_step
from repjax.learners.views import Crops, joint_embedding


def dino(
  encoder: nn.Module,
  head: nn.Module,
  crops: Sequence[Crops],
  *,
  momentum: Schedule = 0.996,
  student_temperature: float = 0.1,
  teacher_temperature: Schedule = 0.04,
  center_momentum: float = 0.9,
  freeze_steps: int = 0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of DINO.

  Args:
    encoder: images ``[batch, height, width, channels]`` of every size of crop to `Features`.
    head: ``[batch, dim] -> [batch, prototypes]``, such as `Prototypes` with an MLP.
    crops: the global ones, two in the paper, then the local ones.
    momentum: of the teacher; in the paper 0.996 at first and 1 in the end (`rising_momentum`).
    student_temperature: > 0.
    teacher_temperature: > 0; in the paper it rises from 0.04 to 0.07 over 30 epochs
      (`rising_temperature`).
    center_momentum: of the mean of the teacher's scores.
    freeze_steps: updates before prototypes move; those of an epoch in the authors' code.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; features are the teacher's, as in the paper.

  References:
    Caron et al., `Emerging Properties in Self-Supervised Vision Transformers
    <https://arxiv.org/abs/2104.14294>`_, 2021, algorithm 1.
  """
  scores = lambda views: jnp.stack([view.projected for view in views])

  def loss(seen):
    per_image = losses.dino(
      scores(seen.online),
      scores(seen.target),
      seen.memory,
      student_temperature=student_temperature,
      teacher_temperature=at_step(teacher_temperature, seen.step),
    )
    return jnp.mean(per_image)

  def remember(seen):
    return losses.update_center(
      seen.memory, scores(seen.target), momentum=center_momentum, axis_name=axis_name
    )

  objective = joint_embedding(
    Network(encoder, head),
    crops,
    loss,
    normalize=normalize,
    momentum=momentum,
    memory=lambda key, target: jnp.zeros(target.projected.shape[-1]),
    remember=remember,
    encode_teacher=True,
    axis_name=axis_name,
  )
  return hold_prototypes(objective, freeze_steps)
