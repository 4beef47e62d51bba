"""Sums over all pairs of a batch, in memory that grows with the batch and not with its square.

A contrastive loss is written as a function from a few rows and a few columns to a matrix of terms.
`pair_sums` sums such a matrix over its columns, its rows or both, by logarithm or plainly, in one
of three ways that give the same value and gradient: the whole matrix at once, the readable
definition; tiles of it, recomputed in the backward pass, so that only row statistics are kept; and,
where a mapped axis holds the batch, tiles around a ring of devices that each hold one block.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from repjax.arrays import platform
from repjax.losses.layout import gather, shards

Tree = Any


class PairSums(NamedTuple):
  """Terms of pairs, ``[rows, columns]`` matrices each, or what they add up to.

  Attributes:
    log_sums: reduced by log-sum-exp over the columns, to ``[rows]``; -inf leaves a pair out.
    sums: summed over the columns, to ``[rows]``.
    column_log_sums: reduced by log-sum-exp over the rows, to ``[columns]``.
    column_sums: summed over the rows, to ``[columns]``.
  """

  log_sums: tuple[jax.Array, ...] = ()
  sums: tuple[jax.Array, ...] = ()
  column_log_sums: tuple[jax.Array, ...] = ()
  column_sums: tuple[jax.Array, ...] = ()


Terms = Callable[[Tree, Tree, Tree], PairSums]


class _Plan(NamedTuple):
  tile_size: int
  symmetric: bool
  axis_name: str | None


def pair_sums(
  terms: Terms,
  rows: Tree,
  columns: Tree,
  shared: Tree = (),
  *,
  symmetric: bool = False,
  tile_size: int | None = None,
  axis_name: str | None = None,
) -> PairSums:
  """Sums terms of every row with every column.

  Args:
    terms: ``(rows, columns, shared) -> PairSums`` of matrices, for any subset of rows and columns.
      A function of its arguments alone: a traced value that it closed over would get no gradient.
    rows: tree of ``[rows, ...]`` arrays.
    columns: tree of ``[columns, ...]`` arrays; under ``axis_name`` this shard's part.
    shared: tree of what every pair needs, such as a learned bias.
    symmetric: promises that ``rows`` and ``columns`` are the same and that swapping a row and a
      column swaps nothing else, so that half of the tiles do. No column sums then.
    tile_size: edge of a tile; 0 forms the whole matrix. By default the whole matrix up to 2**24
      pairs, 2**22 if symmetric, beyond that tiles of `default_tile_size`.
    axis_name: mapped axis that holds the other shards of rows and columns, if any.

  Returns:
    The sums, vectors of length ``rows`` and ``columns``.

  Raises:
    ValueError: if ``tile_size`` is negative.
  """
  if tile_size is not None and tile_size < 0:
    raise ValueError(f"tile_size={tile_size} is negative; give an edge, or 0 for no tiles")
  rows, columns, shared = jax.tree.map(jnp.asarray, (rows, columns, shared))
  devices = shards(axis_name)
  if tile_size is None:
    limit = 2**22 if symmetric else 2**24  # where tiles begin to pay, on a CPU
    few = _length(rows) * _length(columns) * devices <= limit
    tile_size = 0 if few else default_tile_size()
  if tile_size == 0:
    return _whole(terms, rows, columns, shared, axis_name)
  plan = _Plan(tile_size, symmetric and axis_name is None, axis_name)
  # What is the same on all devices is marked as varying here, outside of the custom gradient, so
  # that shard_map sums its gradient over the devices.
  rows, columns, shared = _vary((rows, columns, shared), (rows, columns, shared))
  return _tiled(terms, plan, rows, columns, shared)


def default_tile_size() -> int:
  """Edge of a large batch's tiles: 1,024 on a CPU, whose caches hold such a tile, else 4,096."""
  return 1024 if platform() == "cpu" else 4096


def log_sum_exp(x: jax.Array, axis: int) -> jax.Array:
  """Log-sum-exp with a finite gradient where every term is left out.

  Args:
    x: logits, any shape; -inf leaves one out.
    axis: axis to reduce.

  Returns:
    ``x`` without ``axis``; -inf where all are left out.
  """
  peak = lax.stop_gradient(jnp.max(x, axis, keepdims=True))
  peak = jnp.where(jnp.isfinite(peak), peak, 0)
  total = jnp.sum(jnp.exp(x - peak), axis)
  some = total > 0
  return jnp.where(some, jnp.log(jnp.where(some, total, 1)) + jnp.squeeze(peak, axis), -jnp.inf)


def _length(tree: Tree) -> int:
  return len(jax.tree.leaves(tree)[0])


def _whole(terms, rows, columns, shared, axis_name) -> PairSums:
  """The definition: one matrix, this shard's rows by everyone's columns."""
  matrices = terms(rows, gather(columns, axis_name), shared)

  def from_all_shards(partial, reduce):
    if axis_name is None:
      return partial
    # Each shard has a part of every column's sum; it gets the parts of its own columns.
    parts = partial.reshape(shards(axis_name), -1)
    return reduce(lax.all_to_all(parts, axis_name, 0, 0, tiled=True), 0)

  return PairSums(
    tuple(log_sum_exp(x, 1) for x in matrices.log_sums),
    tuple(jnp.sum(x, 1) for x in matrices.sums),
    tuple(from_all_shards(log_sum_exp(x, 0), log_sum_exp) for x in matrices.column_log_sums),
    tuple(from_all_shards(jnp.sum(x, 0), jnp.sum) for x in matrices.column_sums),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _tiled(terms, plan, rows, columns, shared) -> PairSums:
  return _tiled_forward(terms, plan, rows, columns, shared)[0]


def _tiled_forward(terms, plan, rows, columns, shared):
  row_tiles, column_tiles, evaluate = _deal_out(terms, plan, rows, columns)
  shapes = jax.eval_shape(evaluate, _at(row_tiles, 0), _at(column_tiles, 0), shared)

  def start(logs, sums, tiles):
    size = jax.tree.leaves(tiles)[0].shape[:2]
    logs = tuple((jnp.full(size, -jnp.inf, x.dtype), jnp.zeros(size, x.dtype)) for x in logs)
    return logs, tuple(jnp.zeros(size, x.dtype) for x in sums)

  by_row = start(shapes.log_sums, shapes.sums, row_tiles)
  by_column = start(shapes.column_log_sums, shapes.column_sums, column_tiles)

  def visit(state, columns, pair):
    (by_row, by_column), (i, j) = state, pair
    out = evaluate(_at(row_tiles, i), _at(columns, j), shared)
    by_row = _absorb(by_row, i, out.log_sums, out.sums, 1)
    if plan.symmetric:  # the tile on the other side of the diagonal
      other = _absorb(by_row, j, out.log_sums, out.sums, 0)
      by_row = jax.tree.map(lambda x, y: jnp.where(i == j, x, y), by_row, other)
    by_column = _absorb(by_column, j, out.column_log_sums, out.column_sums, 0)
    return by_row, by_column

  by_row, by_column = _tour(plan, visit, (by_row, by_column), row_tiles, column_tiles)

  def finish(state, of):
    logs, sums = state
    return (
      tuple(_collect(peak + jnp.log(total), of) for peak, total in logs),
      tuple(_collect(x, of) for x in sums),
    )

  sums = PairSums(*finish(by_row, rows), *finish(by_column, columns))
  return sums, (rows, columns, shared, sums)


def _tiled_backward(terms, plan, saved, cotangents):
  rows, columns, shared, sums = saved
  row_tiles, column_tiles, evaluate = _deal_out(terms, plan, rows, columns)

  def weights(logs, log_cotangents, cotangents, tiles):
    count = _count(tiles)
    # Terms that were left out have weight exp(-inf), also where nothing else was there.
    logs = tuple(jnp.where(jnp.isfinite(x), x, 0) for x in logs)
    return _deal((logs, log_cotangents, cotangents), count)

  by_row = weights(sums.log_sums, cotangents.log_sums, cotangents.sums, row_tiles)
  by_column = weights(
    sums.column_log_sums, cotangents.column_log_sums, cotangents.column_sums, column_tiles
  )

  def spread(state, index, logs, sums, axis):
    """What each term of a tile adds to the loss, to first order."""
    log_totals, log_cotangents, cotangents = (
      tuple(jnp.expand_dims(x, axis) for x in part) for part in _at(state, index)
    )
    of_logs = zip(logs, log_totals, log_cotangents, strict=True)
    return (
      tuple(g * jnp.exp(a - total) for a, total, g in of_logs),
      tuple(jnp.broadcast_to(g, a.shape) for a, g in zip(sums, cotangents, strict=True)),
    )

  def visit(state, columns, pair):
    ((d_rows, d_row_tile, d_shared), (by_column, d_columns)), (i, j) = state, pair
    parts = _at(row_tiles, i), _at(columns, j), shared
    out, pull = jax.vjp(lambda f: evaluate(*_merge(f, parts)), _floats(parts))
    of_rows = spread(by_row, i, out.log_sums, out.sums, 1)
    if plan.symmetric:
      other = spread(by_row, j, out.log_sums, out.sums, 0)
      of_rows = jax.tree.map(lambda x, y: x + jnp.where(i == j, 0, y), of_rows, other)
    of_columns = spread(by_column, j, out.column_log_sums, out.column_sums, 0)
    ((d_row, d_column, d_more),) = pull(PairSums(*of_rows, *of_columns))
    d_shared = _add(d_shared, d_more)
    if plan.symmetric:
      # One array for both roles, since rows and columns are the same. A row tile's gradient is
      # gathered apart until its last column: the compiler then writes each step's result in place,
      # where two writes into one array would have it copy the whole.
      d_row_tile = _add(d_row_tile, d_row)
      done = jax.tree.map(lambda x: jnp.where(i == j, x, 0), d_row_tile)
      d_row_tile = jax.tree.map(lambda x: jnp.where(i == j, 0, x), d_row_tile)
      d_rows = _add_at(d_rows, j, _add(d_column, done))
    else:
      d_rows, d_columns = _add_at(d_rows, i, d_row), _add_at(d_columns, j, d_column)
    return (d_rows, d_row_tile, d_shared), (by_column, d_columns)

  d_rows, d_columns, d_shared = _zeros(_floats((row_tiles, column_tiles, shared)))
  d_row_tile, d_columns = (_at(d_rows, 0), None) if plan.symmetric else (None, d_columns)
  state = (d_rows, d_row_tile, d_shared), (by_column, d_columns)
  (d_rows, _, d_shared), (_, d_columns) = _tour(plan, visit, state, row_tiles, column_tiles)
  d_rows = jax.tree.map(lambda x: _collect(x, rows), d_rows[0])
  if plan.symmetric:
    return d_rows, _zeros(_floats(columns)), d_shared
  return d_rows, jax.tree.map(lambda x: _collect(x, columns), d_columns[0]), d_shared


_tiled.defvjp(_tiled_forward, _tiled_backward)


def _tour(plan, visit, state, row_tiles, column_tiles):
  """Visits every pair of tiles. The state is what stays and, around a ring, what travels on."""

  def walk(state, columns, pairs):
    step = lambda state, pair: (visit(state, columns, pair), None)
    return lax.scan(step, state, np.array(pairs, np.int32))[0]

  # A loop's carry has to start as it ends.
  state, column_tiles = _vary((state, column_tiles), (state, row_tiles, column_tiles))
  rows, columns = range(_count(row_tiles)), range(_count(column_tiles))
  if plan.symmetric:  # above the diagonal, each row's tile on the diagonal last
    return walk(state, column_tiles, [(i, j) for i in rows for j in (*rows[i + 1 :], i)])
  pairs = [(i, j) for i in rows for j in columns]
  if plan.axis_name is None:
    return walk(state, column_tiles, pairs)
  devices = shards(plan.axis_name)
  ring = [(i, (i + 1) % devices) for i in range(devices)]

  def step(carry, _):
    state, column_tiles = carry
    stays, travels = walk(state, column_tiles, pairs)
    travels, column_tiles = lax.ppermute((travels, column_tiles), plan.axis_name, ring)
    return ((stays, travels), column_tiles), None

  return lax.scan(step, (state, column_tiles), length=devices)[0][0]


def _deal_out(terms, plan, rows, columns):
  """Tiles of rows and columns, which of them are real, and the terms of a pair of tiles."""
  sides = [(x, _length(x), -(-_length(x) // plan.tile_size)) for x in (rows, columns)]
  padded = any(length % count for _, length, count in sides)
  row_tiles, column_tiles = (
    (_deal(x, count), _deal(jnp.arange(length), count, fill=-1) >= 0 if padded else None)
    for x, length, count in sides
  )

  def evaluate(row, column, shared):
    (row, real_row), (column, real_column) = row, column
    out = terms(row, column, shared)
    if not padded:
      return out
    real = real_row[:, None] & real_column[None, :]
    drop = lambda matrices, value: tuple(jnp.where(real, x, value) for x in matrices)
    values = PairSums(-jnp.inf, 0, -jnp.inf, 0)
    return PairSums(*(drop(x, value) for x, value in zip(out, values, strict=True)))

  return row_tiles, column_tiles, evaluate


def _deal(tree: Tree, count: int, fill: int | None = None) -> Tree:
  """Deals rows out like cards, to ``[size, count, ...]``; the last row fills up what is missing.

  So a batch that is sharded over a mesh stays where it is, every tile having rows of every device,
  and no copy of it is made.
  """

  def deal(x):
    size = -(-len(x) // count)
    missing = size * count - len(x)
    if missing:
      rest = x[-1:] if fill is None else jnp.full_like(x[-1:], fill)
      x = jnp.concatenate([x, jnp.repeat(rest, missing, 0)])
    return x.reshape(size, count, *x.shape[1:])

  return jax.tree.map(deal, tree)


def _collect(x: jax.Array, tree: Tree) -> jax.Array:
  """Undoes `_deal`."""
  return x.reshape(-1, *x.shape[2:])[: _length(tree)]


def _count(tiles: Tree) -> int:
  return jax.tree.leaves(tiles)[0].shape[1]


def _at(tree: Tree, index) -> Tree:
  return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, index, 1, keepdims=False), tree)


def _put(tree: Tree, index, values: Tree) -> Tree:
  put = lambda x, value: lax.dynamic_update_index_in_dim(x, value, index, 1)
  return jax.tree.map(put, tree, values)


def _add(tree: Tree, values: Tree) -> Tree:
  return jax.tree.map(jnp.add, tree, values)


def _add_at(tree: Tree, index, values: Tree) -> Tree:
  return _put(tree, index, _add(_at(tree, index), values))


def _absorb(state, index, logs, sums, axis):
  """Adds a tile's terms to the running sums of its rows or columns."""

  def log_add(total, x):
    peak, scaled = total
    highest = jnp.maximum(peak, jnp.max(x, axis))
    shift = jnp.where(jnp.isfinite(highest), highest, 0)
    more = jnp.sum(jnp.exp(x - jnp.expand_dims(shift, axis)), axis)
    return highest, scaled * jnp.exp(peak - shift) + more

  log_totals, totals = _at(state, index)
  log_totals = tuple(log_add(total, x) for total, x in zip(log_totals, logs, strict=True))
  totals = tuple(total + jnp.sum(x, axis) for total, x in zip(totals, sums, strict=True))
  return _put(state, index, (log_totals, totals))


def _floats(tree: Tree) -> Tree:
  """The leaves that have a gradient; None in place of the others."""
  inexact = lambda x: jnp.issubdtype(jnp.result_type(x), jnp.inexact)
  return jax.tree.map(lambda x: x if inexact(x) else None, tree)


def _merge(floats: Tree, tree: Tree) -> Tree:
  pick = lambda x, y: y if x is None else x
  return jax.tree.map(pick, floats, tree, is_leaf=lambda x: x is None)


def _zeros(tree: Tree) -> Tree:
  return jax.tree.map(jnp.zeros_like, tree)


def _vary(tree: Tree, like: Tree) -> Tree:
  """Marks arrays as varying over the axes of a shard_map over which any of ``like`` varies.

  Selecting between an array and a varying number, always the array, has this effect and no other.
  """
  first = [jnp.ravel(x)[0].astype(jnp.float32) for x in jax.tree.leaves(like)]
  mark = lax.stop_gradient(functools.reduce(jnp.add, first))
  return jax.tree.map(lambda x: jnp.where(True, x, mark.astype(x.dtype)), tree)
