"""Laws and closed forms of the losses over triplets, and what other libraries answer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from libraries import answers, check_answer

from repjax.losses import triplets
from repjax.losses.distances import cosine_distance, euclidean, lp_distance, squared_euclidean
from repjax.losses.labelled import labelled_pairs

RNG = np.random.default_rng(0)
EMBEDDINGS, LABELS = RNG.normal(size=(14, 6)).astype(np.float32), np.arange(14) % 4
LABELLED = (triplets.triplet_all, triplets.triplet_hard, triplets.triplet_semi_hard)
UNIT = {"normalize": True}
MANHATTAN = {"distance": lp_distance, "margin": 0.5}


def over_triplets(loss, **options):
  """Mean over all triplets of the batch, from means per anchor."""

  def of(embeddings, labels):
    same = labels[:, None] == labels[None, :]
    counts = jnp.sum(~same, 1) * (jnp.sum(same, 1) - 1)
    return jnp.sum(counts * loss(embeddings, labels, **options)) / jnp.sum(counts)

  return of


def over_active(embeddings, labels):
  """Mean over the triplets that violate a margin of 0.5, from means per anchor."""
  d, positive, negative = labelled_pairs(embeddings, labels, distance=euclidean)
  violated = 0.5 + d[:, :, None] - d[:, None, :] > 0
  counts = jnp.sum(positive[:, :, None] * negative[:, None, :] * violated, (1, 2))
  values = triplets.triplet_all(embeddings, labels, margin=0.5, active_only=True)
  return jnp.sum(counts * values) / jnp.sum(counts)


def over_positives(loss, **options):
  def of(embeddings, labels):
    counts = jnp.sum(labels[:, None] == labels[None, :], 1) - 1
    return jnp.sum(counts * loss(embeddings, labels, **options)) / jnp.sum(counts)

  return of


def over_anchors(loss, **options):
  """Mean over the anchors that have a positive."""

  def of(embeddings, labels):
    some = jnp.sum(labels[:, None] == labels[None, :], 1) > 1
    return jnp.sum(loss(embeddings, labels, **options)) / jnp.sum(some)

  return of


# What other libraries answer, by the name of the answer.
SAME_AS = {
  "given": lambda **arrays: jnp.mean(triplets.triplet(**arrays, margin=1.0)),
  "all": over_triplets(triplets.triplet_all, margin=0.5),
  "all_squared": over_triplets(triplets.triplet_all, distance=squared_euclidean, **UNIT),
  "all_cosine": over_triplets(triplets.triplet_all, distance=cosine_distance),
  "all_soft": over_triplets(triplets.triplet_all, margin=0.1, soft=True),
  "hard_manhattan": over_anchors(triplets.triplet_hard, **MANHATTAN),
  "hard_sentence": over_anchors(triplets.triplet_hard, margin=0.5),
  "hard_soft_sentence": over_anchors(triplets.triplet_hard, margin=0.0, soft=True),
  "semi_hard_sentence": over_positives(
    functools.partial(
      triplets.triplet_semi_hard,
      margin=0.5,
      farthest_otherwise=True,
      distance=functools.partial(lp_distance, p=2),
      normalize=False,
    )
  ),
  "all_active": over_active,
  "all_active_sentence": over_active,
}


@pytest.mark.parametrize("answer", answers("triplets"))
def test_loss_equals_another_library(answer):
  check_answer("triplets", answer, SAME_AS[answer.rpartition("_")[0]])


def test_batch_all_of_one_triplet_is_the_triplet():
  anchor, positive, negative = EMBEDDINGS[:3]
  ours = triplets.triplet_all(EMBEDDINGS[:3], np.array([0, 0, 1]), margin=3.0)
  wanted = triplets.triplet(anchor[None], positive[None], negative[None], margin=3.0)
  np.testing.assert_allclose(ours[:1], wanted, rtol=1e-5)


@pytest.mark.parametrize("loss", LABELLED)
def test_far_classes_have_no_loss(loss):
  embeddings = 100 * np.eye(4, 6, dtype=np.float32)[LABELS] + 1e-3 * EMBEDDINGS
  assert not loss(embeddings, LABELS).any()


@pytest.mark.parametrize("loss", [*LABELLED, triplets.centroid_triplet])
def test_one_collapsed_point_costs_the_margin(loss):
  options = {"farthest_otherwise": True} if loss is triplets.triplet_semi_hard else {}
  ours = loss(np.ones((14, 6), np.float32), LABELS, margin=0.7, **options)
  np.testing.assert_allclose(ours, 0.7, rtol=1e-6)


def test_semi_hard_negatives_of_a_collapsed_point_do_not_exist():
  assert not triplets.triplet_semi_hard(np.ones((14, 6), np.float32), LABELS).any()


def test_semi_hard_takes_the_nearest_negative_beyond_the_positive():
  line = np.array([0, 2, 1, 2.5, 3], np.float32)[:, None]
  options = {"margin": 1.0, "distance": lp_distance, "normalize": False}
  ours = triplets.triplet_semi_hard(line, np.array([0, 0, 1, 2, 3]), **options)
  # From 0 with its positive at 2, the negative at 2.5; from 2, at distance 2, there is none.
  np.testing.assert_allclose(ours[:2], [0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize("soft", [False, True])
def test_no_triplet_of_an_anchor_is_harder_than_its_hardest(soft):
  hardest = triplets.triplet_hard(EMBEDDINGS, LABELS, soft=soft)
  assert (triplets.triplet_all(EMBEDDINGS, LABELS, soft=soft) <= hardest + 1e-6).all()


def test_a_large_margin_is_linear_in_distances():
  d = squared_euclidean(EMBEDDINGS, EMBEDDINGS)
  same = LABELS[:, None] == LABELS[None, :]
  near = (d * same).sum(1) / (same.sum(1) - 1)
  far = (d * ~same).sum(1) / (~same).sum(1)
  options = {"margin": 100.0, "distance": squared_euclidean}
  ours = triplets.triplet_all(EMBEDDINGS, LABELS, **options)
  np.testing.assert_allclose(ours, 100 + near - far, rtol=1e-5)


def test_centroid_of_pairs_is_the_other_member():
  embeddings, labels = EMBEDDINGS[:4], np.array([0, 0, 1, 1])
  d = np.linalg.norm(embeddings[0] - embeddings[1])
  far = np.linalg.norm(embeddings[:2] - embeddings[2:].mean(0), axis=1)
  ours = triplets.centroid_triplet(embeddings, labels, margin=5.0)
  np.testing.assert_allclose(ours[:2], 5 + d - far, rtol=1e-5)


def test_batch_all_keeps_no_cube():
  """Temporary memory of the gradient, against that of all triplets at once."""
  n = 512
  shapes = jax.ShapeDtypeStruct((n, 8), jnp.float32), jax.ShapeDtypeStruct((n,), jnp.int32)
  for soft in (False, True):
    total = lambda x, y, soft=soft: jnp.sum(triplets.triplet_all(x, y, soft=soft))
    compiled = jax.jit(jax.grad(total)).lower(*shapes).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * n**3 / 8


@pytest.mark.parametrize("loss", [*LABELLED, triplets.centroid_triplet])
def test_mismatched_labels_name_both_shapes(loss):
  with pytest.raises(ValueError, match=r"\(14, 6\).*\(13,\)"):
    loss(EMBEDDINGS, LABELS[:13])


def test_a_soft_margin_has_no_inactive_triplets():
  with pytest.raises(ValueError, match="active_only=True needs a hinge"):
    triplets.triplet_all(EMBEDDINGS, LABELS, soft=True, active_only=True)
