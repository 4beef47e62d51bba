"""Laws and closed forms of the losses over tuplets, and what other libraries answer."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from libraries import answers, check_answer
from test_triplets import over_anchors, over_positives

from repjax.losses import contrastive, triplets, tuplet
from repjax.losses.distances import cosine_distance, euclidean

RNG = np.random.default_rng(0)
EMBEDDINGS, LABELS = RNG.normal(size=(14, 6)).astype(np.float32), np.arange(14) % 4
LABELLED = (
  tuplet.tuplet_margin,
  tuplet.lifted_structure,
  tuplet.generalized_lifted_structure,
  tuplet.nca,
)
UNIT = {"normalize": True}
# What other libraries answer, by the name of the answer.
SAME_AS = {
  "n_pairs": lambda **arrays: jnp.mean(tuplet.n_pairs(**arrays)),
  "tuplet_margin": over_positives(tuplet.tuplet_margin, scale=16, margin=math.radians(5.73)),
  "lifted": over_positives(tuplet.lifted_structure, margin=1.2, **UNIT),
  "generalized_lifted": over_anchors(
    tuplet.generalized_lifted_structure, positive_margin=0.1, negative_margin=1.2, **UNIT
  ),
  "nca": over_anchors(tuplet.nca, scale=2, **UNIT),
}


@pytest.mark.parametrize("answer", answers("tuplet"))
def test_loss_equals_another_library(answer):
  check_answer("tuplet", answer, SAME_AS[answer.rpartition("_")[0]])


def test_n_pairs_is_info_nce_of_products():
  anchor, positive = RNG.normal(size=(2, 9, 6)).astype(np.float32)
  wanted = contrastive.info_nce(anchor, positive, temperature=1.0, normalize=False)
  np.testing.assert_allclose(tuplet.n_pairs(anchor, positive), wanted, rtol=1e-5)


def test_a_tuplet_of_one_negative_is_a_soft_triplet():
  x, labels, scale = EMBEDDINGS[:3], np.array([0, 0, 1]), 5.0
  scaled = lambda rows, columns: scale * cosine_distance(rows, columns)
  wanted = triplets.triplet_all(x, labels, margin=0.0, soft=True, distance=scaled)
  ours = tuplet.tuplet_margin(x, labels, margin=0.0, scale=scale)
  np.testing.assert_allclose(ours, wanted, rtol=1e-5)


def test_a_large_scale_leaves_the_hardest_negative():
  scaled = lambda rows, columns: 1000 * cosine_distance(rows, columns)
  x, labels = EMBEDDINGS[:8], np.repeat(np.arange(4), 2)
  wanted = triplets.triplet_hard(x, labels, margin=0.0, distance=scaled)
  ours = tuplet.tuplet_margin(x, labels, margin=0.0, scale=1000.0)
  np.testing.assert_allclose(ours, wanted, rtol=1e-3, atol=1e-3)


def test_a_margin_of_angles_forgives():
  losses = [tuplet.tuplet_margin(EMBEDDINGS, LABELS, margin=m) for m in (0.0, 0.1, 0.2)]
  assert (losses[0] > losses[1]).all() and (losses[1] > losses[2]).all()


def test_lifted_structures_of_one_triplet_are_hinges():
  x, labels = EMBEDDINGS[:3], np.array([0, 0, 1])
  d = euclidean(x, x)
  ours = tuplet.generalized_lifted_structure(x, labels, negative_margin=4.0)
  wanted = [d[0, 1] + 4 - d[0, 2], d[1, 0] + 4 - d[1, 2], 0]
  np.testing.assert_allclose(ours, np.maximum(wanted, 0), rtol=1e-5)
  ours = tuplet.lifted_structure(x, labels, margin=4.0)
  both = d[0, 1] + 4 + np.logaddexp(-d[0, 2], -d[1, 2])
  np.testing.assert_allclose(ours, [both**2 / 2, both**2 / 2, 0], rtol=1e-5)


def test_neighbours_of_one_collapsed_point_are_a_guess():
  labels = np.array([0, 0, 0, 1, 1, 2])
  ours = tuplet.nca(np.ones((6, 4), np.float32), labels)
  np.testing.assert_allclose(ours, np.log([2.5, 2.5, 2.5, 5, 5, 1]), atol=1e-6)


def test_neighbours_of_far_classes_are_sure():
  embeddings = 30 * np.eye(4, 6, dtype=np.float32)[LABELS] + 1e-3 * EMBEDDINGS
  np.testing.assert_allclose(tuplet.nca(embeddings, LABELS), 0, atol=1e-6)


@pytest.mark.parametrize("loss", LABELLED)
def test_weights_count_negatives_twice_as_if_they_were_there_twice(loss):
  weights = np.ones((14, 14), np.float32)
  weights[:, 3] = np.where(LABELS[3] == LABELS, 1, 2)
  twice = np.append(np.arange(14), 3)
  apart = LABELS[3] != LABELS
  ours = loss(EMBEDDINGS, LABELS, weights)[apart]
  wanted = loss(EMBEDDINGS[twice], LABELS[twice])[:14][apart]
  np.testing.assert_allclose(ours, wanted, rtol=1e-5)


@pytest.mark.parametrize("loss", LABELLED)
def test_mismatched_labels_name_both_shapes(loss):
  with pytest.raises(ValueError, match=r"\(14, 6\).*\(14, 1\)"):
    loss(EMBEDDINGS, LABELS[:, None])
