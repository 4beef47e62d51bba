"""Answers of pytorch-metric-learning, known minima and limits of losses that weigh pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from libraries import answers, check_answer

from repjax.losses import weighted_pairs

LOSSES = [
  weighted_pairs.multi_similarity,
  weighted_pairs.circle,
  weighted_pairs.angular,
  weighted_pairs.ranked_list,
]


def mean_of(loss, **options):
  return lambda embeddings, labels: jnp.mean(loss(embeddings, labels, **options))


def mean_over_pairs(embeddings, labels):
  """Every positive pair counts alike, and not every anchor."""
  loss = weighted_pairs.angular(embeddings, labels, alpha=45.0)
  positives = np.sum(labels[:, None] == labels[None, :], 1) - 1
  return jnp.sum(loss * positives) / np.sum(positives)


SAME_AS = {
  "multi_similarity": mean_of(weighted_pairs.multi_similarity),
  "multi_similarity_mined": mean_of(weighted_pairs.multi_similarity, mining_margin=0.1),
  "circle": mean_of(weighted_pairs.circle),
  "angular": mean_over_pairs,
  "ranked_list": mean_of(weighted_pairs.ranked_list, t_p=2.0, balance=0.3),
}


@pytest.mark.parametrize("answer", answers("weighted_pairs"))
def test_loss_equals_another_library(answer):
  check_answer("weighted_pairs", answer, SAME_AS[answer.rpartition("_")[0]])


def embedded(batch=12, dim=5):
  rng = np.random.default_rng(0)
  return rng.normal(size=(batch, dim)).astype(np.float32), rng.integers(3, size=batch)


@pytest.mark.parametrize("loss", LOSSES)
def test_lengths_of_embeddings_do_not_matter(loss):
  embeddings, labels = embedded()
  lengths = 10 ** np.random.default_rng(1).uniform(-3, 3, (12, 1)).astype(np.float32)
  ours, wanted = loss(embeddings * lengths, labels), loss(embeddings, labels)
  np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_names_of_classes_do_not_matter(loss):
  embeddings, labels = embedded()
  renamed = np.array([40, 7, 0])[labels]
  np.testing.assert_allclose(loss(embeddings, renamed), loss(embeddings, labels), rtol=1e-6)


@pytest.mark.parametrize("loss", [weighted_pairs.circle, weighted_pairs.angular])
def test_without_two_classes_there_is_nothing_to_tell_apart(loss):
  embeddings, _ = embedded()
  np.testing.assert_array_equal(loss(embeddings, np.zeros(12, int)), 0)
  np.testing.assert_array_equal(loss(embeddings, np.arange(12)), 0)


def test_multi_similarity_of_one_collapsed_point_is_the_closed_form():
  ours = weighted_pairs.multi_similarity(np.ones((6, 4), np.float32), np.arange(6) // 3)
  wanted = np.log1p(2 * np.exp(-1)) / 2 + np.log1p(3 * np.exp(25)) / 50
  np.testing.assert_allclose(ours, wanted, rtol=1e-5)


def test_a_wide_mining_margin_mines_nothing_away():
  embeddings, labels = embedded()
  ours = weighted_pairs.multi_similarity(embeddings, labels, mining_margin=2.1)
  np.testing.assert_allclose(ours, weighted_pairs.multi_similarity(embeddings, labels), rtol=1e-6)


def test_classes_apart_leave_nothing_to_mine():
  labels = np.arange(6) // 3
  ours = weighted_pairs.multi_similarity(np.eye(2)[labels], labels, mining_margin=0.1)
  np.testing.assert_array_equal(ours, 0)


def test_circle_has_its_boundary_on_a_circle():
  # Where (s_p - 1)^2 + s_n^2 = 2 m^2, one positive and one negative weigh up: log 2.
  positive, negative = 1 - 0.4 * np.sqrt(2) * np.cos(1.0), 0.4 * np.sqrt(2) * np.sin(1.0)
  ring = [1, 0], [positive, np.sqrt(1 - positive**2)], [negative, -np.sqrt(1 - negative**2)]
  with jax.enable_x64(True):
    ours = weighted_pairs.circle(np.array(ring), np.array([0, 0, 1]), gamma=256.0)
  np.testing.assert_allclose(ours[0], np.log(2), rtol=1e-6)


def test_angular_of_orthogonal_classes_is_the_closed_form():
  labels = np.arange(9) // 3
  ours = weighted_pairs.angular(np.eye(3, dtype=np.float32)[labels], labels, alpha=45.0)
  np.testing.assert_allclose(ours, np.log1p(6 * np.exp(-4)), rtol=1e-5)


def test_angular_stays_exact_at_its_largest_angle():
  # Negatives of the anchor are far from those of its positive, as seen from either.
  embeddings = np.array([[1, 0], [-1, 0], [1, 0], [-1, 0]], np.float32)
  labels = np.array([0, 0, 1, 1])
  square = np.tan(np.radians(70)) ** 2
  ours = weighted_pairs.angular(embeddings, labels, alpha=70.0)
  np.testing.assert_allclose(ours, np.log(2) + 2 * (1 + square), rtol=1e-5)


def test_ranked_list_asks_for_nothing_once_both_distances_are_kept():
  labels = np.arange(9) // 3
  np.testing.assert_array_equal(weighted_pairs.ranked_list(np.eye(3)[labels], labels), 0)


def test_a_steep_ranked_list_looks_at_the_closest_negative():
  embeddings, labels = embedded()
  unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
  distance = np.linalg.norm(unit[:, None] - unit[None, :], axis=-1)
  closest = np.min(np.where(labels[:, None] == labels[None, :], np.inf, distance), 1)
  with jax.enable_x64(True):
    ours = weighted_pairs.ranked_list(
      embeddings.astype(np.float64), labels, t_n=500.0, balance=1.0, alpha=1.0
    )
  np.testing.assert_allclose(ours, np.maximum(1 - closest, 0), atol=1e-3)


@pytest.mark.parametrize("loss", LOSSES)
def test_labels_that_do_not_fit_are_named(loss):
  with pytest.raises(ValueError, match=r"\(16, 8\).*\(12,\)"):
    loss(np.zeros((16, 8)), np.zeros(12, int))


@pytest.mark.parametrize("alpha", [0.0, 75.0])
def test_angles_out_of_range_are_named(alpha):
  with pytest.raises(ValueError, match=f"alpha={alpha}"):
    weighted_pairs.angular(np.zeros((4, 2)), np.zeros(4, int), alpha=alpha)
