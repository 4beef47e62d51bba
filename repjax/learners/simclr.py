"""SimCLR: agree on two augmented views, disagree with everyone else."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.arrays import l2_normalize
from repjax.augment import to_float
from repjax.learners.learner import (
  Objective,
  apply_module,
  example_keys,
  init_module,
  join_views,
  part_views,
)
from repjax.losses import nt_xent


def simclr(
  encoder: nn.Module,
  projector: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  temperature: float = 0.5,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of SimCLR.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``; dropped after training.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn twice per example.
    normalize: last step before the encoder, in training and in ``encode``.
    temperature: softmax temperature, > 0.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. Its metrics include ``agreement``, the mean cosine of two views' projections.

  References:
    Chen et al., `A Simple Framework for Contrastive Learning of Visual Representations
    <https://arxiv.org/abs/2002.05709>`_, 2020, algorithm 1.
  """

  def init(key, batch):
    k_encoder, k_projector = jax.random.split(key)
    image = normalize(to_float(batch["image"]))
    p_encoder, r_encoder = init_module(encoder, k_encoder, image)
    features = encoder.apply({"params": p_encoder, **r_encoder}, image)
    p_projector, r_projector = init_module(projector, k_projector, features.pooled)
    params = {"encoder": p_encoder, "projector": p_projector}
    return params, {"encoder": r_encoder, "projector": r_projector}

  def loss(params, extra, batch, key):
    image = to_float(batch["image"])
    views = [
      jax.vmap(augment)(example_keys(k, len(image), axis_name=axis_name), image)
      for k in jax.random.split(key)
    ]
    # Both views in one pass, so that batch statistics are of both.
    image = normalize(join_views(views))
    features, r_encoder = apply_module(
      encoder, params["encoder"], extra["encoder"], image, train=True
    )
    z, r_projector = apply_module(
      projector, params["projector"], extra["projector"], features.pooled, train=True
    )
    z_1, z_2 = part_views(z.astype(jnp.float32), 2)
    per_pair = nt_xent(z_1, z_2, temperature=temperature, axis_name=axis_name)
    extra = {"encoder": r_encoder, "projector": r_projector}
    agreement = jnp.mean(jnp.sum(l2_normalize(z_1) * l2_normalize(z_2), -1))
    return jnp.mean(per_pair), (extra, {"agreement": agreement})

  def encode(params, extra, image):
    image = normalize(to_float(image))
    return apply_module(encoder, params["encoder"], extra["encoder"], image)[0]

  return Objective(init, loss, encode)
