"""CCD: say of every character in a view what a teacher says of it in the other view."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from repjax import losses
from repjax.augment import bring, connected_regions, smaller_cluster, to_float
from repjax.encoders import MLP, patchify, unpatchify
from repjax.learners.freeze import hold_prototypes
from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.teacher import Schedule, at_step
from repjax.learners.views import Crops, joint_embedding
from repjax.losses.layout import batch_mean


def ccd(
  encoder: nn.Module,
  head: nn.Module,
  place: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
  *,
  patch_size: int,
  characters: int = 26,
  least_pixels: int = 30,
  segment_steps: int | None = None,
  momentum: Schedule = 0.9995,
  student_temperature: float = 0.1,
  teacher_temperature: Schedule = 0.04,
  center_momentum: float = 0.9,
  freeze_steps: int = 0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of character-to-character distillation.

  What stands out in the image is parted into characters where it does not hang together. They are
  carried to both views by the placements of these, and the mean of the tokens that a character
  covers is its feature. A segmentation head learns to tell what stands out, and in time characters
  are parted in what it says of the first view.

  That head is one linear layer a patch on the last tokens; the authors' joins three layers by
  convolutions, and their cross entropy takes the softmax of a softmax.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features` with a token a patch.
    head: ``[..., dim] -> [..., prototypes]``, such as `Prototypes` with an MLP, without batch norm.
    place: ``(key, image) -> (view, placement)`` for one image in [0, 1], shape kept, such as a
      `place_affine` with colours changed by `placed`. Drawn twice per example; the authors move
      the second view alone.
    patch_size: that of the encoder, in pixels.
    characters: how many are taken of an image at most, from the left.
    least_pixels: smaller parts are no characters.
    segment_steps: updates until characters come from the segmentation head; 30 epochs in the
      authors' code, never if absent.
    momentum: of the teacher; 0.9995 at first and 1 in the end (`rising_momentum`).
    student_temperature: > 0.
    teacher_temperature: > 0.
    center_momentum: of the mean of the teacher's scores of characters.
    freeze_steps: updates before prototypes move; those of an epoch in the authors' code.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; features are the student's.

  References:
    Guan et al., `Self-supervised Character-to-Character Distillation for Text Recognition
    <https://arxiv.org/abs/2211.00288>`_, 2022, section 3; numbers and the way to part characters
    from https://github.com/TongkunGuan/CCD, where the paper clusters by density.
  """
  part = jax.vmap(partial(connected_regions, count=characters, least=least_pixels))

  def told(view, shape):
    """Logits of what stands out, ``[batch, height, width]``."""
    return unpatchify(view.patches, (*shape, 1), patch_size)[..., 0]

  def written(seen):
    return jax.vmap(smaller_cluster)(to_float(seen.batch["image"]))

  def covered(seen):
    """Share of each patch that each character covers, by view, and which are in both."""
    mask = written(seen)
    source = jnp.broadcast_to(jnp.eye(2, 3)[None], (len(mask), 2, 3))
    if segment_steps is not None:
      later = seen.step >= segment_steps
      mask = jnp.where(later, told(seen.online[0], mask.shape[1:]) > 0, mask)
      source = jnp.where(later, seen.placements[0], source)
    regions = jnp.moveaxis(part(mask), 1, -1).astype(jnp.float32)
    shares = []
    for target in seen.placements:
      patches = patchify(jax.vmap(bring)(regions, source, target), patch_size)
      shares.append(jnp.mean(patches.reshape(*patches.shape[:2], -1, characters), 2))
    there = jnp.all(jnp.stack([jnp.sum(share, 1) > 0 for share in shares]), 0)
    return shares, there.reshape(-1)

  def scored(views, shares, params):
    """Scores of characters, ``[views, batch * characters, prototypes]``."""
    scores = []
    for view, share in zip(views, shares, strict=True):
      weight = share / jnp.maximum(jnp.sum(share, 1, keepdims=True), 1e-6)
      feature = jnp.einsum("bnc,bnd->bcd", weight, view.features.tokens)
      scores.append(head.apply({"params": params["projector"]}, feature, train=True))
    scores = jnp.stack(scores)
    return scores.reshape(len(scores), -1, scores.shape[-1])

  def segmentation(seen):
    image = written(seen)[..., None].astype(jnp.float32)
    per_view = []
    for view, target in zip(seen.online, seen.placements, strict=True):
      there = jax.vmap(bring, (0, None, 0))(image, jnp.eye(2, 3), target)[..., 0]
      logits = told(view, there.shape[1:])
      # The authors' threshold: what is touched counts as written.
      per_view.append(optax.sigmoid_binary_cross_entropy(logits, there > 0.1))
    return jnp.mean(jnp.stack(per_view))

  def loss(seen):
    shares, there = covered(seen)
    per_character = losses.dino(
      scored(seen.online, shares, seen.params),
      scored(seen.target, shares, seen.teacher),
      seen.memory,
      student_temperature=student_temperature,
      teacher_temperature=at_step(teacher_temperature, seen.step),
    )
    return batch_mean(per_character, axis_name, where=there) + segmentation(seen)

  def remember(seen):
    shares, there = covered(seen)
    scores = scored(seen.target, shares, seen.teacher)
    return losses.update_center(
      seen.memory, scores, momentum=center_momentum, where=there, axis_name=axis_name
    )

  objective = joint_embedding(
    # The network scores whole images too, which nobody looks at.
    Network(encoder, head, patch_projector=MLP((patch_size**2,))),
    [Crops(place, 2, placed=True)],
    loss,
    normalize=normalize,
    momentum=momentum,
    memory=lambda key, target: jnp.zeros(target.projected.shape[-1]),
    remember=remember,
    axis_name=axis_name,
  )
  return hold_prototypes(objective, freeze_steps)
