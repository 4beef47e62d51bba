"""How batches reach the training step."""

import functools
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from repjax.arrays import batch_shards, place_rows
from repjax.train.hosts import everywhere
from repjax.train.mesh import batch_sharding, local_rows, replicated

Tree = Any


class Feed(NamedTuple):
  """A stream of batches that can be entered at any step.

  Attributes:
    batches: ``(step) -> iterator`` of this process's part of the batches from ``step`` on, the rows
      that `repjax.train.mesh.local_rows` names: trees of NumPy arrays ``[rows, ...]``; row numbers
      ``[rows]`` of the table where there is one. What it yields must depend on the step alone, so
      that a resumed run sees what an uninterrupted one would have.
    batch_size: examples of a batch, over all processes.
    table: the whole set as a tree of arrays ``[size, ...]``, kept on every device and indexed
      inside the step; absent for sets that do not fit.
  """

  batches: Callable[[int], Iterator[Tree]]
  batch_size: int
  table: Tree | None = None


def check_divisible(batch_size: int, mesh: Mesh) -> None:
  """Raises unless a batch splits evenly over the batch axes of the mesh.

  Args:
    batch_size: examples of a batch, over all processes.
    mesh: from `make_mesh`.

  Raises:
    ValueError: naming both and the nearest sizes that fit.
  """
  shards = batch_shards(mesh)
  if batch_size % shards:
    below = batch_size // shards * shards
    raise ValueError(
      f"--batch_size={batch_size} is not divisible by the {shards} shards of --mesh; "
      f"use {f'{below} or ' if below else ''}{below + shards}"
    )


def place_batch(batch: Tree, mesh: Mesh) -> Tree:
  """Makes global arrays of this process's part of a batch.

  Args:
    batch: tree of NumPy arrays ``[rows, ...]``, those of `repjax.train.mesh.local_rows`.
    mesh: from `make_mesh`.

  Returns:
    Tree of ``[batch, ...]`` arrays, split over the mesh's batch axes.
  """
  shards = batch_shards(mesh)
  local = len(local_rows(mesh, shards))  # shards that this process holds
  size = len(jax.tree.leaves(batch)[0]) // local * shards
  rows, sharding = local_rows(mesh, size), batch_sharding(mesh)
  return jax.tree.map(lambda x: place_rows(x, rows, size, sharding), batch)


def place_table(table: Tree | None, mesh: Mesh) -> Tree | None:
  """Copies a whole set to every device.

  Args:
    table: tree of NumPy arrays ``[size, ...]``, the same for all processes, or nothing.
    mesh: from `make_mesh`.

  Returns:
    The tree on the mesh, or nothing.

  Raises:
    ValueError: if a process holds another set than the first.
  """
  if jax.process_count() == 1:
    return jax.device_put(table, replicated(mesh))
  leaves = [np.ascontiguousarray(x) for x in jax.tree.leaves(table)]
  mark = functools.reduce(lambda mark, x: zlib.crc32(x, mark), leaves, 0)
  marks = everywhere(np.uint32(mark))
  if any(different := marks != marks[0]):
    raise ValueError(
      f"process {np.argmax(different)} holds other data than process 0; give all the same files"
    )
  place = lambda x: jax.make_array_from_callback(x.shape, replicated(mesh), lambda part: x[part])
  return jax.tree.map(place, table)


def take(table: Tree | None, batch: Tree) -> Tree:
  """Looks row numbers up, where there is a table.

  Args:
    table: tree of ``[size, ...]`` arrays, or nothing.
    batch: row numbers ``[batch]``, or the batch itself.

  Returns:
    Tree of ``[batch, ...]`` arrays.
  """
  if table is None:
    return batch
  return jax.tree.map(lambda x: x.at[batch].get(mode="promise_in_bounds"), table)


def first_batch(feed: Feed) -> Tree:
  """One batch on the host, to make a state from.

  Args:
    feed: any.

  Returns:
    Tree of NumPy arrays.
  """
  batch = next(iter(feed.batches(0)))
  if feed.table is None:
    return batch
  return jax.tree.map(lambda x: np.asarray(x)[batch], feed.table)
