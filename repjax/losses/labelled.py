"""Rows with a class each, and which of their pairs are of one class and which of two."""

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32, l2_normalize
from repjax.losses.layout import row_index

Rows = dict[str, jax.Array]


def labelled_unit_rows(
  embeddings: jax.Array, labels: jax.Array, where: jax.Array | None, axis_name: str | None
) -> Rows:
  """What a pair of labelled embeddings is judged by, for `pair_sums`.

  Args:
    embeddings: ``[batch, dim]``; normalised here, in float32.
    labels: ``[batch]`` integers; below 0 for rows without a label.
    where: ``[batch]`` bool, rows that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Arrays ``[batch, ...]``: the unit vectors ``z``, the ``index`` in the whole batch, the
    ``label``, and whether to ``keep`` the row.

  Raises:
    ValueError: if there is not one label for every embedding.
  """
  shapes = {"embeddings": jnp.shape(embeddings), "labels": jnp.shape(labels)}
  if len(shapes["embeddings"]) != 2 or shapes["labels"] != shapes["embeddings"][:1]:
    raise ValueError(f"expected embeddings [batch, dim] and labels [batch], got {shapes}")
  labels = jnp.asarray(labels, jnp.result_type(labels))  # int64 of NumPy comes down silently
  return {
    "z": l2_normalize(at_least_float32(embeddings)),
    "index": row_index(len(labels), axis_name),
    "label": labels,
    "keep": labels >= 0 if where is None else where & (labels >= 0),
  }


def positives_and_negatives(row: Rows, column: Rows) -> tuple[jax.Array, jax.Array]:
  """Which pairs are of two examples of one class, and which of two classes.

  Args:
    row: as of `labelled_unit_rows`, ``[rows, ...]``.
    column: the same, ``[columns, ...]``.

  Returns:
    Two ``[rows, columns]`` bool; rows that do not take part are in neither.
  """
  both = row["keep"][:, None] & column["keep"][None, :]
  same = row["label"][:, None] == column["label"][None, :]
  apart = row["index"][:, None] != column["index"][None, :]
  return both & same & apart, both & ~same
