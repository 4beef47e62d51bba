"""Losses that have a student imitate a teacher, example by example."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import (
  at_least_float32,
  check_mask,
  check_same_shape,
  l2_normalize,
  masked_mean,
  smooth_l1,
  standardize,
)


def soft_labels(
  student: jax.Array, teacher: jax.Array, *, temperature: float | jax.Array = 4.0
) -> jax.Array:
  r"""Divergence of a student's softened class probabilities from a teacher's.

  .. math::
    \ell = \tau^2 \operatorname{KL}\!\left(\operatorname{softmax}(t / \tau) \,\middle\|\,
      \operatorname{softmax}(s / \tau)\right)

  The factor keeps the size of gradients as the temperature changes. The mean over the batch is that
  of ``torch.nn.functional.kl_div`` with ``reduction="batchmean"``. No gradient reaches the teacher.

  Args:
    student: logits, ``[batch, classes]``.
    teacher: logits, same shape.
    temperature: divides both, > 0; 4 in the benchmark of Tian et al., 1 in DeiT.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Hinton et al., `Distilling the Knowledge in a Neural Network
    <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.
    Tian et al., `Contrastive Representation Distillation <https://arxiv.org/abs/1910.10699>`_,
    2019.
  """
  check_same_shape(2, student=student, teacher=teacher)
  student, teacher = at_least_float32(student), at_least_float32(teacher)
  return temperature**2 * _divergence(student / temperature, teacher / temperature)


def feature_cosine(student: jax.Array, teacher: jax.Array) -> jax.Array:
  r"""One minus the cosine of a student's and a teacher's features.

  .. math:: \ell = 1 - \frac{\langle s, t\rangle}{\lVert s\rVert \, \lVert t\rVert}

  No gradient reaches the teacher.

  Args:
    student: ``[batch, dim]``, or ``[batch, ..., dim]``, such as tokens, to average over.
    teacher: same shape.

  Returns:
    Loss per example, ``[batch]`` float32, in [0, 2].

  Raises:
    ValueError: if the shapes differ or are below rank 2.

  References:
    Ranzinger et al., `AM-RADIO: Agglomerative Vision Foundation Model - Reduce All Domains Into
    One <https://arxiv.org/abs/2312.06709>`_, 2023, section 3.
  """
  student, teacher = _features(student, teacher)
  cosine = jnp.sum(l2_normalize(student) * l2_normalize(teacher), -1)
  return 1 - _mean_of_each(cosine)


def feature_l2(student: jax.Array, teacher: jax.Array) -> jax.Array:
  r"""Mean squared error of a student's features against a teacher's.

  .. math:: \ell = \frac{1}{d} \lVert s - t\rVert^2

  FitNets states half of the sum over features. No gradient reaches the teacher.

  Args:
    student: ``[batch, dim]``, or ``[batch, ..., dim]``, such as tokens, to average over.
    teacher: same shape; where dimensions differ, project the student's before.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes differ or are below rank 2.

  References:
    Romero et al., `FitNets: Hints for Thin Deep Nets <https://arxiv.org/abs/1412.6550>`_, 2014,
    section 2.2.
  """
  student, teacher = _features(student, teacher)
  return _mean_of_each((student - teacher) ** 2)


def feature_smooth_l1(
  student: jax.Array, teacher: jax.Array, *, beta: float = 1.0, normalize_target: bool = False
) -> jax.Array:
  r"""Smooth absolute error of a student's features against a teacher's.

  .. math::
    \ell = \frac{1}{d} \sum_c \begin{cases} (s_c - t_c)^2 / 2 \beta & |s_c - t_c| < \beta \\
      |s_c - t_c| - \beta / 2 & \text{otherwise} \end{cases}

  Feature distillation takes ``beta=2`` and ``normalize_target=True``, its whitening. Masked tokens
  are the matter of `repjax.losses.latent.latent_prediction`. No gradient reaches the teacher.

  Args:
    student: ``[batch, dim]``, or ``[batch, ..., dim]``, such as tokens, to average over.
    teacher: same shape.
    beta: where the error turns from squared to absolute, > 0.
    normalize_target: standardise each vector of the teacher, a layer norm without parameters
      (biased variance, 1e-5 under the root).

  Returns:
    Loss per example, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes differ or are below rank 2.

  References:
    Wei et al., `Contrastive Learning Rivals Masked Image Modeling in Fine-tuning via Feature
    Distillation <https://arxiv.org/abs/2205.14141>`_, 2022.
  """
  student, teacher = _features(student, teacher)
  if normalize_target:
    teacher = standardize(teacher)
  return _mean_of_each(smooth_l1(student - teacher, beta))


def gram(
  student: jax.Array,
  teacher: jax.Array,
  mask: jax.Array | None = None,
  *,
  normalize: bool = True,
  clamp_negatives: bool = False,
) -> jax.Array:
  r"""Gram anchoring: similarities between an image's patches stay those of a teacher.

  .. math::
    \ell = \frac{1}{n^2} \sum_{i, j} \left(\langle s_i, s_j\rangle
      - \langle t_i, t_j\rangle\right)^2

  The paper states the squared Frobenius norm; the authors' code, followed here, takes the mean, and
  its released settings clamp nothing. Dimensions may differ. No gradient reaches the teacher.

  Args:
    student: patch tokens, ``[batch, tokens, dim]``.
    teacher: those of an earlier model, ``[batch, tokens, teacher_dim]``.
    mask: which tokens take part, ``[batch, tokens]`` bool; all if absent.
    normalize: scale all tokens to unit length.
    clamp_negatives: count negative similarities as 0, of both.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0; 0 where no token takes part.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Siméoni et al., `DINOv3 <https://arxiv.org/abs/2508.10104>`_, 2025, section 4.
  """
  shapes = jnp.shape(student), jnp.shape(teacher)
  if any(len(shape) != 3 for shape in shapes) or shapes[0][:2] != shapes[1][:2]:
    raise ValueError(
      "expected student and teacher [batch, tokens, dim] of the same tokens, got "
      f"{shapes[0]} and {shapes[1]}"
    )

  def similarities(x):
    x = at_least_float32(x)
    x = l2_normalize(x) if normalize else x
    products = jnp.einsum("bid,bjd->bij", x, x, precision="highest")
    return jnp.where(products > 0, products, 0) if clamp_negatives else products

  error = (similarities(student) - lax.stop_gradient(similarities(teacher))) ** 2
  if mask is None:
    return jnp.mean(error, (1, 2))
  check_mask(mask, shapes[0][:2])
  mask = jnp.asarray(mask)
  return masked_mean(error, mask[:, :, None] & mask[:, None, :], axis=(1, 2))


def attention_kl(
  student: jax.Array, teacher: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
  r"""Divergence of a student's attention maps from a teacher's.

  .. math::
    \ell = \frac{1}{h n} \sum_{a=1}^{h} \sum_{i=1}^{n} \operatorname{KL}\!\left(
      \operatorname{softmax}(t_{ai}) \,\middle\|\, \operatorname{softmax}(s_{ai})\right)

  The mean is over heads and queries, as MiniLM defines it. No gradient reaches the teacher.

  Args:
    student: logits of attention, ``[batch, heads, queries, keys]``, any number of axes between the
      first and the last two; -inf where a query may not look.
    teacher: same shape.
    mask: which tokens take part, as queries and as keys, ``[batch, tokens]`` bool; all if absent.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0; 0 where no token takes part.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Wang et al., `MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
    Pre-Trained Transformers <https://arxiv.org/abs/2002.10957>`_, 2020, section 3.1.
  """
  rank = max(3, jnp.ndim(student))
  check_same_shape(rank, student=student, teacher=teacher)
  student, teacher = at_least_float32(student), at_least_float32(teacher)
  between = (1,) * (rank - 3)
  if mask is None:
    return _mean_of_each(_divergence(student, teacher))
  batch, *_, queries, keys = student.shape
  check_mask(mask, (batch, keys))
  if queries != keys:
    raise ValueError(f"a mask needs as many queries as keys, got {queries} and {keys}")
  mask = jnp.asarray(mask)
  as_keys = mask.reshape(batch, *between, 1, keys)
  student, teacher = (jnp.where(as_keys, x, -jnp.inf) for x in (student, teacher))
  divergence = _divergence(student, teacher)
  as_queries = jnp.broadcast_to(mask.reshape(batch, *between, queries), divergence.shape)
  return masked_mean(divergence, as_queries, axis=tuple(range(1, rank - 1)))


def _features(student, teacher):
  check_same_shape(max(2, jnp.ndim(student)), student=student, teacher=teacher)
  return at_least_float32(student), lax.stop_gradient(at_least_float32(teacher))


def _mean_of_each(x) -> jax.Array:
  return jnp.mean(x, tuple(range(1, x.ndim)))


def _divergence(student, teacher) -> jax.Array:
  """KL of the teacher's softmax from the student's, over the last axis of logits."""
  # A number far below all others instead of -inf: what both leave out adds 0, and not NaN.
  student, teacher = (jnp.maximum(x, -1e30) for x in (student, lax.stop_gradient(teacher)))
  log_q, log_p = jax.nn.log_softmax(student), jax.nn.log_softmax(teacher)
  return jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1)
