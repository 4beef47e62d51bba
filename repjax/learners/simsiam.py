"""SimSiam: predict one's own embedding of the other view, which no gradient reaches."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax import losses
from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.views import Crops, joint_embedding


def simsiam(
  encoder: nn.Module,
  projector: nn.Module,
  predictor: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of SimSiam.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``; three layers in the paper, all normalised.
    predictor: ``[batch, proj] -> [batch, proj]``; in the paper a bottleneck of a quarter of the
      width. Its learning rate does not decay there, which is the optimizer's to do.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn twice per example.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective.

  References:
    Chen and He, `Exploring Simple Siamese Representation Learning
    <https://arxiv.org/abs/2011.10566>`_, 2020, algorithm 1 and eq. 4.
  """

  def loss(seen):
    p_1, p_2 = (view.predicted for view in seen.online)
    z_1, z_2 = (view.projected for view in seen.target)
    return jnp.mean(losses.simsiam(p_1, z_2) + losses.simsiam(p_2, z_1)) / 2

  return joint_embedding(
    Network(encoder, projector, predictor),
    [Crops(augment, 2)],
    loss,
    normalize=normalize,
    axis_name=axis_name,
  )
