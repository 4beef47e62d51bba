"""Search of a gallery: one answer for every split over devices and parts, and faiss's."""

import functools

import jax
import numpy as np
import pytest

from repjax.evaluate import search_by_faiss, search_gallery
from repjax.losses.distances import cosine_distance, euclidean
from repjax.train import make_mesh


@functools.cache
def sets(exact=False):
  rng = np.random.default_rng(0)
  query, gallery = (rng.normal(size=(n, 6)).astype(np.float32) for n in (21, 103))
  if exact:  # small integers, many of them equal: Euclidean distances are exact, with ties
    query, gallery = (np.round(x)[:, :3] for x in (query, gallery))
  return query, gallery


def by_numpy(query, gallery, k, own=None):
  apart = np.linalg.norm(query[:, None].astype(np.float64) - gallery[None], axis=2)
  if own is not None:
    apart[own, own] = np.inf
  index = np.argsort(apart, 1, kind="stable")[:, :k]
  return index, np.take_along_axis(apart, index, 1)


@pytest.mark.parametrize(("devices", "resident"), [(1, 40), (3, 1000), (8, 40)])
def test_neighbors_are_those_of_one_matrix_however_the_gallery_is_split(devices, resident):
  query, gallery = sets(exact=True)
  mesh = make_mesh(f"data:{devices}", devices=jax.devices()[:devices]) if devices > 1 else None
  options = {"distance": euclidean, "mesh": mesh, "resident": resident, "tile": 16, "query_tile": 8}
  index, distance = search_gallery(query, gallery, k=15, **options)
  expected, apart = by_numpy(query, gallery, 15)
  np.testing.assert_array_equal(index, expected)  # ties to the lower index
  np.testing.assert_allclose(distance, apart, rtol=1e-6)


def test_no_row_of_the_gallery_finds_itself():
  _, gallery = sets(exact=True)
  mesh = make_mesh("data:8")
  ours = search_gallery(
    gallery, gallery, k=102, distance=euclidean, exclude_self=True, mesh=mesh, resident=64
  )
  own = np.arange(len(gallery))
  np.testing.assert_array_equal(ours.index, by_numpy(gallery, gallery, 102, own)[0])


def test_of_a_memory_map_only_parts_are_read(tmp_path):
  query, gallery = sets()
  file = np.memmap(tmp_path / "gallery", np.float32, "w+", shape=gallery.shape)
  file[:] = gallery
  whole, parts = (search_gallery(query, x, k=5, resident=r) for x, r in ((gallery, 999), (file, 9)))
  np.testing.assert_array_equal(parts.index, whole.index)
  np.testing.assert_allclose(parts.distance, whole.distance, atol=1e-6)


@pytest.mark.parametrize("distance", [cosine_distance, euclidean])
def test_faiss_finds_the_same(distance):
  pytest.importorskip("faiss")
  _, gallery = sets()
  ours = search_gallery(gallery, gallery, k=9, distance=distance, exclude_self=True)
  theirs = search_by_faiss(
    gallery, gallery, k=9, cosine=distance is cosine_distance, exclude_self=True
  )
  np.testing.assert_array_equal(ours.index, theirs.index)
  np.testing.assert_allclose(ours.distance, theirs.distance, atol=1e-5)


def test_what_does_not_fit_together_is_named():
  query, gallery = sets()
  with pytest.raises(ValueError, match=r"k=103 .*103 with exclude_self=True; choose from 1 to 102"):
    search_gallery(gallery, gallery, k=103, exclude_self=True)
  with pytest.raises(ValueError, match="21 queries are not the gallery of 103"):
    search_gallery(query, gallery, k=3, exclude_self=True)
  with pytest.raises(ValueError, match=r"of one dim.*\(21, 5\).*\(103, 6\)"):
    search_gallery(query[:, :5], gallery, k=3)
