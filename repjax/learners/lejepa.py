"""LeJEPA: every view predicts the mean of the large ones, and embeddings are held to a normal."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax import losses
from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.views import Crops, joint_embedding


def lejepa(
  encoder: nn.Module,
  projector: nn.Module,
  crops: Sequence[Crops],
  *,
  sigreg_weight: float = 0.05,
  slices: int = 1024,
  knots: int = 17,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of LeJEPA: no teacher, no stopped gradient, no negatives.

  Args:
    encoder: images ``[batch, height, width, channels]`` of every size of crop to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``; dropped after training.
    crops: the global ones, two in the paper, then the local ones.
    sigreg_weight: of the distance to a normal distribution, against that of the views, in [0, 1].
    slices: random directions in which embeddings are looked at, drawn anew each step.
    knots: points at which characteristic functions are compared, > 1.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective.

  References:
    Balestriero and LeCun, `LeJEPA: Provable and Scalable Self-Supervised Learning Without the
    Heuristics <https://arxiv.org/abs/2511.08544>`_, 2025; we follow the `authors' code
    <https://github.com/rbalestr-lab/lejepa>`_.
  """

  def loss(seen):
    return losses.lejepa(
      jnp.stack([view.projected for view in seen.online], 1),
      seen.key,
      sigreg_weight=sigreg_weight,
      global_views=crops[0].count,
      slices=slices,
      knots=knots,
      axis_name=axis_name,
    )

  return joint_embedding(
    Network(encoder, projector), crops, loss, normalize=normalize, axis_name=axis_name
  )
