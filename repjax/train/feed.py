"""How batches reach the training step."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from repjax.train.mesh import DATA, batch_sharding, replicated

Tree = Any


class Feed(NamedTuple):
  """A stream of batches that can be entered at any step.

  Attributes:
    batches: ``(step) -> iterator`` of this process's part of the batches from ``step`` on: trees
      of NumPy arrays ``[batch / processes, ...]``; row numbers ``[batch / processes]`` where there
      is a table. What it yields must depend on the step alone, so that a resumed run sees what an
      uninterrupted one would have.
    batch_size: examples of a batch, over all processes.
    table: the whole set as a tree of arrays ``[size, ...]``, kept on every device and indexed
      inside the step; absent for sets that do not fit.
  """

  batches: Callable[[int], Iterator[Tree]]
  batch_size: int
  table: Tree | None = None


def check_divisible(batch_size: int, mesh: Mesh) -> None:
  """Raises unless a batch splits evenly over the data axis of the mesh.

  Args:
    batch_size: examples of a batch, over all processes.
    mesh: from `make_mesh`.

  Raises:
    ValueError: naming both and the nearest sizes that fit.
  """
  shards = mesh.shape[DATA]
  if batch_size % shards:
    below = batch_size // shards * shards
    raise ValueError(
      f"--batch_size={batch_size} is not divisible by the {shards} shards of --mesh; "
      f"use {f'{below} or ' if below else ''}{below + shards}"
    )


def place_batch(batch: Tree, mesh: Mesh) -> Tree:
  """Makes global arrays of this process's part of a batch.

  Args:
    batch: tree of NumPy arrays ``[batch / processes, ...]``.
    mesh: from `make_mesh`.

  Returns:
    Tree of ``[batch, ...]`` arrays, split over the mesh's data axis.
  """
  sharding = batch_sharding(mesh)
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def place_table(table: Tree | None, mesh: Mesh) -> Tree | None:
  """Copies a whole set to every device.

  Args:
    table: tree of NumPy arrays ``[size, ...]``, or nothing.
    mesh: from `make_mesh`.

  Returns:
    The tree on the mesh, or nothing.
  """
  return jax.device_put(table, replicated(mesh))


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
