"""iBOT: DINO of class tokens, and the same of patches that the student does not see."""

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


def ibot(
  encoder: nn.Module,
  head: nn.Module,
  crops: Sequence[Crops],
  *,
  patch_size: int,
  patch_head: nn.Module | None = None,
  ratio: float | tuple[float, float] = (0.1, 0.5),
  probability: float = 0.5,
  momentum: Schedule = 0.996,
  student_temperature: float = 0.1,
  teacher_temperature: Schedule = 0.04,
  patch_temperature: Schedule = 0.04,
  center_momentum: float = 0.9,
  patch_weight: float = 1.0,
  freeze_steps: int = 0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of iBOT.

  The student's global views are hidden in part, also where they predict class tokens. A patch is
  predicted from the same view, a class token from the others.

  Args:
    encoder: images ``[batch, height, width, channels]`` of every size of crop to `Features`, with
      ``mask=``; a `ViT` with ``pool="cls"`` in the paper.
    head: ``[..., dim] -> [..., prototypes]``, such as `Prototypes` with an MLP.
    crops: the global ones, two in the paper, then the local ones.
    patch_size: that of the encoder, in pixels.
    patch_head: the head of patches; ``head`` itself if absent, as in the paper.
    ratio: share of a view that is hidden, or least and greatest.
    probability: of hiding anything in a view.
    momentum: of the teacher; in the paper 0.996 at first and 1 in the end (`rising_momentum`).
    student_temperature: > 0.
    teacher_temperature: of class tokens, > 0; 0.04 to 0.07 in the paper (`rising_temperature`).
    patch_temperature: the teacher's of patches, > 0; the same in the paper.
    center_momentum: of the means of the teacher's scores, one of images and one of all patches.
    patch_weight: of the patches' loss.
    freeze_steps: updates before prototypes move; those of an epoch in the authors' code.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; features are the teacher's.

  References:
    Zhou et al., `iBOT: Image BERT Pre-Training with Online Tokenizer
    <https://arxiv.org/abs/2111.07832>`_, 2021, section 3.2, eq. 2 and 3, algorithm 1.
  """
  scores = lambda views: jnp.stack([view.projected for view in views])

  def loss(seen):
    student = {"student_temperature": student_temperature}
    images = losses.dino(
      scores(seen.online),
      scores(seen.target),
      seen.memory["image"],
      teacher_temperature=at_step(teacher_temperature, seen.step),
      **student,
    )
    patches = [
      losses.ibot(
        seen.online[view].patches,
        target.patches,
        seen.hidden[view]["mask"],
        seen.memory["patch"],
        teacher_temperature=at_step(patch_temperature, seen.step),
        **student,
      )
      for view, target in enumerate(seen.target)
    ]
    return jnp.mean(images) + patch_weight * jnp.mean(jnp.stack(patches))

  def remember(seen):
    options = {"momentum": center_momentum, "axis_name": axis_name}
    patches = jnp.concatenate([view.patches for view in seen.target])
    return {
      "image": losses.update_center(seen.memory["image"], scores(seen.target), **options),
      "patch": losses.update_center(seen.memory["patch"], patches, **options),
    }

  objective = joint_embedding(
    Network(encoder, head, patch_projector=head if patch_head is None else patch_head),
    crops,
    loss,
    normalize=normalize,
    momentum=momentum,
    memory=lambda key, target: {
      "image": jnp.zeros(target.projected.shape[-1]),
      "patch": jnp.zeros(target.patches.shape[-1]),
    },
    remember=remember,
    hide=hide_blocks(patch_size, ratio=ratio, probability=probability),
    encode_teacher=True,
    axis_name=axis_name,
  )
  return hold_prototypes(objective, freeze_steps)
