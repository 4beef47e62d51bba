"""The rest of a batch, where a mapped axis holds it."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Tree = Any


def gather(tree: Tree, axis_name: str | None) -> Tree:
  """The whole batch from this shard of it.

  Args:
    tree: arrays ``[batch, ...]``.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Arrays ``[shards * batch, ...]``, in the order of the shards.
  """
  if axis_name is None:
    return tree
  return jax.tree.map(lambda x: lax.all_gather(x, axis_name, tiled=True), tree)


def shards(axis_name: str | None) -> int:
  """How many shards the batch has.

  Args:
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Their number, 1 without an axis.
  """
  return 1 if axis_name is None else lax.axis_size(axis_name)


def kept(where: jax.Array | None, batch: int) -> jax.Array:
  """Which rows take part.

  Args:
    where: ``[batch]`` bool, or absent.
    batch: rows on this shard.

  Returns:
    ``[batch]`` bool; all if ``where`` is absent.
  """
  return jnp.ones(batch, bool) if where is None else where


def row_index(batch: int, axis_name: str | None) -> jax.Array:
  """Where this shard's rows stand in the whole batch.

  Args:
    batch: rows on this shard.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    ``[batch]`` int32.
  """
  first = 0 if axis_name is None else lax.axis_index(axis_name) * batch
  return first + jnp.arange(batch, dtype=jnp.int32)


def batch_sum(tree: Tree, axis_name: str | None) -> Tree:
  """Sums what the shards have.

  Args:
    tree: arrays that hold this shard's sum.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    The same shapes, summed over the shards.
  """
  return tree if axis_name is None else lax.psum(tree, axis_name)


def batch_mean(x: jax.Array, axis_name: str | None, *, where: jax.Array | None = None) -> jax.Array:
  """Mean over the rows of the whole batch.

  Args:
    x: ``[batch, ...]``.
    axis_name: mapped axis that holds the other shards, if any.
    where: ``[batch]`` bool, the rows that count; all if absent.

  Returns:
    ``x`` without its leading axis; 0 where no row counts.
  """
  where = kept(where, len(x))
  keep = where.reshape(-1, *(1,) * (x.ndim - 1))
  total, count = batch_sum((jnp.sum(jnp.where(keep, x, 0), 0), jnp.sum(where)), axis_name)
  return total / jnp.maximum(count, 1)
