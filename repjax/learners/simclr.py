"""SimCLR: agree on two augmented views, disagree with everyone else."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.views import Crops, joint_embedding
from repjax.losses import nt_xent


def simclr(
  encoder: nn.Module,
  projector: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  temperature: float = 0.5,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of SimCLR.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``; dropped after training.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn twice per example.
    normalize: last step before the encoder, in training and in ``encode``.
    temperature: softmax temperature, > 0.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective.

  References:
    Chen et al., `A Simple Framework for Contrastive Learning of Visual Representations
    <https://arxiv.org/abs/2002.05709>`_, 2020, algorithm 1.
  """

  def loss(seen):
    z_1, z_2 = (view.projected for view in seen.online)
    return jnp.mean(nt_xent(z_1, z_2, temperature=temperature, axis_name=axis_name))

  return joint_embedding(
    Network(encoder, projector),
    [Crops(augment, 2)],
    loss,
    normalize=normalize,
    axis_name=axis_name,
  )
