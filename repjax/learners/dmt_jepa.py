"""DMT-JEPA: I-JEPA whose targets are gathered from those neighbours that are most alike."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.arrays import at_least_float32, standardize
from repjax.augment import Blocks, multi_block
from repjax.encoders.transformer import Attention, FeedForward, norm
from repjax.learners.context import (
  ContextNetwork,
  at_targets,
  flat_blocks,
  predict_from_context,
)
from repjax.learners.learner import Objective
from repjax.learners.masking import patch_grid
from repjax.learners.teacher import Schedule
from repjax.losses import dmt_targets, latent_prediction


class Aggregator(nn.Module):
  """Blocks in which a patch attends over its like, or over all that is seen.

  Attributes:
    heads: attention heads; divides the width.
    depth: number of blocks, two in the authors' code.
    mlp_ratio: width of the feed-forward layers over that of the tokens.
  """

  heads: int
  depth: int = 2
  mlp_ratio: float = 4

  @nn.compact
  def __call__(self, tokens: jax.Array, chosen: jax.Array | None = None) -> jax.Array:
    """Aggregates.

    Args:
      tokens: ``[batch, tokens, dim]``.
      chosen: what each attends over beside itself, ``[batch, tokens, neighbors, dim]``; the tokens
        if absent.

    Returns:
      ``[batch, tokens, dim]``.
    """
    shape, dim = tokens.shape, tokens.shape[-1]
    x = tokens
    if chosen is not None:
      x, chosen = tokens.reshape(-1, 1, dim), chosen.reshape(-1, chosen.shape[2], dim)
    for i in range(self.depth):
      around = x if chosen is None else jnp.concatenate([x, chosen], 1)
      y = norm(jnp.float32, f"norm_1_{i}")(around)
      x = x + Attention(self.heads, name=f"attention_{i}")(y, y[:, : x.shape[1]])
      y = norm(jnp.float32, f"norm_2_{i}")(x)
      x = x + FeedForward(int(self.mlp_ratio * dim), name=f"mlp_{i}")(y)
    return norm(jnp.float32, "norm")(x).reshape(shape)


def dmt_jepa(
  encoder: nn.Module,
  aggregator: Aggregator,
  predictor: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  patch_size: int,
  window: int = 3,
  neighbors: int = 4,
  divide: Callable[[jax.Array, tuple[int, int]], Blocks] = multi_block,
  momentum: Schedule = 0.996,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of DMT-JEPA.

  The aggregator learns between encoder and predictor, where it attends over the context; the
  teacher's copy of it makes the targets. As in the paper a target's query is its patch; in the
  authors' code it is the mean of the image's patches.

  Args:
    encoder: a `ViT`: images ``[batch, height, width, channels]`` to `Features`, with ``keep=``.
    aggregator: cross-attention over neighbours.
    predictor: ``(tokens, at, targets) -> [batch, asked, dim]``, a `TokenPredictor` whose ``out`` is
      the encoder's width.
    augment: ``(key, image) -> image`` for one image in [0, 1].
    patch_size: that of the encoder, in pixels.
    window: edge of the square in which neighbours are looked for, in patches, odd.
    neighbors: how many are chosen.
    divide: ``(key, grid) -> places`` for one image, those that the encoder sees and those of each
      block that is predicted.
    momentum: of the teacher.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. The error is smooth, as in the authors' code.

  References:
    Mo and Yun, `DMT-JEPA: Discriminative Masked Targets for Joint-Embedding Predictive Architecture
    <https://arxiv.org/abs/2405.17995>`_, 2024, section 3; ``src/train.py`` of
    https://github.com/DMTJEPA/DMTJEPA.
  """

  def loss(seen):
    aggregate = lambda tokens, chosen: aggregator.apply(
      {"params": seen.teacher["aggregator"]}, tokens, chosen
    )
    targets = dmt_targets(
      standardize(at_least_float32(seen.whole.tokens)),
      patch_grid(seen.inputs, patch_size),
      window=window,
      neighbors=neighbors,
      aggregate=aggregate,
    )
    targets = at_targets(targets, seen.parts)
    return jnp.mean(latent_prediction(flat_blocks(seen.predicted), targets))

  return predict_from_context(
    ContextNetwork(encoder, predictor, aggregator),
    lambda key, image: divide(key, patch_grid(image, patch_size)),
    loss,
    augment=augment,
    normalize=normalize,
    momentum=momentum,
    axis_name=axis_name,
  )
