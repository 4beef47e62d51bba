"""VICReg: let two views agree while every dimension varies and no two vary together."""

from collections.abc import Callable

import jax
from flax import linen as nn

from repjax import losses
from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.views import Crops, joint_embedding


def vicreg(
  encoder: nn.Module,
  projector: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  invariance_weight: float = 25.0,
  variance_weight: float = 25.0,
  covariance_weight: float = 1.0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of VICReg.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``; the paper's expander, three layers of 8192.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn twice per example.
    invariance_weight: of the distance of views.
    variance_weight: of what standard deviations lack to 1.
    covariance_weight: of what dimensions have in common.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective.

  References:
    Bardes et al., `VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised
    Learning <https://arxiv.org/abs/2105.04906>`_, 2021, algorithm 1.
  """

  def loss(seen):
    z_1, z_2 = (view.projected for view in seen.online)
    return losses.vicreg(
      z_1,
      z_2,
      invariance_weight=invariance_weight,
      variance_weight=variance_weight,
      covariance_weight=covariance_weight,
      axis_name=axis_name,
    )

  return joint_embedding(
    Network(encoder, projector),
    [Crops(augment, 2)],
    loss,
    normalize=normalize,
    axis_name=axis_name,
  )
