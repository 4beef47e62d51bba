"""Retrieval: whether what is nearest to a query is of its class."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import P, lax
from jax.sharding import Mesh, NamedSharding

from repjax.arrays import batch_axes, batch_shards
from repjax.evaluate.embed import Embedded, labelled
from repjax.evaluate.search import search_gallery
from repjax.heads.search import Distance, cosine_distance


def ranking_scores(
  relevant: jax.Array, total: jax.Array, *, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, jax.Array]:
  r"""Scores of rankings of relevant and other items, one a query.

  With :math:`y_r` whether the item at rank r is relevant, R how many are, and
  :math:`P(r) = \frac1r \sum_{s \le r} y_s`:

  .. math:: \mathrm{recall}_k = \max_{r \le k} y_r, \quad
    \mathrm{RP} = P(R), \quad
    \mathrm{MAP@R} = \frac1R \sum_{r \le R} P(r) y_r, \quad
    \mathrm{AP} = \frac1R \sum_r P(r) y_r, \quad
    \mathrm{nDCG}_k = \frac{\sum_{r \le k} y_r / \log_2(r + 1)}{\sum_{r \le \min(k, R)} 1 /
    \log_2(r + 1)}

  Recall at k is that of metric learning: whether any of the first k is relevant.

  Args:
    relevant: ``[query, ranks]`` bool, of the nearest item first.
    total: ``[query]`` int, how many items are relevant to each query, ranked or not.
    ks: of recall and nDCG, at most ``ranks``.

  Returns:
    ``recall_at_{k}``, ``ndcg_at_{k}``, ``precision_at_1``, ``r_precision``, ``map_at_r`` and
    ``average_precision``, ``[query]`` float32 in [0, 1]; 0 where nothing is relevant. Those at R
    need ``ranks >= total``, and the average precision needs all relevant items ranked.

  References:
    Musgrave et al., `A Metric Learning Reality Check <https://arxiv.org/abs/2003.08505>`_, 2020,
    section 3.2 (R-precision and MAP@R).
    Järvelin and Kekäläinen, `Cumulated gain-based evaluation of IR techniques
    <https://doi.org/10.1145/582415.582418>`_, 2002 (nDCG, with gains of 0 and 1).
  """
  ranks = relevant.shape[1]
  if max(ks) > ranks or min(ks) < 1:
    raise ValueError(f"ks={tuple(ks)} of {ranks} ranks; choose from 1 to {ranks}")
  rank = jnp.arange(1, ranks + 1, dtype=jnp.float32)[None]
  hit = relevant.astype(jnp.float32)
  count = jnp.maximum(total, 1).astype(jnp.float32)
  precision = jnp.cumsum(hit, 1) / rank * hit
  within = rank <= total[:, None]
  numbers = {
    "precision_at_1": hit[:, 0],
    "r_precision": jnp.sum(jnp.where(within, hit, 0), 1) / count,
    "map_at_r": jnp.sum(jnp.where(within, precision, 0), 1) / count,
    "average_precision": jnp.sum(precision, 1) / count,
  }
  gain = 1 / jnp.log2(rank + 1)
  for k in ks:
    numbers[f"recall_at_{k}"] = jnp.max(hit[:, :k], 1)
    ideal = jnp.sum(jnp.where(within, gain, 0)[:, :k], 1)
    reached = jnp.sum((hit * gain)[:, :k], 1)
    numbers[f"ndcg_at_{k}"] = jnp.where(total > 0, reached / jnp.where(total > 0, ideal, 1), 0)
  return numbers


def retrieval(
  train: Embedded,
  test: Embedded,
  *,
  key: jax.Array | None = None,
  within: bool = False,
  ks: Sequence[int] = (1, 5, 10),
  distance: Distance = cosine_distance,
  full_ranking: bool = True,
  mesh: Mesh | None = None,
  query_tile: int = 64,
) -> dict[str, float]:
  """Finds examples of a query's class in a gallery.

  A query whose class has no other member in the gallery has no right answer and is left out, as
  pytorch-metric-learning's ``AccuracyCalculator`` does; in the gallery it stays. Every other
  labelled query counts the same. Of equal distances the lower index is nearer. Unlabelled examples
  (-1) take no part.

  Args:
    train: the gallery.
    test: the queries.
    key: not used, there is nothing to draw; accepted as every evaluator does.
    within: whether the test examples are queries and gallery both, each without itself, as with
      classes that were not trained on; ``train`` takes no part then.
    ks: of recall and nDCG; those beyond the size of the gallery are left out.
    distance: of rows to columns, see `repjax.heads.nearest_keys`; features are not centred.
    full_ranking: whether the gallery is ranked to its end, which ``map`` needs: memory and time of
      a sort of ``[query_tile, gallery]``. Without, a search for as many as the largest class has,
      in tiles, as galleries of millions need, gives the other numbers alike.
    mesh: devices of this process; these split the queries of a full ranking, or else the gallery.
    query_tile: queries ranked at a time.

  Returns:
    ``recall_at_{k}``, ``ndcg_at_{k}``, ``precision_at_1``, ``r_precision``, ``map_at_r`` and
    with ``full_ranking`` ``map`` (mean average precision over the whole ranking;
    ``AccuracyCalculator`` stops at the size of the largest class), see `ranking_scores`; means over
    queries, in [0, 1]. ``queries_left_out``, the share of labelled queries without an answer.

  Raises:
    ValueError: if no query has an answer, or no ``ks`` fits the gallery.
  """
  del key
  train, test = labelled(test if within else train, test)
  count = np.bincount(train.label, minlength=test.label.max() + 1)
  total = count[test.label] - within
  answered = total > 0
  largest = len(train.label) - within
  ks = tuple(k for k in ks if k <= largest)
  if not answered.any() or not ks:
    raise ValueError(
      f"of {len(total)} queries {answered.sum()} have one of their class among {largest} others of "
      f"the gallery, and {ks=} fit it; evaluate with classes that both have"
    )
  query, label, total = test.features[answered], test.label[answered], total[answered]
  own = np.flatnonzero(answered).astype(np.int32) if within else np.full(len(query), -1, np.int32)
  if full_ranking:
    scores = _by_sorting(query, label, total, own, train, ks, distance, mesh, query_tile)
    scores["map"] = scores.pop("average_precision")
  else:
    k = int(max(*ks, total.max()))
    # One more than is looked at, from which one's own row is struck out below.
    index = search_gallery(
      query, train.features, k=min(k + within, len(train.label)), distance=distance, mesh=mesh
    ).index
    if within:
      index = np.take_along_axis(index, np.argsort(index == own[:, None], 1, kind="stable"), 1)
    relevant = train.label[index[:, :k]] == label[:, None]
    parts = [_scores(relevant[i : i + 4096], total[i : i + 4096], ks) for i in _starts(query, 4096)]
    scores = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    del scores["average_precision"]
  numbers = {name: float(np.mean(x, dtype=np.float64)) for name, x in sorted(scores.items())}
  return numbers | {"queries_left_out": float(1 - answered.mean())}


def _starts(rows, size):
  return range(0, len(rows), size)


_scores = jax.jit(
  lambda relevant, total, ks: ranking_scores(relevant, total, ks=ks), static_argnums=2
)


def _by_sorting(query, label, total, own, gallery, ks, distance, mesh, query_tile):
  """Scores of each query by the order of the whole gallery, a tile of queries at a time."""
  devices = 1 if mesh is None else batch_shards(mesh)
  size = -(-min(query_tile, len(query)) // devices) * devices
  whole, split = None, None
  if mesh is not None:
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(batch_axes(mesh)))
  bank = jax.device_put(tuple(gallery), whole)
  parts = []
  for start in _starts(query, size):
    rows = [x[start : start + size] for x in (query, label, total, own)]
    kept = len(rows[0])
    rows = [np.concatenate([x, np.zeros((size - kept, *x.shape[1:]), x.dtype)]) for x in rows]
    tile = _sorted_scores(*jax.device_put(rows, split), *bank, ks=ks, distance=distance)
    parts.append({name: np.asarray(x)[:kept] for name, x in tile.items()})
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@functools.partial(jax.jit, static_argnames=("ks", "distance"))
def _sorted_scores(query, label, total, own, gallery, names, *, ks, distance):
  apart = distance(query, gallery)
  # Oneself goes to the end, behind what any other may be, and is no answer there.
  mine = jnp.arange(len(gallery))[None] == own[:, None]
  relevant = (names[None] == label[:, None]) & ~mine
  _, relevant = lax.sort((jnp.where(mine, jnp.inf, apart), relevant), num_keys=1, is_stable=True)
  return ranking_scores(relevant, total, ks=ks)
