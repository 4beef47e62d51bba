"""Losses of a student that predicts its teacher's distribution over prototypes."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, masked_mean
from repjax.losses.layout import batch_sum
from repjax.losses.prototypes import swav
from repjax.losses.spread import koleo


def dino(
  student: jax.Array,
  teacher: jax.Array,
  center: jax.Array,
  *,
  student_temperature: float | jax.Array = 0.1,
  teacher_temperature: float | jax.Array = 0.04,
) -> jax.Array:
  r"""Self-distillation with no labels: each crop predicts what the teacher says of others.

  .. math::
    \ell = \frac{1}{G (V - 1)} \sum_{g=1}^{G} \sum_{v \neq g}
      H\Big(\operatorname{softmax}\Big(\frac{t_g - c}{\tau_t}\Big),
        \operatorname{softmax}\Big(\frac{s_v}{\tau_s}\Big)\Big)

  over V crops by the student, of which the teacher sees the first G. Pairs of a crop with itself
  are skipped and the others averaged, as in lightly and in DINO's code. DINOv2's ``DINOLoss`` sums
  over all pairs that it is given; its training divides by the number of pairs again. To balance
  the teacher by Sinkhorn-Knopp in place of the centre, give `swav` the assignments.

  No gradient reaches the teacher or the centre. Move the centre by `update_center` after use.

  Args:
    student: logits of all crops, global ones first, ``[views, batch, prototypes]``.
    teacher: logits of the global crops, ``[global_views, batch, prototypes]``.
    center: running mean of the teacher's logits, ``[prototypes]``.
    student_temperature: > 0.
    teacher_temperature: > 0, below the student's, so that targets are sharper.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes do not match, or no two views differ.

  References:
    Caron et al., `Emerging Properties in Self-Supervised Vision Transformers
    <https://arxiv.org/abs/2104.14294>`_, 2021, section 3.1.
  """
  shapes = {"student": jnp.shape(student), "teacher": jnp.shape(teacher)}
  views, targets = (shape[0] if len(shape) == 3 else 0 for shape in shapes.values())
  if shapes["student"][1:] != shapes["teacher"][1:] or not 1 <= targets <= views:
    raise ValueError(
      f"expected [views, batch, prototypes] and the same of as many or fewer views, got {shapes}"
    )
  assignments = _sharpened(teacher, center, teacher_temperature)
  return swav(student, assignments, temperature=student_temperature)


def ibot(
  student: jax.Array,
  teacher: jax.Array,
  mask: jax.Array,
  center: jax.Array,
  *,
  student_temperature: float | jax.Array = 0.1,
  teacher_temperature: float | jax.Array = 0.04,
) -> jax.Array:
  r"""Self-distillation of patches: the student predicts what the teacher says of hidden ones.

  .. math::
    \ell = \frac{1}{|M|} \sum_{p \in M}
      H\Big(\operatorname{softmax}\Big(\frac{t_p - c}{\tau_t}\Big),
        \operatorname{softmax}\Big(\frac{s_p}{\tau_s}\Big)\Big)

  Every image counts once, however many of its patches are hidden, as in iBOT's and DINOv2's code
  and in lightly, which take the mean of this over the batch. iBOT adds `dino` of the class tokens.

  No gradient reaches the teacher or the centre. Move the centre by `update_center` after use.

  Args:
    student: logits of patches of masked images, ``[batch, patches, prototypes]``.
    teacher: logits of the same patches of whole images, same shape.
    mask: what was hidden, ``[batch, patches]`` bool.
    center: running mean of the teacher's logits, ``[prototypes]``.
    student_temperature: > 0.
    teacher_temperature: > 0, below the student's, so that targets are sharper.

  Returns:
    Loss per image, ``[batch]`` float32, >= 0; 0 where nothing is hidden.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Zhou et al., `iBOT: Image BERT Pre-Training with Online Tokenizer
    <https://arxiv.org/abs/2111.07832>`_, 2021, section 3.
  """
  check_same_shape(3, student=student, teacher=teacher)
  assignments = _sharpened(teacher, center, teacher_temperature)
  return _of_hidden(student, assignments, mask, student_temperature)


def dinov2(
  student: jax.Array,
  assignments: jax.Array,
  student_patches: jax.Array,
  patch_assignments: jax.Array,
  mask: jax.Array,
  embeddings: jax.Array,
  *,
  student_temperature: float | jax.Array = 0.1,
  dino_weight: float | jax.Array = 1.0,
  ibot_weight: float | jax.Array = 1.0,
  koleo_weight: float | jax.Array = 0.1,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""DINOv2: self-distillation of images and patches, and embeddings that keep apart.

  .. math::
    \ell = \lambda_1 \ell_{\text{DINO}} + \frac{\lambda_2}{G} \sum_{g=1}^{G} \ell_{\text{iBOT}, g}
      + \lambda_3 \sum_{g=1}^{G} \ell_{\text{KoLeo}, g}

  over G global crops, with `dino` of all crops, `ibot` of the global ones and `koleo` of the
  student's class tokens. DINOv2's training weighs them so: a mean over pairs of crops, one over
  global crops, and a sum. Its nearest neighbours are those on the same device, ours those in the
  whole batch.

  The teacher comes as assignments, so that either way of balancing it will do. The paper's are
  those of `sinkhorn` of the logits of all global crops at once, with the teacher's temperature as
  ``epsilon``, and of the logits of all hidden patches at once, with the mask as ``where``. No
  gradient reaches assignments.

  Args:
    student: logits of class tokens of all crops, global ones first,
      ``[views, batch, prototypes]``.
    assignments: of the global crops by the teacher, ``[global_views, batch, prototypes]``.
    student_patches: logits of patches of the masked global crops,
      ``[global_views, batch, patches, patch_prototypes]``.
    patch_assignments: of the same patches of whole crops by the teacher, same shape.
    mask: what was hidden, ``[global_views, batch, patches]`` bool.
    embeddings: the student's class tokens of the global crops before the head,
      ``[global_views, batch, dim]``; normalised inside.
    student_temperature: > 0.
    dino_weight: :math:`\lambda_1`.
    ibot_weight: :math:`\lambda_2`.
    koleo_weight: :math:`\lambda_3`.
    where: ``[batch]`` bool, images that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per image, ``[batch]`` float32, of any sign; 0 where ``where`` is false.

  Raises:
    ValueError: if the shapes do not match, or no two views differ.

  References:
    Oquab et al., `DINOv2: Learning Robust Visual Features without Supervision
    <https://arxiv.org/abs/2304.07193>`_, 2023, section 4.
  """
  check_same_shape(4, student_patches=student_patches, patch_assignments=patch_assignments)
  shapes = {
    "assignments": jnp.shape(assignments),
    "student_patches": jnp.shape(student_patches),
    "embeddings": jnp.shape(embeddings),
  }
  if len({shape[:2] for shape in shapes.values()}) > 1 or jnp.ndim(embeddings) != 3:
    raise ValueError(f"expected all to start with [global_views, batch], got {shapes}")
  images = swav(student, assignments, temperature=student_temperature)
  patches = _of_hidden(student_patches, patch_assignments, mask, student_temperature)
  near = [koleo(z, where=where, axis_name=axis_name) for z in embeddings]
  loss = dino_weight * images + ibot_weight * jnp.mean(patches, 0) + koleo_weight * sum(near)
  return loss if where is None else jnp.where(where, loss, 0)


def update_center(
  center: jax.Array,
  teacher: jax.Array,
  *,
  momentum: float | jax.Array = 0.9,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Moves the centre to the mean of the teacher's logits.

  .. math:: c \leftarrow m c + (1 - m) \operatorname{mean}_{v,i} t_{vi}

  No gradient flows through.

  Args:
    center: ``[prototypes]``.
    teacher: logits of views, ``[views, batch, prototypes]``, or patches,
      ``[batch, patches, prototypes]``.
    momentum: weight of the past.
    where: what takes part, bool: ``[batch]`` for views, the mask ``[batch, patches]`` for patches;
      all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    The centre, ``[prototypes]`` float32, the same on all shards; unchanged if nothing takes part.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Caron et al., `Emerging Properties in Self-Supervised Vision Transformers
    <https://arxiv.org/abs/2104.14294>`_, 2021, section 3.1.
  """
  center, teacher = at_least_float32(center), at_least_float32(teacher)
  _check_center(center, teacher)
  rows = jnp.shape(teacher)[:-1]
  axes = tuple(range(len(rows)))
  if where is None:
    where = jnp.ones(rows, bool)
  elif jnp.shape(where) not in (rows, rows[-1:]):
    raise ValueError(f"expected where of shape {rows} or {rows[-1:]}, got {jnp.shape(where)}")
  where = jnp.broadcast_to(where, rows)
  total = jnp.sum(jnp.where(where[..., None], teacher, 0), axes)
  total, count = batch_sum((total, jnp.sum(where)), axis_name)
  moved = momentum * center + (1 - momentum) * total / jnp.maximum(count, 1)
  return lax.stop_gradient(jnp.where(count > 0, moved, center))


def _sharpened(teacher, center, temperature) -> jax.Array:
  """The teacher's distribution over prototypes, without gradient."""
  center, teacher = at_least_float32(center), at_least_float32(teacher)
  _check_center(center, teacher)
  center = jnp.expand_dims(center, tuple(range(teacher.ndim - 1)))
  return lax.stop_gradient(jax.nn.softmax((teacher - center) / temperature, -1))


def _of_hidden(student, assignments, mask, temperature) -> jax.Array:
  """Cross entropy of patches, mean over the hidden ones of each image."""
  if jnp.shape(mask) != jnp.shape(student)[:-1]:
    raise ValueError(f"expected mask of shape {jnp.shape(student)[:-1]}, got {jnp.shape(mask)}")
  assignments = lax.stop_gradient(at_least_float32(assignments))
  log_p = jax.nn.log_softmax(at_least_float32(student) / temperature, -1)
  return masked_mean(-jnp.sum(assignments * log_p, -1), mask, axis=-1)


def _check_center(center, teacher) -> None:
  if jnp.shape(center) != jnp.shape(teacher)[-1:]:
    shapes = {"center": jnp.shape(center), "teacher": jnp.shape(teacher)}
    raise ValueError(f"expected a centre of each prototype, [prototypes], got {shapes}")
