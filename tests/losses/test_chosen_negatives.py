"""Limits that lead back to the plain loss, closed forms, and errors that name shapes."""

import numpy as np
import pytest

from repjax.losses import chosen_negatives
from repjax.losses.contrastive import info_nce


def pairs():
  return np.random.default_rng(0).normal(size=(2, 11, 6)).astype(np.float32)


def test_one_cluster_is_info_nce():
  query, key = pairs()
  ours = chosen_negatives.clustered_info_nce(query, key, np.full(11, 7))
  np.testing.assert_allclose(ours, info_nce(query, key), rtol=1e-5, atol=1e-6)


def test_clusters_do_not_see_one_another():
  query, key = pairs()
  labels = np.arange(11) % 2
  ours = chosen_negatives.clustered_info_nce(query, key, labels)
  for label in (0, 1):
    members = labels == label
    alone = info_nce(query[members], key[members])
    np.testing.assert_allclose(ours[members], alone, rtol=1e-5, atol=1e-6)


def test_all_keys_being_hard_is_info_nce():
  query, key = pairs()
  ours = chosen_negatives.hard_info_nce(query, key, share=1.0)
  np.testing.assert_allclose(ours, info_nce(query, key), rtol=1e-5, atol=1e-6)


def test_hard_keys_are_counted_exactly():
  # Of ten keys at equal distance but for their order, 0.3 are three.
  query = np.repeat(np.eye(12, dtype=np.float32)[:1], 11, 0)
  key = np.stack([np.cos(np.arange(11) / 10), np.sin(np.arange(11) / 10)], 1)
  key = np.pad(key, ((0, 0), (0, 10))).astype(np.float32)
  ours = chosen_negatives.hard_info_nce(query, key, share=0.3, temperature=1.0)
  logits = np.cos(np.arange(11) / 10)
  wanted = np.log(np.sum(np.exp(logits[[10, 0, 1, 2]]))) - logits[10]
  np.testing.assert_allclose(ours[10], wanted, rtol=1e-5)


def test_averaged_info_nce_of_one_collapsed_point_does_not_grow_with_the_batch():
  for batch in (2, 16):
    z = np.ones((batch, 8), np.float32)
    ours = chosen_negatives.averaged_info_nce(z, z)
    np.testing.assert_allclose(ours, np.log(2), rtol=1e-5)


def test_an_open_gate_is_info_nce_and_a_closed_dimension_is_gone():
  query, key = pairs()
  gate = np.ones_like(query)
  ours = chosen_negatives.gated_info_nce(query, key, gate)
  np.testing.assert_allclose(ours, info_nce(query, key), rtol=1e-5, atol=1e-5)
  gate[:, 4:] = 0
  ours = chosen_negatives.gated_info_nce(query, key, gate)
  wanted = info_nce(query[:, :4], key[:, :4])
  np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-5)


def test_bad_arguments_are_named():
  query, key = pairs()
  with pytest.raises(ValueError, match=r"got \(11, 6\) and \(7,\)"):
    chosen_negatives.clustered_info_nce(query, key, np.zeros(7, int))
  with pytest.raises(ValueError, match=r"\(11, 6\).*\(11, 5\)"):
    chosen_negatives.gated_info_nce(query, key, np.ones((11, 5)))
  with pytest.raises(ValueError, match="labels of one side alone"):
    chosen_negatives.gated_info_nce(query, key, query, key_labels=np.zeros(11, int))
  with pytest.raises(ValueError, match=r"share=1\.5"):
    chosen_negatives.hard_info_nce(query, key, share=1.5)
