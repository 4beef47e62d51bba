"""Sums over the rows of a batch that take part, of which other devices may hold some."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32
from repjax.losses.layout import batch_sum, kept


def taking_part(
  z: jax.Array, where: jax.Array | None, axis_name: str | None
) -> tuple[jax.Array, jax.Array]:
  """Rows in the precision of sums, 0 where they are left out, and how many take part.

  Args:
    z: ``[batch, ...]``.
    where: ``[batch]`` bool, rows that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    This shard's rows, float32 or float64, and the number of rows of the whole batch.
  """
  z = at_least_float32(z)
  keep = kept(where, len(z))
  z = jnp.where(keep.reshape(-1, *(1,) * (z.ndim - 1)), z, 0)
  return z, batch_sum(jnp.sum(keep), axis_name)


def centered(
  z: jax.Array, where: jax.Array | None, axis_name: str | None
) -> tuple[jax.Array, jax.Array]:
  """Rows less the mean of the whole batch, 0 where they are left out, and how many take part.

  Args:
    z: ``[batch, ...]``.
    where: ``[batch]`` bool, rows that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    This shard's rows, float32 or float64, and the number of rows of the whole batch.
  """
  z, count = taking_part(z, where, axis_name)
  mean = batch_sum(jnp.sum(z, 0), axis_name) / jnp.maximum(count, 1)
  return taking_part(z - mean[None], where, None)[0], count


def products(
  x: jax.Array,
  y: jax.Array,
  axis_name: str | None,
  *,
  precision: lax.PrecisionLike = "highest",
) -> jax.Array:
  """Products of every two dimensions, summed over the whole batch.

  Args:
    x: this shard's rows, ``[batch, ..., dim]``.
    y: the same shape.
    axis_name: mapped axis that holds the other shards, if any.
    precision: of the products.

  Returns:
    ``[..., dim, dim]``.
  """
  return batch_sum(jnp.einsum("b...c,b...d->...cd", x, y, precision=precision), axis_name)
