"""T-JEPA: from some columns of a row, predict what a teacher makes of others."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.augment import Blocks
from repjax.learners.context import (
  ContextNetwork,
  at_targets,
  flat_blocks,
  predict_from_context,
)
from repjax.learners.learner import Objective
from repjax.learners.teacher import Schedule
from repjax.losses import latent_prediction


def t_jepa(
  encoder: nn.Module,
  predictor: nn.Module,
  *,
  seen: float = 0.4,
  asked: float = 0.3,
  blocks: int = 4,
  momentum: Schedule = 0.996,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of T-JEPA: no augmentation, columns for patches.

  The authors' code draws the numbers of columns seen and asked for once a batch; here they are
  fixed, since they have to be known when a program is compiled.

  Args:
    encoder: a `TableTransformer`: ``batch["row"]``, ``[batch, columns]``, to `Features`. With
      ``registers=1`` it has the paper's regularisation token, without which, the paper finds,
      features collapse; context and targets have it, and it is left out before the predictor.
    predictor: ``(tokens, at, targets) -> [batch, asked, dim]``, a `TokenPredictor` with ``grid`` of
      ``(1, columns)``, ``positions="learned"`` and the encoder's width as ``out``.
    seen: share of the columns that the encoder sees, in (0, 1).
    asked: share of the columns in a target, none of which is seen, in (0, 1 - seen].
    blocks: how many targets, which may overlap; each is predicted by itself.
    momentum: of the teacher.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. The error is squared, as in paper and code; features are the teacher's.

  Raises:
    ValueError: at the first use, if the shares leave no column to see or to ask for.

  References:
    Thimonier et al., `T-JEPA: Augmentation-Free Self-Supervised Learning for Tabular Data
    <https://arxiv.org/abs/2410.05016>`_, 2024, section 3; ``src/mask.py`` and ``src/train.py`` of
    https://github.com/jose-melo/t-jepa.
  """

  def divide(key, row):
    kept, count = round(seen * row.size), round(asked * row.size)
    if min(kept, count) < 1 or kept + count > row.size:
      raise ValueError(
        f"seen={seen} and asked={asked} of {row.size} columns are {kept} and {count}; "
        "choose at least one of each, and no more together than there are"
      )
    k_context, *keys = jax.random.split(key, 1 + blocks)
    order = jax.random.permutation(k_context, row.size).astype(jnp.int32)
    draw = lambda k: jax.random.permutation(k, order[kept:])[:count]
    return Blocks(order[:kept], jnp.stack([draw(k) for k in keys]))

  def loss(given):
    target = at_targets(given.whole.tokens, given.parts)
    return jnp.mean(latent_prediction(flat_blocks(given.predicted), target, norm="l2"))

  return predict_from_context(
    ContextNetwork(encoder, predictor),
    divide,
    loss,
    field="row",
    momentum=momentum,
    axis_name=axis_name,
  )
