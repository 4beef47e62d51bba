"""Votes of neighbours: scikit-learn's answer, one answer for every tile, ties to the first."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from repjax import heads

CLASSES = 4
knn_logits = jax.jit(heads.knn_logits, static_argnames=("k", "classes", "tile"))


@functools.cache
def bank(keys=101, queries=30, dim=6):
  rng = np.random.default_rng(0)
  return (
    rng.normal(size=(queries, dim)).astype(np.float32),
    rng.normal(size=(keys, dim)).astype(np.float32),
    rng.integers(0, CLASSES, keys).astype(np.int32),
  )


@pytest.mark.parametrize("temperature", [0.02, 0.1, 1.0])
def test_vote_shares_match_scikit_learn_for_several_k_in_one_search(temperature):
  query, keys, labels = bank()
  several = (1, 5, 20, 101)
  votes = knn_logits(query, keys, labels, k=several, classes=CLASSES, temperature=temperature)
  for k, ours in zip(several, votes, strict=True):
    weights = lambda distance: np.exp((1 - distance.astype(np.float64)) / temperature)
    theirs = KNeighborsClassifier(k, metric="cosine", weights=weights, algorithm="brute")
    theirs.fit(keys, labels)
    np.testing.assert_allclose(jax.nn.softmax(ours), theirs.predict_proba(query), atol=2e-5)
    np.testing.assert_array_equal(jnp.argmax(ours, -1), theirs.predict(query))


def test_one_k_is_the_only_row_of_a_sequence_of_one():
  query, keys, labels = bank()
  sequence = knn_logits(query, keys, labels, k=(5,), classes=CLASSES)
  np.testing.assert_array_equal(knn_logits(query, keys, labels, k=5, classes=CLASSES), sequence[0])


@pytest.mark.parametrize("tile", [1, 7, 50, 101])
def test_the_tile_changes_nothing(tile):
  query, keys, labels = bank()
  whole = knn_logits(query, keys, labels, k=(1, 20), classes=CLASSES)
  tiled = knn_logits(query, keys, labels, k=(1, 20), classes=CLASSES, tile=tile)
  np.testing.assert_allclose(jnp.exp(tiled), jnp.exp(whole), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tile", [2, 8])
def test_of_equally_similar_keys_the_first_is_nearer(tile):
  keys = np.tile(np.float32([[1, 0]]), (8, 1))
  labels = np.int32([2, 1, 0, 0, 0, 0, 0, 0])
  votes = knn_logits(keys[:1], keys, labels, k=(1, 2), classes=3, tile=tile)
  np.testing.assert_allclose(jnp.exp(votes[:, 0]), [[0, 0, 1], [0, 1, 1]])


def test_unlabelled_keys_never_vote():
  query, keys, labels = bank()
  hidden = np.where(np.arange(len(labels)) % 3 == 0, -1, labels)
  kept = hidden >= 0
  ours = knn_logits(query, keys, hidden, k=(5, 101), classes=CLASSES, tile=32)
  without = knn_logits(query, keys[kept], labels[kept], k=(5, int(kept.sum())), classes=CLASSES)
  np.testing.assert_allclose(jnp.exp(ours), jnp.exp(without), rtol=1e-4, atol=1e-6)


def test_length_of_features_changes_nothing():
  query, keys, labels = bank()
  votes = knn_logits(query, keys, labels, k=5, classes=CLASSES)
  scaled = knn_logits(8 * query, keys / 4, labels, k=5, classes=CLASSES)
  np.testing.assert_array_equal(votes, scaled)


def test_zero_vectors_and_low_temperature_stay_free_of_nan():
  query, keys, labels = bank()
  votes = knn_logits(0 * query, keys, labels, k=5, classes=CLASSES, temperature=1e-3)
  assert not np.isnan(votes).any()
  votes = knn_logits(query, 0 * keys, 0 * labels - 1, k=5, classes=CLASSES, temperature=1e-3)
  assert np.all(np.isneginf(votes))


def test_more_neighbours_than_keys_names_both():
  query, keys, labels = bank()
  with pytest.raises(ValueError, match=r"k=\(1, 200\).*101"):
    knn_logits(query, keys, labels, k=(1, 200), classes=CLASSES)
