"""CURL: an image is closer to others of its latent class than to those of another, by products."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax import losses
from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.views import Crops, joint_embedding
from repjax.losses.layout import gather, row_index, shards


def curl(
  encoder: nn.Module,
  projector: nn.Module | None,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  loss: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] = losses.curl_logistic,
  negatives: int = 1,
  block: int = 1,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of contrast with a few negatives, of the theory of latent classes.

  An example stands for its latent class, of which each view is a draw: two crops of an image, two
  sentences of a paragraph. The anchor is one draw, the positive the mean of a block of others, and
  each negative the mean of such a block of another example.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``; the theory has none. Nothing is normalised.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn ``1 + block`` times.
    loss: ``(anchor, positive, negative) -> [batch]``, `curl_logistic` or `curl_hinge`.
    negatives: how many other examples each is compared with, drawn anew each step, below the batch.
    block: draws that are averaged, >= 1; above 1 it is CURL.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any; negatives come from all of it.

  Returns:
    The objective.

  References:
    Arora et al., `A Theoretical Analysis of Contrastive Unsupervised Representation Learning
    <https://arxiv.org/abs/1902.09229>`_, 2019, definition 2.3 and section 6.
  """

  def compared(seen):
    anchor, *rest = (view.projected for view in seen.online)
    blocks = jnp.stack(rest, 1)
    whole = gather(blocks, axis_name)
    total = len(anchor) * shards(axis_name)
    # Steps from a row to its negatives, all different and none of them home.
    steps = 1 + jax.random.permutation(seen.key, total - 1)[:negatives]
    rows = row_index(len(anchor), axis_name)[:, None] + steps[None]
    return jnp.mean(loss(anchor, blocks, whole[rows % total]))

  return joint_embedding(
    Network(encoder, projector),
    [Crops(augment, 1 + block)],
    compared,
    normalize=normalize,
    axis_name=axis_name,
  )
