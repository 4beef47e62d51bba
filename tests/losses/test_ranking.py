"""Answers of pytorch-metric-learning, known minima and maxima of losses that rank a class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from libraries import answers, check_answer

from repjax.losses import ranking


def mean_of(loss, **options):
  return lambda embeddings, labels: jnp.mean(loss(embeddings, labels, **options))


SAME_AS = {
  "fast_ap": mean_of(ranking.fast_ap),
  "smooth_ap": mean_of(ranking.smooth_ap, temperature=0.1),
  "histogram": mean_of(ranking.histogram, bins=20),
}


@pytest.mark.parametrize("answer", answers("ranking"))
def test_loss_equals_another_library(answer):
  check_answer("ranking", answer, SAME_AS[answer.rpartition("_")[0]])


def classes_on_axes(classes=4, each=3):
  labels = np.repeat(np.arange(classes), each)
  return np.eye(classes, dtype=np.float32)[labels], labels


@pytest.mark.parametrize("loss", [ranking.fast_ap, ranking.smooth_ap, ranking.histogram])
def test_a_perfect_ranking_costs_nothing(loss):
  embeddings, labels = classes_on_axes()
  np.testing.assert_allclose(loss(embeddings, labels), 0, atol=1e-6)


@pytest.mark.parametrize("loss", [ranking.fast_ap, ranking.histogram])
def test_a_reversed_ranking_costs_the_most(loss):
  # Two points of one class are opposite; those of the other class lie on them.
  embeddings = np.array([[1, 0], [-1, 0], [1, 0], [-1, 0]], np.float32)
  labels = np.array([0, 0, 1, 1])
  cost = {"fast_ap": 1 - 1 / 3, "histogram": 1.0}[loss.__name__]  # pairs that tie count as lost
  np.testing.assert_allclose(loss(embeddings, labels), cost, rtol=1e-6)


def test_smooth_ap_of_a_sharp_sigmoid_is_average_precision():
  rng = np.random.default_rng(0)
  embeddings, labels = rng.normal(size=(14, 3)), rng.integers(3, size=14)
  unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
  wanted = []
  for i in range(14):
    relevant = labels[np.argsort(-unit @ unit[i])] == labels[i]
    wanted.append(np.mean((np.cumsum(relevant) / np.arange(1, 15))[relevant]))
  ours = ranking.smooth_ap(embeddings.astype(np.float32), labels, temperature=1e-6)
  np.testing.assert_allclose(1 - ours, wanted, rtol=1e-5)


def test_histogram_of_fine_bins_counts_reversed_pairs():
  rng = np.random.default_rng(0)
  embeddings, labels = rng.normal(size=(14, 3)), rng.integers(3, size=14)
  unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
  cosine, (i, j) = unit @ unit.T, np.triu_indices(14, 1)
  same = labels[i] == labels[j]
  positive, negative = cosine[i, j][same], cosine[i, j][~same]
  with jax.enable_x64(True):
    ours = ranking.histogram(embeddings, labels, bins=10**6)
  np.testing.assert_allclose(ours, np.mean(negative[:, None] > positive[None, :]), rtol=1e-6)


@pytest.mark.parametrize("loss", [ranking.fast_ap, ranking.smooth_ap, ranking.histogram])
def test_labels_that_do_not_fit_are_named(loss):
  with pytest.raises(ValueError, match=r"\(16, 8\).*\(12,\)"):
    loss(np.zeros((16, 8)), np.zeros(12, int))
