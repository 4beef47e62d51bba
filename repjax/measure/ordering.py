"""Ranks, and whether two sets of numbers have the same."""

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32, check_same_shape


def rank_correlation(x: jax.Array, y: jax.Array) -> jax.Array:
  """Spearman's correlation: that of the ranks.

  Args:
    x: ``[n]``.
    y: ``[n]``, in the same order.

  Returns:
    Scalar in [-1, 1], at least float32, equal values at their mean rank; 0 where one is constant.

  Raises:
    ValueError: if shapes differ or are not rank 1.

  References:
    Spearman, `The Proof and Measurement of Association between Two Things
    <https://doi.org/10.2307/1412159>`_, 1904.
  """
  check_same_shape(1, x=x, y=y)
  a, b = (z - jnp.mean(z) for z in (ranks(x), ranks(y)))
  length = jnp.sqrt(jnp.sum(a * a)) * jnp.sqrt(jnp.sum(b * b))
  return jnp.where(length > 0, jnp.sum(a * b) / jnp.where(length > 0, length, 1), 0)


def ranks(values: jax.Array) -> jax.Array:
  """Ranks from 1, of equal values the mean.

  Args:
    values: ``[n]``.

  Returns:
    ``[n]``, at least float32; exact up to 2 ** 23 values in float32.

  Raises:
    ValueError: if ``values`` is not rank 1.
  """
  check_same_shape(1, values=values)
  values = at_least_float32(values)
  order = jnp.sort(values)
  below = jnp.searchsorted(order, values, side="left")
  upto = jnp.searchsorted(order, values, side="right")
  return jnp.asarray(below + upto + 1, values.dtype) / 2
