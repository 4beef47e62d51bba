"""Losses that have a student keep a teacher's relations between the examples of a batch."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize, smooth_l1
from repjax.losses.distances import euclidean
from repjax.losses.layout import batch_mean, batch_sum, gather, kept, row_index
from repjax.losses.pairs import PairSums, pair_sums
from repjax.losses.partners import both_kept


def relational_distance(
  student: jax.Array,
  teacher: jax.Array,
  *,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""RKD-D: distances between examples, in units of their mean, are those of a teacher.

  .. math::
    \ell_i = \frac{1}{n} \sum_j \rho\!\left(\frac{\lVert s_i - s_j\rVert}{\mu_s}
      - \frac{\lVert t_i - t_j\rVert}{\mu_t}\right), \quad
    \mu_x = \frac{1}{n (n - 1)} \sum_{i \neq j} \lVert x_i - x_j\rVert

  with Huber's :math:`\rho`. The paper sums over pairs; the authors' code, followed here, takes the
  mean over all :math:`n^2` of them, and lets gradients flow through :math:`\mu_s`. Dimensions may
  differ. No gradient reaches the teacher.

  Args:
    student: ``[batch, dim]``.
    teacher: ``[batch, teacher_dim]``, row-aligned with ``student``.
    where: ``[batch]`` bool, examples that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0; 0 where ``where`` is false.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Park et al., `Relational Knowledge Distillation <https://arxiv.org/abs/1904.05068>`_, 2019,
    section 3.2.
  """
  student, teacher, rows, columns = _batch(student, teacher, where, axis_name)
  index = row_index(len(student), axis_name)
  apart = index[:, None] != gather(index, axis_name)[None, :]
  apart &= rows[:, None] & columns[None, :]

  def in_units_of_the_mean(x):
    distance = jnp.where(apart, euclidean(x, gather(x, axis_name)), 0)
    total, count = batch_sum((jnp.sum(distance), jnp.sum(apart)), axis_name)
    mean = total / jnp.maximum(count, 1)
    return distance / jnp.where(mean > 0, mean, 1)

  error = smooth_l1(in_units_of_the_mean(student) - in_units_of_the_mean(teacher))
  return jnp.sum(error, 1) / jnp.maximum(jnp.sum(columns), 1)


def relational_angle(
  student: jax.Array,
  teacher: jax.Array,
  *,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""RKD-A: angles that pairs of examples form at a third are those of a teacher.

  .. math::
    \ell_j = \frac{1}{n^2} \sum_{i, k} \rho\!\left(\cos \angle s_i s_j s_k
      - \cos \angle t_i t_j t_k\right), \quad
    \cos \angle x_i x_j x_k = \left\langle \frac{x_i - x_j}{\lVert x_i - x_j\rVert},
      \frac{x_k - x_j}{\lVert x_k - x_j\rVert} \right\rangle

  with Huber's :math:`\rho`. The paper sums over triples; the authors' code, followed here, takes
  the mean over all :math:`n^3`. Memory grows with :math:`n^2`, work with :math:`n^3`. Dimensions
  may differ. No gradient reaches the teacher.

  Args:
    student: ``[batch, dim]``.
    teacher: ``[batch, teacher_dim]``, row-aligned with ``student``.
    where: ``[batch]`` bool, examples that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per vertex, ``[batch]`` float32, >= 0; 0 where ``where`` is false.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Park et al., `Relational Knowledge Distillation <https://arxiv.org/abs/1904.05068>`_, 2019,
    section 3.2.
  """
  student, teacher, rows, columns = _batch(student, teacher, where, axis_name)
  all_students, all_teachers = gather((student, teacher), axis_name)
  pairs = columns[:, None] & columns[None, :]

  # One vertex at a time, recomputed in the backward pass.
  @jax.checkpoint
  def at_vertex(vertex):
    arms = zip((all_students, all_teachers), vertex, strict=True)
    arms = [_directions(x - corner[None]) for x, corner in arms]
    of_student, of_teacher = (jnp.matmul(x, x.T, precision="highest") for x in arms)
    return jnp.sum(jnp.where(pairs, smooth_l1(of_student - of_teacher), 0))

  count = jnp.maximum(jnp.sum(columns), 1)
  return jnp.where(rows, lax.map(at_vertex, (student, teacher)) / count / count, 0)


def similarity_preserving(
  student: jax.Array,
  teacher: jax.Array,
  *,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Inputs that activate a teacher alike activate the student alike.

  With :math:`G` the matrix of products of a batch's features, each row scaled to unit length,

  .. math::
    \ell_i = \frac{1}{n} \sum_j \left(\frac{G^S_{ij}}{\lVert G^S_i\rVert}
      - \frac{G^T_{ij}}{\lVert G^T_i\rVert}\right)^2

  of which the mean over the batch is the paper's :math:`\lVert\cdot\rVert_F^2 / n^2`. Dimensions
  may differ. No gradient reaches the teacher.

  Args:
    student: features, ``[batch, dim]``; flatten maps before.
    teacher: ``[batch, teacher_dim]``, row-aligned with ``student``.
    where: ``[batch]`` bool, examples that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per example, ``[batch]`` float32, in [0, 4 / n]; 0 where ``where`` is false.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Tung and Mori, `Similarity-Preserving Knowledge Distillation
    <https://arxiv.org/abs/1907.09682>`_, 2019, section 3.
  """
  student, teacher, rows, columns = _batch(student, teacher, where, axis_name)

  def similarities(x):
    products = jnp.matmul(x, gather(x, axis_name).T, precision="highest")
    return _directions(jnp.where(columns[None, :], products, 0))

  error = jnp.sum((similarities(student) - similarities(teacher)) ** 2, 1)
  return jnp.where(rows, error / jnp.maximum(jnp.sum(columns), 1), 0)


def affinity_mimicking(
  student_query: jax.Array,
  student_key: jax.Array,
  teacher_query: jax.Array,
  teacher_key: jax.Array,
  *,
  temperature: float | jax.Array = 0.07,
  teacher_temperature: float | jax.Array | None = None,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""How alike each query finds the keys of the batch, as a distribution, is as for a teacher.

  For unit vectors,

  .. math::
    \ell_i = \operatorname{KL}\!\left(
      \operatorname{softmax}_j \frac{\langle q^T_i, k^T_j\rangle}{\tau_T} \,\middle\|\,
      \operatorname{softmax}_j \frac{\langle q^S_i, k^S_j\rangle}{\tau}\right)

  One direction, query to key; the caller takes the mean of both. TinyCLIP and open_clip's
  ``DistillClipLoss`` state the cross entropy, which is larger by the teacher's entropy and has the
  same gradient. Dimensions may differ. No gradient reaches the teacher or its temperature.

  Args:
    student_query: such as images, ``[batch, dim]``; normalised inside, like the others.
    student_key: such as their texts, ``[batch, dim]``, row-aligned.
    teacher_query: ``[batch, teacher_dim]``, row-aligned.
    teacher_key: ``[batch, teacher_dim]``, row-aligned.
    temperature: of the student's softmax, > 0.
    teacher_temperature: of the teacher's, > 0; the student's if absent.
    where: ``[batch]`` bool, examples that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per query, ``[batch]`` float32, >= 0; 0 where ``where`` is false.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Wu et al., `TinyCLIP: CLIP Distillation via Affinity Mimicking and Weight Inheritance
    <https://arxiv.org/abs/2309.12314>`_, 2023, section 3.
  """
  check_same_shape(2, student_query=student_query, student_key=student_key)
  check_same_shape(2, teacher_query=teacher_query, teacher_key=teacher_key)
  student_query, teacher_query, keep, _ = _batch(student_query, teacher_query, where, axis_name)
  unit = lambda x: l2_normalize(at_least_float32(x))
  if teacher_temperature is None:
    teacher_temperature = temperature
  rows = {"teacher": unit(teacher_query) / teacher_temperature, "keep": keep}
  columns = {"teacher": unit(teacher_key), "keep": keep}
  rows, columns = lax.stop_gradient((rows, columns))
  options = {"tile_size": tile_size, "axis_name": axis_name}
  # The teacher's log-sum-exp first, so that the second pass adds up probabilities.
  terms = functools.partial(_teacher_logits, precision=precision)
  total = pair_sums(terms, rows, columns, **options).log_sums[0]
  rows |= {"student": unit(student_query) / temperature, "total": jnp.where(keep, total, 0)}
  columns |= {"student": unit(student_key)}
  terms = functools.partial(_affinities, precision=precision)
  sums = pair_sums(terms, rows, columns, **options)
  return jnp.where(keep, sums.log_sums[0] + sums.sums[0], 0)


def kernel_match(
  student: jax.Array,
  teacher: jax.Array,
  weight: jax.Array,
  *,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Adaptive feature transfer: the kernel of features is that of the teacher's useful features.

  .. math::
    \ell = \Big(\frac{1}{n^2} \sum_{i, j} \big(\langle \bar s_i, \bar s_j\rangle
      - \langle \bar t_i, \bar t_j\rangle\big)^2 + 10^{-8}\Big)^{1/2}

  where :math:`\bar s` and :math:`\bar t` are the student's features and the weighted features of
  the teacher, less their mean over the batch, scaled to unit length, as in the authors' code. They
  learn ``weight=sigmoid(logits)``, from logits of zero, together with the student; features of
  several teachers are concatenated. Dimensions may differ. No gradient reaches the teacher.

  Args:
    student: ``[batch, dim]``.
    teacher: ``[batch, teacher_dim]``, row-aligned with ``student``.
    weight: of each of the teacher's features, ``[teacher_dim]``, or a linear map of them,
      ``[teacher_dim, any]``; learned, gets a gradient.
    where: ``[batch]`` bool, examples that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss of the batch, scalar float32, >= 1e-4; 0 where nothing takes part.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Qiu et al., `Transferring Knowledge from Large Foundation Models to Small Downstream Models
    <https://arxiv.org/abs/2406.07337>`_, 2024, section 3.
  """
  if jnp.ndim(weight) not in (1, 2) or jnp.shape(weight)[0] != jnp.shape(teacher)[-1]:
    raise ValueError(
      f"expected weight [teacher_dim] or [teacher_dim, any] for teacher {jnp.shape(teacher)}, got "
      f"{jnp.shape(weight)}"
    )
  student, teacher, rows, columns = _batch(student, teacher, where, axis_name)
  weight = at_least_float32(weight)
  if weight.ndim == 1:
    teacher = teacher * weight[None, :]
  else:
    teacher = jnp.matmul(teacher, weight, precision="highest")

  def kernel(x):
    x = l2_normalize(x - batch_mean(x, axis_name, where=rows)[None])
    return jnp.matmul(x, gather(x, axis_name).T, precision="highest")

  pairs = rows[:, None] & columns[None, :]
  error = jnp.sum(jnp.where(pairs, (kernel(student) - kernel(teacher)) ** 2, 0))
  error, count = batch_sum((error, jnp.sum(pairs)), axis_name)
  return jnp.where(count > 0, jnp.sqrt(error / jnp.maximum(count, 1) + 1e-8), 0)


def _teacher_logits(row, column, shared, precision) -> PairSums:
  del shared
  logits = jnp.matmul(row["teacher"], column["teacher"].T, precision=precision)
  return PairSums((both_kept(row, column, logits, -jnp.inf),))


def _affinities(row, column, shared, precision) -> PairSums:
  """The student's logits, and the teacher's probability of each pair times the difference."""
  del shared
  pairs = row["keep"][:, None] & column["keep"][None, :]
  student = jnp.matmul(row["student"], column["student"].T, precision=precision)
  teacher = jnp.matmul(row["teacher"], column["teacher"].T, precision=precision)
  log_p = jnp.where(pairs, teacher - row["total"][:, None], 0)
  terms = jnp.where(pairs, jnp.exp(log_p) * (log_p - student), 0)
  return PairSums((jnp.where(pairs, student, -jnp.inf),), (terms,))


def _batch(student, teacher, where, axis_name):
  """Student and stopped teacher, and which rows and which columns take part."""
  shapes = jnp.shape(student), jnp.shape(teacher)
  if any(len(shape) != 2 for shape in shapes) or shapes[0][0] != shapes[1][0]:
    raise ValueError(
      "expected student and teacher [batch, dim] of the same examples, got "
      f"{shapes[0]} and {shapes[1]}"
    )
  rows = jnp.asarray(kept(where, shapes[0][0]))
  teacher = lax.stop_gradient(at_least_float32(teacher))
  return at_least_float32(student), teacher, rows, gather(rows, axis_name)


def _directions(x) -> jax.Array:
  """Rows of unit length, however short they were; zero rows stay zero and get no gradient."""
  largest = lax.stop_gradient(jnp.max(jnp.abs(x), -1, keepdims=True))
  some = largest > 0
  x = x / jnp.where(some, largest, 1)  # so that no square leaves the range of floats
  return jnp.where(some, x * lax.rsqrt(jnp.where(some, jnp.sum(x * x, -1, keepdims=True), 1)), 0)
