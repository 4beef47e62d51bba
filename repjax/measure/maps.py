"""Linear maps from one representation to another, fitted on examples that both have seen."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from repjax.measure.alignment import check_pair


class LinearMap(NamedTuple):
  """``(x - mean_source) @ matrix + mean_target``.

  Attributes:
    matrix: ``[dim_source, dim_target]``.
    mean_source: ``[dim_source]``.
    mean_target: ``[dim_target]``.
  """

  matrix: jax.Array
  mean_source: jax.Array
  mean_target: jax.Array


def orthogonal_map(
  source: jax.Array, target: jax.Array, *, centre: bool = True, scale: bool = False
) -> LinearMap:
  r"""The turn that brings anchors of one representation closest to those of another.

  .. math:: Q = U V^T, \qquad X^T Y = U S V^T

  the solution of :math:`\min_Q \lVert X Q - Y \rVert_F` over orthogonal matrices. Where widths
  differ, rows or columns of Q are orthonormal.

  Args:
    source: ``[n, dim_source]``.
    target: ``[n, dim_target]``, of the same examples in the same order.
    centre: take both means off, and put the target's on again.
    scale: multiply by the best factor too, :math:`\sum S / \lVert X Q \rVert_F^2`.

  Returns:
    The map.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Schönemann, `A generalized solution of the orthogonal Procrustes problem
    <https://doi.org/10.1007/BF02289451>`_, 1966.
    Maiorca et al., `Latent Space Translation via Semantic Alignment
    <https://arxiv.org/abs/2311.00664>`_, 2023 (maps between latent spaces from anchors).
  """
  x, y, mean_x, mean_y = _centred_pair(source, target, centre)
  left, _, right = jnp.linalg.svd(jnp.matmul(x.T, y, precision="highest"), full_matrices=False)
  matrix = jnp.matmul(left, right, precision="highest")
  if scale:
    turned = jnp.matmul(x, matrix, precision="highest")
    square = jnp.sum(turned**2)
    matrix = matrix * jnp.where(
      square > 0, jnp.sum(turned * y) / jnp.where(square > 0, square, 1), 1
    )
  return LinearMap(matrix, mean_x, mean_y)


def affine_map(
  source: jax.Array, target: jax.Array, *, ridge: float | jax.Array = 0.0, centre: bool = True
) -> LinearMap:
  r"""Least squares from one representation to another, with ridge or without.

  .. math::
    \min_W \lVert X W - Y \rVert_F^2 + \lambda \frac{\lVert X \rVert_F^2}{d} \lVert W \rVert_F^2

  with d the width of the source, so that the penalty does not depend on the scale or the number of
  anchors. At ridge 0 it is the solution of least norm, and fits any noise where anchors are as few
  as dimensions.

  Args:
    source: ``[n, dim_source]``.
    target: ``[n, dim_target]``, of the same examples in the same order.
    ridge: the penalty in units of the mean variance, >= 0.
    centre: take both means off, and put the target's on again (the intercept).

  Returns:
    The map.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Hoerl and Kennard, `Ridge Regression: Biased Estimation for Nonorthogonal Problems
    <https://doi.org/10.1080/00401706.1970.10488634>`_, 1970.
  """
  x, y, mean_x, mean_y = _centred_pair(source, target, centre)
  left, values, right = jnp.linalg.svd(x, full_matrices=False)
  some = (values > max(x.shape) * jnp.finfo(x.dtype).eps * values[0]) & (values > 0)
  penalty = ridge * jnp.sum(values**2) / x.shape[1]
  gain = jnp.where(some, values / jnp.where(some, values**2 + penalty, 1), 0)
  matrix = jnp.matmul(left.T, y, precision="highest") * gain[:, None]
  return LinearMap(jnp.matmul(right.T, matrix, precision="highest"), mean_x, mean_y)


def apply_map(linear: LinearMap, features: jax.Array) -> jax.Array:
  """Brings features of the source to the target's space.

  Args:
    linear: from `orthogonal_map` or `affine_map`.
    features: ``[..., dim_source]``.

  Returns:
    ``[..., dim_target]``.

  Raises:
    ValueError: if the width is not the map's.
  """
  if jnp.shape(features)[-1] != len(linear.mean_source):
    raise ValueError(
      f"a map from {len(linear.mean_source)} dimensions got features {jnp.shape(features)}"
    )
  x = jnp.subtract(features, jnp.expand_dims(linear.mean_source, range(jnp.ndim(features) - 1)))
  out = jnp.matmul(x, linear.matrix, precision="highest")
  return out + jnp.expand_dims(linear.mean_target, range(jnp.ndim(features) - 1))


def _centred_pair(source, target, centre):
  x, y = check_pair(source, target)
  means = [jnp.mean(z, 0) if centre else jnp.zeros(z.shape[1], z.dtype) for z in (x, y)]
  return x - means[0][None], y - means[1][None], *means
