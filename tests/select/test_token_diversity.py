"""DivPrune and k-medoids: official operations, brute force, and what the greedy choice is worth."""

import itertools
import pathlib

import jax
import numpy as np
import pytest

from repjax import select
from repjax.losses.distances import cosine_distance, euclidean

FIXTURE = np.load(pathlib.Path(__file__).parents[1] / "oracles/token_merging.npz")
divprune = jax.jit(select.divprune, static_argnums=1)
k_medoids = jax.jit(select.k_medoids, static_argnums=1, static_argnames="iterations")
farthest_first = jax.jit(select.farthest_first, static_argnums=2)
in_segments = jax.jit(select.in_segments, static_argnums=(0, 2, 3))
RNG = np.random.default_rng(1)
X = RNG.normal(size=(4, 8, 3)).astype(np.float32)


def test_divprune_equals_the_official_operations():
  reduction = divprune(FIXTURE["x"].astype(np.float32), 7)
  np.testing.assert_array_equal(reduction.kept, np.sort(FIXTURE["divprune"], 1))


def least_distance(distances, chosen):
  return min(distances[i, j] for i, j in itertools.combinations(chosen, 2))


@pytest.mark.parametrize("left", [2, 3, 5])
def test_greedy_choice_is_within_a_factor_of_two_of_the_best(left):
  # Cosine distance is half of a squared distance, hence a factor of four there.
  for distance, factor in ((euclidean, 2), (cosine_distance, 4)):
    distances = np.asarray(jax.vmap(distance)(X, X))
    chosen = np.asarray(farthest_first(distances, np.arange(4), left))
    np.testing.assert_array_equal(chosen[:, 0], np.arange(4))
    for row, own in zip(distances, chosen, strict=True):
      best = max(least_distance(row, c) for c in itertools.combinations(range(8), left))
      assert best / factor - 1e-6 <= least_distance(row, own) <= best + 1e-6


def test_divprune_takes_one_of_each_of_as_many_clusters():
  centres = np.eye(5)[:, None] + 0.03 * RNG.normal(size=(5, 4, 5))
  order = RNG.permutation(20)
  kept = np.asarray(divprune(centres.reshape(1, 20, 5)[:, order], 5).kept)[0]
  np.testing.assert_array_equal(np.sort(order[kept] // 4), np.arange(5))


def test_divprune_is_blind_to_length_and_order():
  scale = RNG.uniform(0.5, 2, (4, 8, 1)).astype(np.float32)
  order = RNG.permutation(8)
  kept = np.asarray(divprune(X, 4).kept)
  np.testing.assert_array_equal(divprune(X * scale, 4).kept, kept)
  moved = np.asarray(divprune(X[:, order], 4).kept)
  np.testing.assert_array_equal(np.sort(order[moved], 1), kept)


def test_k_medoids_equals_the_official_operations():
  reduction = k_medoids(FIXTURE["x"].astype(np.float32), 5)
  np.testing.assert_array_equal(reduction.kept, FIXTURE["medoids"])
  np.testing.assert_array_equal(reduction.target, FIXTURE["clusters"])


def test_medoids_cannot_be_improved_by_a_step():
  kept, target = map(np.asarray, k_medoids(X, 3))
  for row, centres, cluster in zip(X, kept, target, strict=True):
    distances = np.linalg.norm(row[:, None] - row[None], axis=-1)
    np.testing.assert_array_equal(distances[centres].argmin(0), cluster)
    for number, centre in enumerate(centres):
      own = np.flatnonzero(cluster == number)
      assert centre == own[distances[np.ix_(own, own)].sum(0).argmin()]


def test_no_iterations_are_the_farthest_first():
  distances = np.asarray(jax.vmap(euclidean)(X, X))
  first = np.linalg.norm(X, axis=-1).argmax(-1)
  chosen = np.sort(farthest_first(distances, first, 4), 1)
  np.testing.assert_array_equal(k_medoids(X, 4, iterations=0).kept, chosen)


def test_every_cluster_has_a_token_even_among_doubles():
  reduction = k_medoids(np.ones((1, 6, 2)), 4)
  assert np.unique(reduction.target).size == 4


def test_spectral_clusters_follow_what_is_connected():
  # Two rings, which no means or medoids of the plane part.
  angle = np.arange(12) * 2 * np.pi / 12
  ring = np.stack([np.cos(angle), np.sin(angle)], -1)
  rings = np.concatenate([ring, 3 * ring])[None]
  parted = lambda reduction: {tuple(x) for x in np.asarray(reduction.target).reshape(2, 12)}
  assert parted(select.spectral_medoids(rings, 2, sigma=0.4)) == {(0,) * 12, (1,) * 12}
  assert parted(k_medoids(rings, 2)) != {(0,) * 12, (1,) * 12}


def test_segments_are_clustered_one_by_one():
  clip = RNG.normal(size=(2, 12, 3)).astype(np.float32)
  whole = in_segments(select.k_medoids, clip, 6, 3)
  for i in range(3):
    part = k_medoids(clip[:, 4 * i : 4 * i + 4], 2)
    np.testing.assert_array_equal(whole.kept[:, 2 * i : 2 * i + 2], part.kept + 4 * i)
    np.testing.assert_array_equal(whole.target[:, 4 * i : 4 * i + 4], part.target + 2 * i)
  dropped = in_segments(select.divprune, clip, 6, 3)
  jax.tree.map(np.testing.assert_array_equal, dropped, select.keep_only(dropped.kept, 12))


def test_controls_keep_what_they_say():
  np.testing.assert_array_equal(select.uniform_tokens(1, 8, 2).kept, [[2, 6]])
  drawn = np.asarray(select.random_tokens(jax.random.key(0), 50, 8, 3).kept)
  assert all(len(set(row)) == 3 for row in drawn) and len({tuple(row) for row in drawn}) > 20
  attention = RNG.random((2, 8))
  best = np.sort(np.argsort(-attention)[:, :3])
  np.testing.assert_array_equal(select.top_attention(attention, 3).kept, best)


def test_segments_that_do_not_divide_are_refused():
  with pytest.raises(ValueError, match=r"segments=3 has to divide 8 tokens and left=6"):
    select.in_segments(select.k_medoids, X, 6, 3)
