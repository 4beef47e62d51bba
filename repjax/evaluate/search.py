"""Nearest neighbours in galleries of millions: exact on the devices at hand, or by faiss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import P
from jax.sharding import Mesh, NamedSharding

from repjax.arrays import batch_axes, batch_shards
from repjax.heads.search import Distance, Neighbors, cosine_distance, merge_neighbors, nearest_keys


def search_gallery(
  query: np.ndarray,
  gallery: np.ndarray,
  *,
  k: int,
  distance: Distance = cosine_distance,
  exclude_self: bool = False,
  mesh: Mesh | None = None,
  resident: int = 2**20,
  query_tile: int = 1024,
  tile: int = 4096,
) -> Neighbors:
  """Finds the k nearest of a gallery to each query, exactly.

  The gallery goes to the devices ``resident`` rows at a time, split over them, and what is found in
  the parts is merged: it may be a memory map larger than the devices' memory. Of rows at equal
  distance that of lower index is nearer, however the gallery is split.

  Args:
    query: ``[query, dim]``.
    gallery: ``[gallery, dim]``, an array or a memory map.
    k: how many, in ``[1, gallery]``, one less with ``exclude_self``.
    distance: of rows to columns, see `repjax.heads.nearest_keys`.
    exclude_self: whether the queries are the gallery, row by row, and none finds itself.
    mesh: devices of this process to split the gallery over, along the axes
      `repjax.arrays.BATCH_AXES`; JAX's default device if absent.
    resident: rows of the gallery on the devices at a time.
    query_tile: queries that a device compares at a time.
    tile: rows of the gallery that a device compares at a time.

  Returns:
    Indices ``[query, k]`` int32 and distances ``[query, k]`` float32, the nearest first, in NumPy.

  Raises:
    ValueError: if shapes do not fit together, ``k`` is out of range, or ``exclude_self`` meets a
      gallery of another length.
  """
  size = len(gallery)
  if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
    raise ValueError(f"expected [batch, dim] of one dim, got {query.shape=} and {gallery.shape=}")
  if exclude_self and len(query) != size:
    raise ValueError(f"exclude_self=True, but {len(query)} queries are not the gallery of {size}")
  if not 1 <= k <= size - exclude_self:
    raise ValueError(
      f"{k=} of a gallery of {size} with {exclude_self=}; choose from 1 to {size - exclude_self}"
    )
  devices = 1 if mesh is None else batch_shards(mesh)
  # Every part has one length, so that one program serves all; what fills the last takes no part.
  rows = min(resident, size)
  rows = max(-(-rows // devices), -(-k // devices)) * devices
  own = np.arange(size, dtype=np.int32) if exclude_self else np.full(len(query), -1, np.int32)
  whole, split = None, None
  if mesh is not None:
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(batch_axes(mesh)))
  query, own = jax.device_put((query, own), whole)
  found = None
  for first in range(0, size, rows):
    part = np.asarray(gallery[first : first + rows])
    where = np.arange(rows) < len(part)
    if len(part) < rows:
      part = np.concatenate([part, np.zeros((rows - len(part), part.shape[1]), part.dtype)])
    part, where = jax.device_put((part, where), split)
    options = {"k": k, "distance": distance, "query_tile": query_tile, "tile": tile}
    nearest = _in_part(query, own, part, where, first, mesh=mesh, **options)
    found = nearest if found is None else _nearer(found, nearest)
  return Neighbors(*map(np.asarray, found))


@functools.partial(jax.jit, static_argnames=("mesh", "k", "distance", "query_tile", "tile"))
def _in_part(query, own, part, where, first, *, mesh, k, **options):
  if mesh is None:
    return nearest_keys(query, part, k=k, where=where, own=own, first=first, **options)
  axes = batch_axes(mesh)

  def on_device(query, own, part, where, first):
    begin = first + jax.lax.axis_index(axes) * len(part)
    few = min(k, len(part))
    found = nearest_keys(query, part, k=few, where=where, own=own, first=begin, **options)
    filling = ((0, 0), (0, k - few))
    index = jnp.pad(found.index, filling, constant_values=-1)
    return Neighbors(index[None], jnp.pad(found.distance, filling, constant_values=jnp.inf)[None])

  spread = jax.shard_map(
    on_device,
    mesh=mesh,
    in_specs=(P(), P(), P(axes), P(axes), P()),
    out_specs=P(axes),
  )
  return merge_neighbors(spread(query, own, part, where, first))


@jax.jit
def _nearer(one, other):
  return merge_neighbors(jax.tree.map(lambda *x: jnp.stack(x), one, other))


def search_by_faiss(
  query: np.ndarray,
  gallery: np.ndarray,
  *,
  k: int,
  cosine: bool = True,
  exclude_self: bool = False,
  index=None,
) -> Neighbors:
  """Finds neighbours by faiss, where it is installed; exactly, unless another index is given.

  Args:
    query: ``[query, dim]``.
    gallery: ``[gallery, dim]``.
    k: how many, in ``[1, gallery]``, one less with ``exclude_self``.
    cosine: whether rows are scaled to unit length, inside; otherwise distances are Euclidean.
    exclude_self: whether the queries are the gallery, row by row, and none finds itself.
    index: an empty faiss index of squared Euclidean distances, trained where it needs to be, such
      as ``faiss.IndexHNSWFlat(dim, 32)``; ``faiss.IndexFlatL2`` if absent. The gallery is added.

  Returns:
    Indices and distances as by `search_gallery` (one minus the cosine, or Euclidean); -1 and inf
    where an approximate index finds less than ``k``. faiss does not order equal distances.

  Raises:
    ImportError: if faiss is not installed.
    ValueError: if ``k`` is out of range, or ``exclude_self`` meets a gallery of another length.

  References:
    Douze et al., `The Faiss library <https://arxiv.org/abs/2401.08281>`_, 2024.
  """
  import faiss

  if exclude_self and len(query) != len(gallery):
    raise ValueError(
      f"exclude_self=True, but {len(query)} queries are not the gallery of {len(gallery)}"
    )
  if not 1 <= k <= len(gallery) - exclude_self:
    raise ValueError(
      f"{k=} of a gallery of {len(gallery)} with {exclude_self=}; "
      f"choose from 1 to {len(gallery) - exclude_self}"
    )
  query, gallery = (np.array(x, np.float32, order="C") for x in (query, gallery))
  if cosine:
    for x in (query, gallery):
      x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
  index = faiss.IndexFlatL2(gallery.shape[1]) if index is None else index
  index.add(gallery)
  square, found = index.search(query, k + exclude_self)
  square = np.where(found < 0, np.inf, np.maximum(square, 0))
  if exclude_self:
    # Oneself is moved to the end, or whatever stands there if it was not among those found.
    mine = found == np.arange(len(query))[:, None]
    order = np.argsort(mine, axis=1, kind="stable")[:, :k]
    square, found = (np.take_along_axis(x, order, 1) for x in (square, found))
  distance = square / 2 if cosine else np.sqrt(square)
  return Neighbors(found.astype(np.int32), distance.astype(np.float32))
