"""JULE: the graph, merges against a plain restatement, and what the clusters teach."""

import layouts
import numpy as np
import pytest

from repjax.learners import first_clusters, jule, merge_clusters, neighbor_graph, unrolled

RNG = np.random.default_rng(0)
CLUSTERED = layouts.BATCH | {"cluster": np.array([0, 0, 1, 1, 2, 2, 2, -1] * 2, np.int32)}


def clustered():
  return CLUSTERED


def of_jule(axis):
  return jule(layouts.Tiny(), axis_name=axis)


def dense(graph):
  n = len(graph.neighbors)
  weights = np.zeros((n, n))
  for i in range(n):
    weights[i, graph.neighbors[i]] = graph.weights[i]
  return weights


def merged_by_definition(weights, labels, clusters, nearest):
  """Affinities from the matrix products of the paper, anew at each merge."""
  groups = [list(np.flatnonzero(labels == c)) for c in np.unique(labels)]

  def affinity(a, b):
    ab, ba = weights[np.ix_(a, b)], weights[np.ix_(b, a)]
    return np.sum(ab @ ba) / len(a) ** 2 + np.sum(ba @ ab) / len(b) ** 2

  while len(groups) > clusters:
    best = []
    for i, a in enumerate(groups):
      others = [(affinity(a, b), j) for j, b in enumerate(groups) if j != i]
      others.sort(key=lambda pair: (-pair[0], pair[1]))
      value = others[0][0]
      if len(groups) > nearest:
        value += sum(others[0][0] - x for x, _ in others[1:nearest]) / (nearest - 1)
      best.append((value, i, others[0][1]))
    _, i, j = max(best, key=lambda x: x[0])
    groups[i] += groups[j]
    del groups[j]
  out = np.zeros(len(labels), int)
  for c, group in enumerate(groups):
    out[group] = c
  return out


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(of_jule, layout, batch=clustered)


def test_edges_are_gaussians_of_the_distances_to_neighbours():
  x = RNG.normal(size=(30, 3))
  weights = dense(neighbor_graph(x, 4))
  square = np.sum((x[:, None] - x[None]) ** 2, -1) + np.diag(np.full(30, np.inf))
  near = square <= np.sort(square, 1)[:, 3:4]
  wanted = np.where(near, np.exp(-square / np.mean(square[near])), 0)
  np.testing.assert_allclose(weights, wanted)
  with pytest.raises(ValueError, match="k=30 neighbours of 30 examples"):
    neighbor_graph(x, 30)


def test_first_clusters_join_each_example_to_its_nearest():
  graph = neighbor_graph(np.array([[0.0], [1], [2.5], [10], [11]]), 2)
  first = first_clusters(graph)
  assert first[0] == first[1] == first[2] != first[3] == first[4]


@pytest.mark.parametrize("clusters", [8, 3])
def test_merges_are_those_of_the_definition(clusters):
  x = RNG.normal(size=(40, 2))
  graph = neighbor_graph(x, 6)
  first = first_clusters(graph)
  assert first.max() + 1 > clusters
  ours = merge_clusters(graph, first, clusters, nearest=4)
  theirs = merged_by_definition(dense(graph), first, clusters, nearest=4)
  assert len(set(zip(ours, theirs, strict=True))) == clusters == len(set(ours))
  np.testing.assert_array_equal(merge_clusters(graph, ours, 40), ours)


def test_triplets_are_of_clusters_and_leave_out_who_has_none():
  start, _, metrics = layouts.steps(of_jule, batch=clustered, count=1)
  image, cluster = CLUSTERED["image"] / np.float32(255), CLUSTERED["cluster"]
  z = np.asarray(layouts.Tiny().apply({"params": start.params["encoder"]}, image).pooled, float)
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  square = np.sum((z[:, None] - z[None]) ** 2, -1)
  anchors = []
  for i in range(16):
    if cluster[i] >= 0:
      near = [j for j in range(16) if j != i and cluster[j] == cluster[i]]
      far = [k for k in range(16) if cluster[k] not in (-1, cluster[i])]
      hinge = [max(0, square[i, j] - square[i, k] + 0.2) for j in near for k in far]
      anchors.append(np.mean(hinge))
    else:
      anchors.append(0)
  np.testing.assert_allclose(metrics[0]["loss"], np.mean(anchors), rtol=1e-4)


def test_a_period_merges_a_share_and_stops_at_the_target():
  assert [unrolled(100, target=10, rate=0.2), unrolled(85, target=10)] == [80, 10]
  assert unrolled(1000, target=10) == 100
