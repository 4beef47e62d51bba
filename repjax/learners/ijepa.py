"""I-JEPA: from one large block of an image, predict what a teacher makes of several others."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.augment import Blocks, multi_block
from repjax.learners.context import (
  ContextNetwork,
  at_targets,
  flat_blocks,
  predict_from_context,
)
from repjax.learners.learner import Objective
from repjax.learners.masking import patch_grid
from repjax.learners.teacher import Schedule
from repjax.losses import latent_prediction


def ijepa(
  encoder: nn.Module,
  predictor: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  patch_size: int,
  divide: Callable[[jax.Array, tuple[int, int]], Blocks] = multi_block,
  momentum: Schedule = 0.996,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of I-JEPA.

  Args:
    encoder: a `ViT`: images ``[batch, height, width, channels]`` to `Features`, with ``keep=``.
    predictor: ``(tokens, at, targets) -> [batch, asked, dim]``, a `TokenPredictor` whose ``out`` is
      the encoder's width; narrower than the encoder in the paper.
    augment: ``(key, image) -> image`` for one image in [0, 1]; the paper crops and nothing else.
    patch_size: that of the encoder, in pixels.
    divide: ``(key, grid) -> places`` for one image, those that the encoder sees and those of each
      block that is predicted.
    momentum: of the teacher; in the paper it rises linearly from 0.996 to 1.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. The error is that of the authors' code, smooth and of standardised targets, where
    the paper states a squared one.

  References:
    Assran et al., `Self-Supervised Learning from Images with a Joint-Embedding Predictive
    Architecture <https://arxiv.org/abs/2301.08243>`_, 2023, section 3.
  """

  def loss(seen):
    target = at_targets(seen.whole.tokens, seen.parts)
    return jnp.mean(latent_prediction(flat_blocks(seen.predicted), target, normalize_target=True))

  return predict_from_context(
    ContextNetwork(encoder, predictor),
    lambda key, image: divide(key, patch_grid(image, patch_size)),
    loss,
    augment=augment,
    normalize=normalize,
    momentum=momentum,
    axis_name=axis_name,
  )
