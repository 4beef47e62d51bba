"""Two row-aligned sides of a batch: each row's partner, and the others that it is told from."""

from typing import Any

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize
from repjax.losses.layout import row_index
from repjax.losses.pairs import PairSums

Tree = Any


def places(batch: int, where: jax.Array | None, axis_name: str | None) -> dict[str, jax.Array]:
  """Where rows stand in the whole batch, and whether they take part.

  Args:
    batch: rows on this shard.
    where: ``[batch]`` bool, rows that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    ``index`` and, if any may be left out, ``keep``, ``[batch]`` each.
  """
  place = {"index": row_index(batch, axis_name)}
  return place if where is None else place | {"keep": where}


def aligned(
  query: jax.Array,
  key: jax.Array,
  temperature: float | jax.Array,
  where: jax.Array | None,
  axis_name: str | None,
  *,
  normalize: bool = True,
) -> tuple[Tree, Tree, jax.Array]:
  """Rows and columns whose products are logits, and the logit of each row with its partner.

  Args:
    query: ``[batch, dim]``.
    key: ``[batch, dim]``, row-aligned with ``query``.
    temperature: divides the products.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.
    normalize: whether to scale both to unit length.

  Returns:
    Rows and columns of this shard, trees of ``[batch, ...]`` arrays, and ``[batch]`` logits.

  Raises:
    ValueError: if the shapes differ or are not rank 2.
  """
  check_same_shape(2, query=query, key=key)
  query, key = at_least_float32(query), at_least_float32(key)
  if normalize:
    query, key = l2_normalize(query), l2_normalize(key)
  query = query / temperature
  place = places(len(query), where, axis_name)
  return {"z": query} | place, {"z": key} | place, jnp.sum(query * key, -1)


def products(row: Tree, column: Tree, precision: Any) -> jax.Array:
  """Logits of rows and columns.

  Args:
    row: tree that has ``z``, ``[rows, dim]``.
    column: tree that has ``z``, ``[columns, dim]``.
    precision: of the products.

  Returns:
    ``[rows, columns]``.
  """
  return jnp.matmul(row["z"], column["z"].T, precision=precision)


def both_kept(row: Tree, column: Tree, values: jax.Array, otherwise: Any) -> jax.Array:
  """Values of pairs that take part.

  Args:
    row: tree from `places`, or some of its rows.
    column: likewise.
    values: ``[rows, columns]``.
    otherwise: what stands where a row or a column is left out.

  Returns:
    ``[rows, columns]``.
  """
  if "keep" not in row:
    return values
  return jnp.where(row["keep"][:, None] & column["keep"][None, :], values, otherwise)


def apart(row: Tree, column: Tree) -> jax.Array:
  """Which pairs are of two examples, both of which take part.

  Args:
    row: tree from `places`, or some of its rows.
    column: likewise.

  Returns:
    ``[rows, columns]`` bool.
  """
  return both_kept(row, column, row["index"][:, None] != column["index"][None, :], False)


def others(row: Tree, column: Tree, shared: Tree, precision: Any) -> PairSums:
  """Terms of `repjax.losses.pairs.pair_sums`: the logits of everyone but oneself.

  Args:
    row: tree from `aligned`, or some of its rows.
    column: likewise.
    shared: nothing.
    precision: of the products.

  Returns:
    Logits, to be reduced by log-sum-exp over the columns.
  """
  del shared
  logits = products(row, column, precision)
  return PairSums((jnp.where(apart(row, column), logits, -jnp.inf),))
