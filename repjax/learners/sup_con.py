"""SupCon: views of one label agree, and disagree with those of the others."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax import losses
from repjax.learners.learner import Objective, join_views
from repjax.learners.network import Network
from repjax.learners.views import Crops, joint_embedding
from repjax.losses.layout import batch_mean


def sup_con(
  encoder: nn.Module,
  projector: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  temperature: float = 0.1,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of supervised contrastive learning.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``; dropped after training.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn twice per example.
    temperature: softmax temperature, > 0.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; ``batch["label"]`` is ``[batch]`` int32, and an example of -1 takes part in
    nothing, neither as an anchor nor as a negative.

  References:
    Khosla et al., `Supervised Contrastive Learning <https://arxiv.org/abs/2004.11362>`_, 2020,
    eq. 2.
  """

  def loss(seen):
    # An example's views side by side, so that no row moves between devices.
    z = join_views([view.projected for view in seen.online])
    label = jnp.repeat(seen.batch["label"], 2)
    per_view = losses.sup_con(z, label, temperature=temperature, axis_name=axis_name)
    return batch_mean(per_view, axis_name, where=label >= 0)

  return joint_embedding(
    Network(encoder, projector),
    [Crops(augment, 2)],
    loss,
    normalize=normalize,
    axis_name=axis_name,
  )
