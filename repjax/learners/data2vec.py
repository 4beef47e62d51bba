"""data2vec: predict, where patches are hidden, the mean of a teacher's upper layers."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.arrays import at_least_float32, standardize
from repjax.augment import block_mask
from repjax.encoders import Features
from repjax.learners.learner import Objective
from repjax.learners.masking import patch_grid
from repjax.learners.network import Network
from repjax.learners.teacher import Schedule
from repjax.learners.views import Crops, joint_embedding
from repjax.losses import latent_prediction


def data2vec(
  encoder: nn.Module,
  head: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  patch_size: int,
  layers: int = 6,
  ratio: float = 0.6,
  min_block: int = 16,
  beta: float = 2.0,
  momentum: Schedule = 0.9998,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of data2vec for images.

  Args:
    encoder: a `ViT`: images ``[batch, height, width, channels]`` to `Features`, with ``mask=``.
    head: ``[batch, tokens, dim] -> [batch, tokens, dim]`` on the network's tokens; linear in the
      paper.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn once, network and teacher see
      the same image.
    patch_size: that of the encoder, in pixels.
    layers: how many of the teacher's upper blocks are averaged, each standardised before.
    ratio: share of the patches that is hidden, in blocks as in BEiT.
    min_block: least area of a hidden block, in patches.
    beta: where the smooth error turns from squared to absolute, > 0.
    momentum: of the teacher.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective.

  Raises:
    ValueError: at the first use, if the encoder has fewer layers.

  References:
    Baevski et al., `data2vec: A General Framework for Self-supervised Learning in Speech, Vision
    and Language <https://arxiv.org/abs/2202.03555>`_, 2022, section 3.
  """

  def hide(key, image):
    grid = patch_grid(image, patch_size)
    return {"mask": block_mask(key, grid, ratio=ratio, min_block=min_block).reshape(-1)}

  def loss(seen):
    target = mean_of_layers(seen.target[0].features, layers)
    mask = seen.hidden[0]["mask"]
    return jnp.mean(latent_prediction(seen.online[0].patches, target, mask, beta=beta))

  return joint_embedding(
    Network(encoder, patch_projector=head),
    [Crops(augment, 1)],
    loss,
    normalize=normalize,
    momentum=momentum,
    hide=hide,
    axis_name=axis_name,
  )


def mean_of_layers(features: Features, layers: int) -> jax.Array:
  """Mean of the tokens of the upper layers, each standardised.

  Args:
    features: a transformer's.
    layers: how many.

  Returns:
    ``[batch, tokens, dim]`` float32, without class token and registers.

  Raises:
    ValueError: if there are fewer.
  """
  if not 1 <= layers <= len(features.layers):
    raise ValueError(f"layers={layers} of {len(features.layers)}; choose between 1 and that")
  tokens = features.tokens.shape[1]
  upper = [standardize(at_least_float32(x[:, -tokens:])) for x in features.layers[-layers:]]
  return sum(upper) / layers
