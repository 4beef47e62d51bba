"""Counts, means and scatter of labelled features, a batch, a shard or a client at a time."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32, check_labels

_HIGHEST = lax.Precision.HIGHEST


class Moments(NamedTuple):
  r"""What nearest means, discriminants and ridge classifiers need to know of features.

  A scatter is :math:`\sum_i (x_i - \mu_{y_i})(x_i - \mu_{y_i})^\top`, divided by nothing.

  Attributes:
    count: ``[classes]`` int32, rows seen of each class.
    mean: ``[classes, dim]``; 0 for a class not seen.
    scatter: about the class means, ``[dim, dim]`` summed over classes, ``[classes, dim, dim]`` one
      a class, or ``[0, dim, dim]`` where none is kept.
  """

  count: jax.Array
  mean: jax.Array
  scatter: jax.Array


def init_moments(
  classes: int,
  dim: int,
  *,
  scatter: Literal["shared", "each", "none"] = "shared",
  dtype: DTypeLike = jnp.float32,
) -> Moments:
  """Moments of no rows.

  Args:
    classes: number of classes, those still to come included; classes without rows cost nothing but
      memory.
    dim: of the features.
    scatter: ``shared`` for linear discriminants and ridge, ``each`` for quadratic ones, ``none``
      for nearest means.
    dtype: of means and scatter.

  Returns:
    All zero.
  """
  shape = {"shared": (), "each": (classes,), "none": (0,)}[scatter]
  return Moments(
    jnp.zeros(classes, jnp.int32),
    jnp.zeros((classes, dim), dtype),
    jnp.zeros((*shape, dim, dim), dtype),
  )


def combine_moments(a: Moments, b: Moments) -> Moments:
  r"""Moments of two sets of rows together.

  .. math:: S = S_a + S_b + \frac{n_a n_b}{n_a + n_b} (\mu_b - \mu_a)(\mu_b - \mu_a)^\top

  Associative and commutative up to rounding, with `init_moments` as its neutral element. Means and
  not sums are kept, so that features far from the origin lose no digits.

  Args:
    a: of some rows.
    b: of others, of the same shapes.

  Returns:
    Those of all.

  Raises:
    ValueError: if the shapes differ.

  References:
    Chan et al., `Updating Formulae and a Pairwise Algorithm for Computing Sample Variances
    <https://doi.org/10.1007/978-3-642-51461-6_3>`_, 1982, eq. 2.1.
  """
  shapes = [[x.shape for x in moments] for moments in (a, b)]
  if shapes[0] != shapes[1]:
    raise ValueError(f"expected moments of equal shapes, got {shapes[0]} and {shapes[1]}")
  dtype = jnp.promote_types(a.mean.dtype, b.mean.dtype)
  count = a.count + b.count
  share = b.count.astype(dtype) / jnp.maximum(count, 1)
  shift = b.mean - a.mean
  apart = _scatter_of_means(a.count * share, shift, a.scatter)
  return Moments(count, a.mean + share[:, None] * shift, a.scatter + b.scatter + apart)


def update_moments(
  moments: Moments,
  features: jax.Array,
  labels: jax.Array,
  *,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> Moments:
  """Takes in a batch.

  Batches in any order and of any size give the moments of all rows at once, up to rounding.

  Args:
    moments: of the rows before.
    features: ``[batch, dim]``, summed in at least float32.
    labels: ``[batch]`` int below the number of classes; rows labelled -1 are left out.
    where: ``[batch]`` bool, rows that take part; all if absent. What left-out rows hold is nothing
      to the others, NaN included.
    axis_name: mapped axis that holds the rest of the batch, if any. ``moments`` must then be the
      same on all shards, and so is what comes out.

  Returns:
    The moments of all rows; their means are NaN if a label names no class.

  Raises:
    ValueError: if shapes do not fit together or labels are no integers.
  """
  check_labels(labels, features=features)
  classes, dim = moments.mean.shape
  if features.shape[1] != dim:
    raise ValueError(f"moments are of dim {dim} and features of {features.shape[1]}; use one dim")
  if where is not None and where.shape != labels.shape:
    raise ValueError(f"expected where of shape {labels.shape}, got {where.shape}")
  keep = labels >= 0 if where is None else where & (labels >= 0)
  x = jnp.where(keep[:, None], at_least_float32(features), 0)
  of_class = (labels[:, None] == jnp.arange(classes)[None]) & keep[:, None]
  member = of_class.astype(x.dtype)

  # Twice over the batch: first the means, then what lies about them.
  count = jnp.sum(of_class, 0, dtype=jnp.int32)
  size = jnp.maximum(count, 1).astype(x.dtype)[:, None]
  mean = jnp.matmul(member.T, x, precision=_HIGHEST) / size
  about = x - jnp.matmul(member, mean, precision=_HIGHEST)
  about = jnp.where(keep[:, None], about, 0)
  # The mean of the rest rounds; one step more takes off what is left.
  rest = jnp.matmul(member.T, about, precision=_HIGHEST) / size
  mean, about = mean + rest, about - jnp.matmul(member, rest, precision=_HIGHEST)
  if moments.scatter.ndim == 2:
    scatter = jnp.matmul(about.T, about, precision=_HIGHEST)
  elif len(moments.scatter):
    own = lambda one: jnp.matmul((about * one[:, None]).T, about, precision=_HIGHEST)
    scatter = lax.map(own, member.T)
  else:
    scatter = jnp.zeros((0, dim, dim), x.dtype)
  lost = jnp.any(keep & (labels >= classes))
  batch = Moments(count, jnp.where(lost, jnp.nan, mean), scatter)
  return combine_moments(moments, batch if axis_name is None else _over_shards(batch, axis_name))


def _over_shards(part: Moments, axis_name: str) -> Moments:
  """Moments of the whole batch from those of this shard."""
  count = lax.psum(part.count, axis_name)
  share = part.count.astype(part.mean.dtype) / jnp.maximum(count, 1)
  mean = lax.psum(share[:, None] * part.mean, axis_name)
  apart = _scatter_of_means(part.count.astype(share.dtype), part.mean - mean, part.scatter)
  return Moments(count, mean, lax.psum(part.scatter + apart, axis_name))


def _scatter_of_means(weight, shift, like):
  """Weighted outer products of ``shift``, in the form of the scatter ``like``."""
  if like.ndim == 2:
    return jnp.einsum("c,cd,ce->de", weight, shift, shift, precision=_HIGHEST)
  return jnp.einsum("c,cd,ce->cde", weight, shift, shift, precision=_HIGHEST)[: len(like)]


def total_moments(moments: Moments) -> Moments:
  """Forgets the classes.

  Args:
    moments: with a scatter.

  Returns:
    Moments of one class that holds all rows, ``[1]``, ``[1, dim]`` and ``[dim, dim]``: the scatter
    is now about the mean of all.

  Raises:
    ValueError: if no scatter was kept.
  """
  within = within_scatter(moments)
  count = jnp.sum(moments.count, keepdims=True)
  share = moments.count.astype(within.dtype) / jnp.maximum(count, 1)
  mean = jnp.matmul(share, moments.mean, precision=_HIGHEST)[None]
  between = _scatter_of_means(moments.count.astype(within.dtype), moments.mean - mean, within)
  return Moments(count, mean, within + between)


def within_scatter(moments: Moments) -> jax.Array:
  """Scatter about the class means, summed over classes.

  Args:
    moments: with a scatter.

  Returns:
    ``[dim, dim]``.

  Raises:
    ValueError: if no scatter was kept.
  """
  if moments.scatter.ndim == 2:
    return moments.scatter
  if not len(moments.scatter):
    raise ValueError("these moments keep no scatter; begin with init_moments(scatter='shared')")
  return jnp.sum(moments.scatter, 0)


def covariance(moments: Moments, *, ddof: int) -> jax.Array:
  """Covariance of the features about their global mean.

  Args:
    moments: with a scatter.
    ddof: what the scatter is divided by: rows less ``ddof``, and at least 1.

  Returns:
    ``[dim, dim]``.

  Raises:
    ValueError: if no scatter was kept.
  """
  total = total_moments(moments)
  return total.scatter / jnp.maximum(total.count[0] - ddof, 1)


def check_dim(mean: jax.Array, features: jax.Array) -> None:
  """Raises unless features are as wide as class means.

  Args:
    mean: ``[classes, dim]``.
    features: to be ``[batch, dim]``.

  Raises:
    ValueError: naming both.
  """
  if features.ndim != 2 or features.shape[1] != mean.shape[1]:
    raise ValueError(
      f"expected features [batch, {mean.shape[1]}], as the means are, got {features.shape}"
    )
