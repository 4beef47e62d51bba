"""LLaVE's weighting: of the other images, those that look alike count more."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.views import Crops, joint_embedding
from repjax.losses import hardness_weighted_info_nce


def llave(
  encoder: nn.Module,
  projector: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  temperature: float = 0.02,
  alpha: float = 0.5,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of hardness-weighted contrast of two views.

  The paper embeds a query and its target, text or image or both, with a language model; here both
  sides are views of an image.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn twice per example.
    temperature: softmax temperature, > 0.
    alpha: how strongly the similarity of a negative raises its weight; 0 leaves them equal.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any; negatives come from all of it.

  Returns:
    The objective.

  References:
    Lan et al., `LLaVE: Large Language and Vision Embedding Models with Hardness-Weighted
    Contrastive Learning <https://arxiv.org/abs/2503.04812>`_, 2025, section 3.
  """

  def loss(seen):
    z_1, z_2 = (view.projected for view in seen.online)
    return jnp.mean(
      hardness_weighted_info_nce(
        z_1, z_2, temperature=temperature, alpha=alpha, axis_name=axis_name
      )
    )

  return joint_embedding(
    Network(encoder, projector),
    [Crops(augment, 2)],
    loss,
    normalize=normalize,
    axis_name=axis_name,
  )
