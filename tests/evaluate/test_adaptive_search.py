"""Adaptive retrieval: a query at a time in NumPy, and the searches that it contains."""

import functools

import jax
import numpy as np
import pytest

from repjax.evaluate import adaptive_cost, adaptive_search, search_gallery
from repjax.losses.distances import cosine_distance, euclidean
from repjax.train import make_mesh


@functools.cache
def sets():
  """Small integers, many of them equal: Euclidean distances are exact, with ties."""
  rng = np.random.default_rng(0)
  return (np.round(1.5 * rng.normal(size=(n, 8))).astype(np.float32) for n in (21, 103))


QUERY, GALLERY = sets()


def by_numpy(query, gallery, sizes, counts):
  """Candidates of each query, thinned out one size after the other."""
  index, distance = [], []
  for row in query.astype(np.float64):
    left = np.arange(len(gallery))
    for size, count in zip(sizes, counts, strict=True):
      apart = np.sqrt(((gallery[left, :size] - row[:size]) ** 2).sum(1))
      order = np.lexsort((left, apart))[:count]
      left, apart = left[order], apart[order]
    index.append(left)
    distance.append(apart)
  return np.array(index), np.array(distance)


@pytest.mark.parametrize(
  ("sizes", "shortlists", "k", "devices"),
  [((2, 8), (30,), 5, 1), ((1, 2, 4, 8), (60, 20, 9), 9, 1), ((2, 8), (30,), 5, 8)],
  ids=["two sizes", "funnel", "on devices"],
)
def test_it_is_the_search_of_a_query_at_a_time(sizes, shortlists, k, devices):
  mesh = make_mesh(f"data:{devices}") if devices > 1 else None
  ours = adaptive_search(
    QUERY, GALLERY, sizes=sizes, shortlists=shortlists, k=k, distance=euclidean, rerank_tile=8,
    mesh=mesh,
  )  # fmt: skip
  index, distance = by_numpy(QUERY, GALLERY, sizes, (*shortlists, k))
  np.testing.assert_array_equal(ours.index, index)
  np.testing.assert_allclose(ours.distance, distance, rtol=1e-6)
  full, _ = by_numpy(QUERY, GALLERY, (8,), (k,))
  assert (index != full).any()  # the shortlist leaves something out


@pytest.mark.parametrize("distance", [euclidean, cosine_distance])
def test_a_shortlist_as_long_as_the_gallery_is_plain_search(distance):
  some = np.random.default_rng(1).normal(size=(2, 50, 8)).astype(np.float32)
  ours = adaptive_search(*some, sizes=(2, 8), shortlists=(50,), k=6, distance=distance)
  plain = search_gallery(*some, k=6, distance=distance)
  np.testing.assert_array_equal(ours.index, plain.index)
  np.testing.assert_allclose(ours.distance, plain.distance, atol=1e-6)


def test_a_single_size_is_plain_search_of_the_prefix():
  ours = adaptive_search(QUERY, GALLERY, sizes=(3,), shortlists=(), k=7, distance=euclidean)
  plain = search_gallery(QUERY[:, :3], GALLERY[:, :3], k=7, distance=euclidean)
  jax.tree.map(np.testing.assert_array_equal, ours, plain)


def test_of_a_memory_map_only_candidates_are_read(tmp_path):
  file = np.memmap(tmp_path / "gallery", np.float32, "w+", shape=GALLERY.shape)
  file[:] = GALLERY
  options = {"sizes": (2, 8), "shortlists": (30,), "k": 5, "distance": euclidean}
  whole = adaptive_search(QUERY, GALLERY, **options)
  parts = adaptive_search(QUERY, file, resident=9, rerank_tile=2, **options)
  jax.tree.map(np.testing.assert_array_equal, parts, whole)


def test_arithmetic_is_that_of_the_first_search_and_of_each_ranking():
  assert adaptive_cost(1000, sizes=(8, 64), shortlists=(100,)) == 1000 * 8 + 100 * 64
  assert adaptive_cost(1000, sizes=(64,), shortlists=()) == 64_000
  with pytest.raises(ValueError, match="expected 1 shortlists"):
    adaptive_cost(1000, sizes=(8, 64), shortlists=())


def test_what_does_not_fit_together_is_named():
  with pytest.raises(ValueError, match=r"ascend from 1 or more, got \[8, 2\]"):
    adaptive_search(QUERY, GALLERY, sizes=(8, 2), shortlists=(30,), k=5)
  with pytest.raises(ValueError, match=r"\[2, 9\] exceed features of dim 8"):
    adaptive_search(QUERY, GALLERY, sizes=(2, 9), shortlists=(30,), k=5)
  with pytest.raises(ValueError, match=r"at most 103 to k, got \(4,\) and k=5"):
    adaptive_search(QUERY, GALLERY, sizes=(2, 8), shortlists=(4,), k=5)
  with pytest.raises(ValueError, match=r"after the first of \[2, 8\], got \(\)"):
    adaptive_search(QUERY, GALLERY, sizes=(2, 8), shortlists=(), k=5)
