"""Scores of clusterings: brute force, closed forms, and what k-means must find."""

import itertools

import jax
import numpy as np
import pytest

from repjax.evaluate import Embedded, clustering_scores, kmeans, matched_accuracy

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)


def by_trial(assigned, label):
  """The best accuracy over all ways to name clusters by classes, or by none."""
  clusters, classes = int(assigned.max()) + 1, int(label.max()) + 1
  names = [*range(classes), *[-1] * clusters]
  return max(
    np.mean(np.array(choice)[assigned] == label)
    for choice in itertools.permutations(names, clusters)
  )


@pytest.mark.parametrize(("clusters", "classes"), [(3, 3), (4, 2), (2, 4)])
def test_the_matching_is_the_best_of_all(clusters, classes):
  for _ in range(5):
    assigned, label = RNG.integers(0, clusters, 30), RNG.integers(0, classes, 30)
    np.testing.assert_allclose(matched_accuracy(assigned, label), by_trial(assigned, label))


def test_mutual_information_and_rand_index_equal_their_definitions():
  label = RNG.integers(0, 3, 60)
  assigned = np.where(RNG.random(60) < 0.6, label, RNG.integers(0, 4, 60))
  joint = np.array([[np.mean((assigned == i) & (label == j)) for j in range(3)] for i in range(4)])
  entropy = lambda p: -np.sum(p[p > 0] * np.log(p[p > 0]))
  of_cluster, of_class = entropy(joint.sum(1)), entropy(joint.sum(0))
  nmi = 2 * (of_cluster + of_class - entropy(joint)) / (of_cluster + of_class)
  pairs = list(itertools.combinations(range(60), 2))
  same = np.array([[assigned[i] == assigned[j], label[i] == label[j]] for i, j in pairs])
  both, (a, b) = np.sum(same.all(1)), same.sum(0)
  chance = a * b / len(pairs)
  scores = clustering_scores(assigned, label)
  np.testing.assert_allclose(scores["nmi"], nmi)
  np.testing.assert_allclose(scores["ari"], (both - chance) / ((a + b) / 2 - chance))


def test_scores_ignore_names_of_clusters_and_unlabelled_examples():
  label, assigned = RNG.integers(0, 4, 80), RNG.integers(0, 4, 80)
  renamed = np.array([2, 3, 0, 1])[assigned]
  more = np.r_[renamed, RNG.integers(0, 4, 20)], np.r_[label, np.full(20, -1)]
  ours, other = clustering_scores(assigned, label), clustering_scores(*more)
  np.testing.assert_allclose(list(ours.values()), list(other.values()))


def test_kmeans_finds_classes_that_lie_apart_and_chance_where_there_is_nothing():
  label = RNG.integers(0, 5, 400)
  apart = (10 * np.eye(5)[label] + RNG.normal(size=(400, 5))).astype(np.float32)
  none = RNG.normal(size=(400, 5)).astype(np.float32)
  found, chance = (
    kmeans(Embedded(x[:200], label[:200]), Embedded(x[200:], label[200:]), key=KEY)
    for x in (apart, none)
  )
  assert found == {"kmeans_acc": 1, "kmeans_nmi": 1, "kmeans_ari": 1}
  assert abs(chance["kmeans_ari"]) < 0.05


def test_wrong_shapes_and_no_labels_are_named():
  with pytest.raises(ValueError, match=r"got \(3,\) and \(4,\)"):
    matched_accuracy(np.zeros(3, int), np.zeros(4, int))
  with pytest.raises(ValueError, match="none of the 3 examples"):
    matched_accuracy(np.zeros(3, int), np.full(3, -1))
