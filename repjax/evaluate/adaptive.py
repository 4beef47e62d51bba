"""Adaptive retrieval: shortlist by a few coordinates, rank what is left by more of them."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from repjax.evaluate.search import search_gallery
from repjax.heads.search import Distance, Neighbors, cosine_distance


def adaptive_search(
  query: np.ndarray,
  gallery: np.ndarray,
  *,
  sizes: Sequence[int],
  shortlists: Sequence[int],
  k: int,
  distance: Distance = cosine_distance,
  rerank_tile: int = 64,
  **options,
) -> Neighbors:
  """Finds neighbours by prefixes of the features, longer ones for fewer candidates.

  The gallery is searched exactly by the first ``sizes[0]`` coordinates. The ``shortlists[0]``
  nearest are ranked by ``sizes[1]`` of them, of these the ``shortlists[1]`` nearest by ``sizes[2]``
  and so on: two sizes are the paper's adaptive retrieval, more of them its funnel. A shortlist as
  long as the gallery gives what a search by the last size gives, and a single size that of a search
  by it. Of equal distances the lower index is nearer.

  Args:
    query: ``[query, dim]``.
    gallery: ``[gallery, dim]``, an array or a memory map.
    sizes: of the prefixes, ascending, each at most ``dim``.
    shortlists: how many candidates each size after the first ranks, descending; at most the
      gallery. The paper's funnel halves them while it doubles the sizes.
    k: how many are found, at most the last shortlist.
    distance: of rows to columns, see `repjax.heads.nearest_keys`; ``cosine_distance`` normalises
      each prefix by itself, as the paper's code does.
    rerank_tile: queries whose candidates are brought together at a time: memory is
      ``[rerank_tile, shortlist, size]``, whatever the gallery.
    **options: of `search_gallery`, for the first search: ``mesh``, ``resident`` and tiles.

  Returns:
    Indices ``[query, k]`` int32 and distances ``[query, k]`` float32 by the last size, the nearest
    first, in NumPy.

  Raises:
    ValueError: if sizes do not ascend, shortlists do not descend to ``k``, or shapes do not fit.

  References:
    Kusupati et al., `Matryoshka Representation Learning <https://arxiv.org/abs/2205.13147>`_, 2022,
    section 4.3.1; ``retrieval/reranking.ipynb`` of https://github.com/RAIVNLab/MRL.
  """
  sizes, counts = tuple(sizes), (*shortlists, k)
  _check(sizes, counts, query, gallery)
  options = {"distance": distance, **options}
  found = search_gallery(query[:, : sizes[0]], gallery[:, : sizes[0]], k=counts[0], **options)
  for size, count in zip(sizes[1:], counts[1:], strict=True):
    parts = []
    for first in range(0, len(query), rerank_tile):
      rows = found.index[first : first + rerank_tile]
      # The last tile is filled up, so that one program serves all.
      places = np.resize(rows, (min(rerank_tile, len(query)), rows.shape[1]))
      asked = np.resize(query[first : first + rerank_tile, :size], (len(places), size))
      near = np.asarray(gallery[:, :size][places])
      nearest = _rerank(asked, near, places, count=count, distance=distance)
      parts.append([np.asarray(x)[: len(rows)] for x in nearest])
    found = Neighbors(*map(np.concatenate, zip(*parts, strict=True)))
  return found


def adaptive_cost(gallery: int, *, sizes: Sequence[int], shortlists: Sequence[int]) -> int:
  """Multiply-adds of `adaptive_search` for one query.

  Args:
    gallery: rows of the gallery.
    sizes: as there.
    shortlists: as there.

  Returns:
    Those of the first search and of each ranking; of a plain search it is ``gallery * size``.

  Raises:
    ValueError: if there is not a shortlist for each size after the first.

  References:
    Kusupati et al., `Matryoshka Representation Learning <https://arxiv.org/abs/2205.13147>`_, 2022,
    section 4.3.1, which counts them for a whole search.
  """
  if len(shortlists) != len(sizes) - 1:
    raise ValueError(f"expected {len(sizes) - 1} shortlists for sizes {sizes}, got {shortlists}")
  return sum(n * size for n, size in zip((gallery, *shortlists), sizes, strict=True))


@functools.partial(jax.jit, static_argnames=("count", "distance"))
def _rerank(query, near, index, *, count, distance):
  apart = jax.vmap(lambda x, y: distance(x[None], y)[0])(query, near).astype(jnp.float32)
  apart, index = lax.sort((apart, index), num_keys=2)
  return Neighbors(index[:, :count], apart[:, :count])


def _check(sizes, counts, query, gallery):
  if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
    raise ValueError(f"expected [batch, dim] of one dim, got {query.shape=} and {gallery.shape=}")
  if not sizes or list(sizes) != sorted(set(sizes)) or not 1 <= sizes[0] <= sizes[-1]:
    raise ValueError(f"expected sizes that ascend from 1 or more, got {list(sizes)}")
  if sizes[-1] > query.shape[1]:
    raise ValueError(f"sizes {list(sizes)} exceed features of dim {query.shape[1]}")
  if len(counts) != len(sizes):
    raise ValueError(
      f"expected a shortlist for each size after the first of {list(sizes)}, got {counts[:-1]}"
    )
  descend = list(counts) == sorted(counts, reverse=True)
  if not descend or counts[-1] < 1 or counts[0] > len(gallery):
    raise ValueError(
      f"expected shortlists that descend from at most {len(gallery)} to k, got {counts[:-1]} and "
      f"k={counts[-1]}"
    )
