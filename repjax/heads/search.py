"""Exact search for the nearest keys, a tile of queries and a tile of keys at a time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from repjax.losses.distances import Distance, cosine_distance


class Neighbors(NamedTuple):
  """The nearest keys of queries, the nearest first.

  Attributes:
    index: ``[query, k]`` int32; -1 where fewer than ``k`` keys take part.
    distance: ``[query, k]`` float32; inf there.
  """

  index: jax.Array
  distance: jax.Array


def nearest_keys(
  query: jax.Array,
  keys: jax.Array,
  *,
  k: int,
  distance: Distance = cosine_distance,
  where: jax.Array | None = None,
  own: jax.Array | None = None,
  first: jax.Array | int = 0,
  query_tile: int = 1024,
  tile: int = 4096,
) -> Neighbors:
  """Finds the k nearest keys of each query.

  Every query is compared with every key. Beside its arguments and its result the program holds
  ``[query_tile, tile]`` distances, however many queries and keys there are; keys are neither copied
  nor padded. Of keys at equal distance the one of lower index is nearer.

  Args:
    query: ``[query, dim]``.
    keys: ``[keys, dim]``, or a part of them, see ``first``.
    k: how many, in ``[1, keys]``.
    distance: of rows to columns, of `repjax.losses.distances`: ``cosine_distance`` normalises
      inside; ``euclidean`` counts what lies below the rounding of squared lengths as 0, so take off
      the mean of features that lie far from the origin.
    where: ``[keys]`` bool, the keys that take part; all if absent.
    own: ``[query]`` int, the index of a key that a query must not find, such as itself; -1 for
      none.
    first: index of the first key where ``keys`` is a part of a larger set, whose answers
      `merge_neighbors` joins.
    query_tile: queries compared at a time.
    tile: keys compared at a time.

  Returns:
    Indices and distances.

  Raises:
    ValueError: if shapes do not fit together or ``k`` is not in ``[1, keys]``.
  """
  if jnp.ndim(query) != 2 or jnp.ndim(keys) != 2 or query.shape[1] != keys.shape[1]:
    raise ValueError(f"expected [batch, dim] of one dim, got {query.shape=} and {keys.shape=}")
  size = len(keys)
  if not 1 <= k <= size:
    raise ValueError(f"{k=} is not within the bank of {size} keys; choose from 1 to {size}")
  if where is not None and where.shape != (size,):
    raise ValueError(f"expected where to tell of each of {size} keys, got {where.shape=}")
  own = jnp.full(len(query), -1, jnp.int32) if own is None else own
  if own.shape != (len(query),):
    raise ValueError(f"expected own to name a key for each of {len(query)} queries, {own.shape=}")
  tile, query_tile = min(tile, size), max(1, min(query_tile, len(query)))
  first = jnp.asarray(first, jnp.int32)

  def of_queries(start):
    rows = lax.dynamic_slice_in_dim(query, start, query_tile)
    mine = lax.dynamic_slice_in_dim(own, start, query_tile)

    def visit(number, nearest):
      # The last tile ends with the last key and leaves out what the tile before it had.
      begin = jnp.minimum(number * tile, size - tile)
      place = begin + jnp.arange(tile)
      index = first + place
      apart = distance(rows, lax.dynamic_slice_in_dim(keys, begin, tile)).astype(jnp.float32)
      takes_part = place >= number * tile
      if where is not None:
        takes_part &= lax.dynamic_slice_in_dim(where, begin, tile)
      apart = jnp.where(takes_part[None] & (index[None] != mine[:, None]), apart, jnp.inf)
      closeness, column = lax.top_k(-apart, min(k, tile))
      found = Neighbors(jnp.where(jnp.isneginf(closeness), -1, index[column]), -closeness)
      # What was visited earlier stands first, and top_k prefers the first of equals.
      both = Neighbors(*(jnp.concatenate(pair, 1) for pair in zip(nearest, found, strict=True)))
      closeness, column = lax.top_k(-both.distance, k)
      return Neighbors(jnp.take_along_axis(both.index, column, 1), -closeness)

    # Added, so that under shard_map the start varies over the devices as what follows does.
    start = Neighbors(
      jnp.full((query_tile, k), -1, jnp.int32) + 0 * first,
      jnp.full((query_tile, k), jnp.inf) + 0.0 * first,
    )
    return lax.fori_loop(0, -(-size // tile), visit, start)

  queries = len(query)
  tiles = -(-queries // query_tile)
  starts = jnp.minimum(jnp.arange(tiles) * query_tile, queries - query_tile)
  if tiles == 1:
    return of_queries(starts[0])
  found = lax.map(of_queries, starts)
  fresh = queries - (tiles - 1) * query_tile  # rows of the last tile that no other had
  whole = lambda x: jnp.concatenate([x[:-1].reshape(-1, k), x[-1, query_tile - fresh :]])
  return jax.tree.map(whole, found)


def merge_neighbors(parts: Neighbors) -> Neighbors:
  """Joins what was found in parts of the keys.

  Merging is associative and does not depend on the order of the parts: of equal distances the lower
  index is nearer.

  Args:
    parts: ``[parts, query, k]`` each, with indices of the whole set.

  Returns:
    The nearest of all, ``[query, k]``.
  """
  k = parts.index.shape[-1]
  rows = lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1)
  distance, index = lax.sort((rows(parts.distance), rows(parts.index)), num_keys=2)
  return Neighbors(index[:, :k], distance[:, :k])
