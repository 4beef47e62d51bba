"""DINOv2: images and hidden patches against a balanced teacher; class tokens that keep apart."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax import losses
from repjax.learners.freeze import hold_prototypes
from repjax.learners.hiding import hide_blocks
from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.teacher import Schedule, at_step
from repjax.learners.views import Crops, joint_embedding


def dinov2(
  encoder: nn.Module,
  head: nn.Module,
  patch_head: nn.Module,
  crops: Sequence[Crops],
  *,
  patch_size: int,
  ratio: float | tuple[float, float] = (0.1, 0.5),
  probability: float = 0.5,
  momentum: Schedule = 0.992,
  student_temperature: float = 0.1,
  teacher_temperature: Schedule = 0.07,
  iterations: int = 3,
  patch_weight: float = 1.0,
  koleo_weight: float = 0.1,
  freeze_steps: int = 0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of DINOv2.

  Args:
    encoder: images ``[batch, height, width, channels]`` of every size of crop to `Features`, with
      ``mask=``; a `ViT` with ``pool="cls"`` in the paper.
    head: ``[batch, dim] -> [batch, prototypes]``, such as `Prototypes` with an MLP.
    patch_head: ``[batch, tokens, dim] -> [batch, tokens, patch_prototypes]``, apart from ``head``.
    crops: the global ones, two in the paper, then the local ones.
    patch_size: that of the encoder, in pixels.
    ratio: share of a view that is hidden, or least and greatest.
    probability: of hiding anything in a view.
    momentum: of the teacher; 0.992 at first and 1 in the end (`rising_momentum`).
    student_temperature: > 0.
    teacher_temperature: > 0; 0.04 to 0.07 over 30 epochs (`rising_temperature`).
    iterations: of Sinkhorn-Knopp, over the global views at once and over the hidden patches.
    patch_weight: of the hidden patches' loss; 0 leaves it out.
    koleo_weight: of the spread of the student's class tokens, view by view; 0 leaves it out.
    freeze_steps: updates before prototypes move; those of an epoch in the authors' code.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; features are the teacher's.

  References:
    Oquab et al., `DINOv2: Learning Robust Visual Features without Supervision
    <https://arxiv.org/abs/2304.07193>`_, 2023, section 4. Weights and order are those of
    ``ssl_meta_arch.py`` in https://github.com/facebookresearch/dinov2, numbers those of its
    ``ssl_default_config.yaml``.
  """
  stack = lambda part, views: jnp.stack([part(view) for view in views])
  scores = lambda views: stack(lambda view: view.projected, views)
  patch_scores = lambda views: stack(lambda view: view.patches, views)

  def balanced(logits, temperature, where=None):
    rows = logits.reshape(-1, logits.shape[-1])
    options = {"epsilon": temperature, "iterations": iterations, "axis_name": axis_name}
    return losses.sinkhorn(rows, where=where, **options).reshape(logits.shape)

  def loss(seen):
    temperature = at_step(teacher_temperature, seen.step)
    shown = seen.online[: len(seen.target)]
    mask = jnp.stack([options["mask"] for options in seen.hidden])
    per_image = losses.dinov2(
      scores(seen.online),
      balanced(scores(seen.target), temperature),
      patch_scores(shown),
      balanced(patch_scores(seen.target), temperature, mask.reshape(-1)),
      mask,
      stack(lambda view: view.features.pooled, shown),
      student_temperature=student_temperature,
      ibot_weight=patch_weight,
      koleo_weight=koleo_weight,
      axis_name=axis_name,
    )
    return jnp.mean(per_image)

  objective = joint_embedding(
    Network(encoder, head, patch_projector=patch_head),
    crops,
    loss,
    normalize=normalize,
    momentum=momentum,
    hide=hide_blocks(patch_size, ratio=ratio, probability=probability),
    encode_teacher=True,
    axis_name=axis_name,
  )
  return hold_prototypes(objective, freeze_steps)
