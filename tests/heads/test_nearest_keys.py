"""Exact search: scikit-learn's answer, one answer for every tile and split, bounded memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from repjax.heads import merge_neighbors, nearest_keys
from repjax.losses.distances import cosine_distance, euclidean

search = jax.jit(nearest_keys, static_argnames=("k", "distance", "query_tile", "tile"))


@functools.cache
def bank(queries=37, keys=101, dim=6):
  rng = np.random.default_rng(0)
  return tuple(rng.normal(size=(n, dim)).astype(np.float32) for n in (queries, keys))


@pytest.mark.parametrize(
  ("distance", "metric"), [(cosine_distance, "cosine"), (euclidean, "euclidean")]
)
def test_neighbors_and_distances_are_those_of_scikit_learn(distance, metric):
  query, keys = bank()
  ours = search(query, keys, k=7, distance=distance, query_tile=16, tile=32)
  theirs = NearestNeighbors(n_neighbors=7, metric=metric, algorithm="brute")
  apart, index = theirs.fit(keys.astype(np.float64)).kneighbors(query.astype(np.float64))
  np.testing.assert_array_equal(ours.index, index)
  np.testing.assert_allclose(ours.distance, apart, atol=2e-6)


@pytest.mark.parametrize(("query_tile", "tile"), [(1, 50), (10, 7), (36, 101), (37, 100)])
def test_tiles_whose_last_is_ragged_change_nothing(query_tile, tile):
  query, keys = bank()
  whole = search(query, keys, k=9)
  tiled = search(query, keys, k=9, query_tile=query_tile, tile=tile)
  np.testing.assert_array_equal(tiled.index, whole.index)
  np.testing.assert_allclose(tiled.distance, whole.distance, atol=1e-6)


@pytest.mark.parametrize("tile", [3, 8])
def test_of_equal_keys_those_of_lower_index_are_nearer(tile):
  keys = np.tile(np.float32([[0, 1], [1, 0]]), (8, 1))
  ours = search(keys[1:2], keys, k=10, tile=tile)
  np.testing.assert_array_equal(ours.index[0], [1, 3, 5, 7, 9, 11, 13, 15, 0, 2])


def test_a_query_leaves_out_its_own_key_and_the_keys_that_take_no_part():
  _, keys = bank()
  where = np.arange(len(keys)) % 3 > 0
  own = jnp.arange(len(keys))
  ours = search(keys, keys, k=5, where=where, own=own, tile=32, distance=euclidean)
  apart = np.linalg.norm(keys[:, None].astype(np.float64) - keys[None], axis=2)
  apart[:, ~where] = np.inf
  np.fill_diagonal(apart, np.inf)
  np.testing.assert_array_equal(ours.index, np.argsort(apart, 1)[:, :5])


def test_where_too_few_keys_take_part_no_key_is_named():
  query, keys = bank()
  where = np.arange(len(keys)) < 2
  ours = search(query, keys, k=4, where=where, tile=16)
  assert np.all(np.sort(ours.index[:, :2], 1) == [[0, 1]])
  assert np.all(ours.index[:, 2:] == -1) and np.all(np.isinf(ours.distance[:, 2:]))


def test_the_order_in_which_parts_of_the_keys_are_merged_changes_nothing():
  query, keys = (np.round(4 * x) for x in bank(keys=100))  # small integers: distances are exact
  keys = np.concatenate([keys, keys])  # each key twice, in different parts
  whole = search(query, keys, k=9, distance=euclidean)
  parts = [search(query, keys[i : i + 50], k=9, distance=euclidean, first=i) for i in (0, 50, 150)]
  parts.append(search(query, keys[100:150], k=9, distance=euclidean, first=100))
  merge = jax.jit(lambda *some: merge_neighbors(jax.tree.map(lambda *x: jnp.stack(x), *some)))
  a, b, c, d = parts
  one, other = merge(merge(a, b), merge(c, d)), merge(merge(merge(d, a), c), b)
  for merged in (one, other, merge_neighbors(jax.tree.map(lambda *x: jnp.stack(x), *parts))):
    jax.tree.map(np.testing.assert_array_equal, merged, whole)


def test_a_million_keys_of_512_are_searched_in_the_memory_of_a_tile():
  shape = lambda rows: jax.ShapeDtypeStruct((rows, 512), jnp.float32)
  lowered = search.lower(shape(100_000), shape(1_000_000), k=10)
  memory = lowered.compile().memory_analysis()
  assert memory.argument_size_in_bytes > 2e9
  # A tile's distances take 16 MiB, its keys 8, its queries 2; some of these are held twice.
  assert memory.temp_size_in_bytes < 80 * 2**20


def test_what_does_not_fit_together_is_named():
  query, keys = bank()
  with pytest.raises(ValueError, match="k=102 is not within the bank of 101"):
    nearest_keys(query, keys, k=102)
  with pytest.raises(ValueError, match=r"of one dim.*\(37, 5\).*\(101, 6\)"):
    nearest_keys(query[:, :5], keys, k=1)
  with pytest.raises(ValueError, match=r"101 keys, got where.shape=\(3,\)"):
    nearest_keys(query, keys, k=1, where=np.ones(3, bool))
