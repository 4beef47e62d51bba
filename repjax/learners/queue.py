"""A queue: the latest rows that a method has seen, on every device the same."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, l2_normalize


class Queue(NamedTuple):
  """Rows in a ring.

  Attributes:
    rows: ``[size, dim]`` float32.
    next: where the next row goes, int32 scalar; the oldest row is there.
  """

  rows: jax.Array
  next: jax.Array


def start_queue(key: jax.Array, size: int, dim: int) -> Queue:
  """Random unit vectors, which stand in until the queue is filled.

  Args:
    key: of the vectors.
    size: how many rows are kept.
    dim: their width.

  Returns:
    The queue.
  """
  rows = l2_normalize(jax.random.normal(key, (size, dim)))
  return Queue(rows, jnp.zeros((), jnp.int32))


def push(queue: Queue, rows: jax.Array, *, axis_name: str | None = None) -> Queue:
  """Puts rows in the place of the oldest.

  Args:
    queue: of at least as many rows as the whole batch.
    rows: ``[batch, dim]``; stored as they are, without gradient.
    axis_name: mapped axis that holds the rest of the batch, if any; all shards' rows go in.

  Returns:
    The queue, the same on all shards.

  Raises:
    ValueError: if the batch is larger than the queue, or its rows have another width.
  """
  rows = lax.stop_gradient(at_least_float32(rows)).astype(queue.rows.dtype)
  if axis_name is not None:
    rows = lax.all_gather(rows, axis_name, tiled=True)
  (batch, dim), (size, width) = rows.shape, queue.rows.shape
  if batch > size or dim != width:
    raise ValueError(
      f"a queue of {size} rows of {width} takes no batch of {batch} rows of {dim}; "
      f"choose a queue of at least {batch}"
    )
  where = (queue.next + jnp.arange(batch, dtype=jnp.int32)) % size
  return Queue(queue.rows.at[where].set(rows, unique_indices=True), (queue.next + batch) % size)


def nearest(queue: Queue, rows: jax.Array) -> jax.Array:
  """The row of a queue that is nearest to each of a batch, by cosine.

  Args:
    queue: of unit vectors.
    rows: ``[batch, dim]``, of any length.

  Returns:
    ``[batch, dim]`` float32, without gradient.
  """
  rows, bank = lax.stop_gradient((at_least_float32(rows), queue.rows))
  # The length of a row does not change which product is the largest.
  return bank[jnp.argmax(jnp.matmul(rows, bank.T, precision="highest"), 1)]


def own_rows(queue: Queue, axis_name: str | None) -> jax.Array:
  """This shard's part of a queue, for sums over the shards in which each row is to count once.

  Args:
    queue: the same on all shards.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    ``[size / shards, dim]``; all rows without an axis.

  Raises:
    ValueError: if the shards do not divide the queue.
  """
  if axis_name is None:
    return queue.rows
  size, shards = len(queue.rows), lax.axis_size(axis_name)
  if size % shards:
    raise ValueError(
      f"a queue of {size} rows is not divisible by {shards} shards; choose a multiple of {shards}"
    )
  part = size // shards
  return lax.dynamic_slice_in_dim(queue.rows, lax.axis_index(axis_name) * part, part)
