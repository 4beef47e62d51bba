"""Rows with labels: which pairs of a batch are of one class, and how much each pair counts.

A loss that sums over pairs is a function of the rows and columns of `labelled_rows`, whole or in
tiles, through `positives` and `negatives`. One that sorts or ranks pairs starts from the matrices
of `labelled_pairs`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_labels, l2_normalize
from repjax.losses.layout import gather, row_index, shards

Tree = Any


def labelled_rows(
  embeddings: jax.Array,
  labels: jax.Array,
  weights: jax.Array | None = None,
  *,
  normalize: bool = False,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> tuple[Tree, Tree]:
  """What a pair needs to know of its row and of its column.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    weights: of pairs, ``[batch, total]`` bool or floating, >= 0, such as a miner's; the columns
      are everyone's. No gradient reaches them.
    normalize: whether to scale embeddings to unit length.
    where: ``[batch]`` bool, rows that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Rows and columns of this shard, trees of ``[batch, ...]`` arrays.

  Raises:
    ValueError: if the shapes do not match.
  """
  check_labels(labels, embeddings=embeddings)
  batch = len(embeddings)
  total = batch * shards(axis_name)
  z = at_least_float32(embeddings)
  labels = jnp.asarray(labels)
  columns = {
    "z": l2_normalize(z) if normalize else z,
    "label": labels if where is None else jnp.where(where, labels, -1),
    "index": row_index(batch, axis_name),
  }
  if weights is None:
    return columns, columns
  if jnp.shape(weights) != (batch, total):
    wanted = f"[batch, total] weights of shape {(batch, total)}"
    raise ValueError(f"expected {wanted}, got {jnp.shape(weights)}")
  weights = lax.stop_gradient(jnp.asarray(weights, z.dtype))
  return columns | {"weights": weights}, columns


def positives(row: Tree, column: Tree) -> jax.Array:
  """Weights of pairs of two rows of one class.

  Args:
    row: tree of ``[batch, ...]`` arrays, or of some of their rows.
    column: tree of ``[total, ...]`` arrays, or of some of their rows.

  Returns:
    ``[batch, total]``, of the embeddings' dtype; 0 for other pairs.
  """
  return _weigh(row, column, positives_and_negatives(row, column)[0])


def negatives(row: Tree, column: Tree) -> jax.Array:
  """Weights of pairs of two rows of different classes.

  Args:
    row: tree of ``[batch, ...]`` arrays, or of some of their rows.
    column: tree of ``[total, ...]`` arrays, or of some of their rows.

  Returns:
    ``[batch, total]``, of the embeddings' dtype; 0 for other pairs.
  """
  return _weigh(row, column, positives_and_negatives(row, column)[1])


def positives_and_negatives(row: Tree, column: Tree) -> tuple[jax.Array, jax.Array]:
  """Which pairs are of two rows of one class, and which of different classes, weights aside.

  Args:
    row: tree of ``[batch, ...]`` arrays, or of some of their rows.
    column: tree of ``[total, ...]`` arrays, or of some of their rows.

  Returns:
    Two ``[batch, total]`` bool; rows that are left out are in neither.
  """
  both = (row["label"] >= 0)[:, None] & (column["label"] >= 0)[None, :]
  same = row["label"][:, None] == column["label"][None, :]
  apart = row["index"][:, None] != column["index"][None, :]
  return both & same & apart, both & ~same


class Pairs(NamedTuple):
  """Every row with every column.

  Attributes:
    distance: ``[batch, total]``.
    positive: weights of pairs of one class, ``[batch, total]``; 0 for other pairs.
    negative: weights of pairs of different classes, ``[batch, total]``; 0 for other pairs.
  """

  distance: jax.Array
  positive: jax.Array
  negative: jax.Array


def labelled_pairs(
  embeddings: jax.Array,
  labels: jax.Array,
  weights: jax.Array | None = None,
  *,
  distance: Callable[[jax.Array, jax.Array], jax.Array],
  normalize: bool = False,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> Pairs:
  """Distances of this shard's rows to everyone, and which are between rows of one class.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    weights: of pairs, ``[batch, total]``.
    distance: of rows to columns.
    normalize: whether to scale embeddings to unit length.
    where: ``[batch]`` bool, rows that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Matrices ``[batch, total]``.

  Raises:
    ValueError: if the shapes do not match.
  """
  rows, columns = labelled_rows(
    embeddings, labels, weights, normalize=normalize, where=where, axis_name=axis_name
  )
  columns = gather(columns, axis_name)
  d = distance(rows["z"], columns["z"])
  return Pairs(d, positives(rows, columns), negatives(rows, columns))


def places(values: jax.Array, count: jax.Array, thresholds: jax.Array, side: str):
  """Sorts each row, and finds where in it thresholds would go.

  Args:
    values: ``[batch, total]``.
    count: ``[batch, total]`` bool, the values that count; others go last.
    thresholds: ``[batch, total]``.
    side: ``"left"`` or ``"right"``: whether equal values come after a threshold or before it.

  Returns:
    The order of a row's values, and how many of them lie before each threshold, both
    ``[batch, total]`` int32.
  """
  values, thresholds = lax.stop_gradient((values, thresholds))
  values = jnp.where(count, values, jnp.inf)
  order = jnp.argsort(values, 1)
  search = jax.vmap(lambda x, t: jnp.searchsorted(x, t, side=side, method="sort"))
  return order, search(jnp.take_along_axis(values, order, 1), thresholds)


def log_weighted(logits: jax.Array, weights: jax.Array) -> jax.Array:
  """Logits whose exponentials are multiplied by weights.

  Args:
    logits: ``[batch, total]``.
    weights: ``[batch, total]``, >= 0.

  Returns:
    ``[batch, total]``; -inf where the weight is 0.
  """
  some = weights > 0
  return jnp.where(some, logits + jnp.log(jnp.where(some, weights, 1)), -jnp.inf)


def ratio(total: jax.Array, count: jax.Array) -> jax.Array:
  """A mean from its sums, 0 where there is nothing.

  Args:
    total: weighted sum, ``[batch]``.
    count: sum of the weights, ``[batch]``.

  Returns:
    ``[batch]``.
  """
  return total / jnp.where(count > 0, count, 1)


def _weigh(row, column, pairs) -> jax.Array:
  weights = pairs.astype(row["z"].dtype)
  return weights if "weights" not in row else weights * row["weights"][:, column["index"]]
