"""MSN: a view of which patches are missing predicts the prototypes of the whole one."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax import losses
from repjax.augment import keep_indices, masked_count
from repjax.encoders import Prototypes
from repjax.learners.learner import Objective
from repjax.learners.masking import hide
from repjax.learners.network import Network
from repjax.learners.teacher import Schedule, at_step
from repjax.learners.views import Crops, joint_embedding


def msn(
  encoder: nn.Module,
  projector: nn.Module,
  anchors: Sequence[Crops],
  target: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  patch_size: int,
  prototypes: int = 1024,
  ratio: float = 0.15,
  momentum: Schedule = 0.996,
  temperature: float = 0.1,
  sharpening: Schedule = 0.25,
  iterations: int = 3,
  regularizer_weight: float = 1.0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of masked siamese networks.

  Each image loses patches of its own; in the authors' code all of a batch lose the same.

  Args:
    encoder: images ``[batch, height, width, channels]`` of every size of crop to `Features`, with
      ``keep=``; a `ViT` with ``pool="cls"`` in the paper.
    projector: ``[batch, dim] -> [batch, proj]``; the teacher has one too.
    anchors: the student's views: those of which patches are dropped, one in the paper, then small
      ones that stay whole, ten in the paper.
    target: ``(key, image) -> image`` for one image in [0, 1], the teacher's view.
    patch_size: that of the encoder, in pixels.
    prototypes: how many are learned; the teacher has none of its own.
    ratio: share of the patches that is dropped, in [0, 1); 0.15 for a ViT-S, up to 0.7 for a ViT-L.
    momentum: of the teacher; in the paper 0.996 at first and 1 in the end (`rising_momentum`).
    temperature: of predictions, > 0.
    sharpening: the targets' temperature as a share of ``temperature``, > 0.
    iterations: of Sinkhorn-Knopp on the targets; 0 leaves them unbalanced.
    regularizer_weight: of the mean prediction's distance from the uniform one.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; features are the teacher's, as in the authors' evaluation.

  References:
    Assran et al., `Masked Siamese Networks for Label-Efficient Learning
    <https://arxiv.org/abs/2204.07141>`_, 2022, section 3, eq. 1; numbers from
    ``configs/pretrain/msn_vits16.yaml`` of https://github.com/facebookresearch/msn.
  """

  def drop(key, view):
    mask = hide(key, view, patch_size=patch_size, ratio=ratio)
    return {"keep": keep_indices(mask, mask.size - masked_count(mask.size, ratio))}

  def loss(seen):
    return losses.msn(
      jnp.stack([view.projected for view in seen.online]),
      seen.target[0].projected,
      # As predictors they are learned with the network and left out of the teacher.
      seen.params["predictor"]["prototypes"],
      temperature=temperature,
      sharpening=at_step(sharpening, seen.step),
      iterations=iterations,
      regularizer_weight=regularizer_weight,
      axis_name=axis_name,
    )

  return joint_embedding(
    Network(encoder, projector, Prototypes(prototypes)),
    anchors,
    loss,
    normalize=normalize,
    momentum=momentum,
    whole=Crops(target, 1),
    hide=drop,
    encode_teacher=True,
    axis_name=axis_name,
  )
