"""Agglomerative clustering on a directed graph of nearest neighbours, on the host."""

from typing import NamedTuple

import numpy as np


class Graph(NamedTuple):
  """Who is near whom, and how near.

  Attributes:
    neighbors: ``[n, k]`` int, the nearest other examples of each, the nearest first.
    weights: ``[n, k]`` float64 in (0, 1], of the edges to them.
  """

  neighbors: np.ndarray
  weights: np.ndarray


def neighbor_graph(features: np.ndarray, k: int, *, scale: float = 1.0) -> Graph:
  r"""Directed graph of the k nearest neighbours.

  .. math::
    W_{ij} = \exp(-\lVert x_i - x_j \rVert^2 / \sigma^2) \text{ for } j \in N_i^k, \qquad
    \sigma^2 = \frac{a}{n k} \sum_i \sum_{j \in N_i^k} \lVert x_i - x_j \rVert^2

  Args:
    features: ``[n, dim]``, taken as they are.
    k: neighbours of each, less than n; 20 in the paper.
    scale: :math:`a`; 1 in the paper.

  Returns:
    The graph.

  Raises:
    ValueError: if there are not ``k`` others.

  References:
    Yang et al., `Joint Unsupervised Learning of Deep Representations and Image Clusters
    <https://arxiv.org/abs/1604.03628>`_, 2016, section 3.1, after Zhang et al., `Graph Degree
    Linkage <https://arxiv.org/abs/1208.5092>`_, 2012.
  """
  from sklearn.neighbors import NearestNeighbors

  if not 0 < k < len(features):
    raise ValueError(f"k={k} neighbours of {len(features)} examples; choose 1 to one less")
  distance, neighbors = NearestNeighbors(n_neighbors=k).fit(features).kneighbors()
  square = np.square(distance.astype(np.float64))
  sigma = scale * np.mean(square)
  return Graph(neighbors, np.exp(-square / (sigma if sigma > 0 else 1)))


def first_clusters(graph: Graph) -> np.ndarray:
  """Clusters of a few examples each: whoever is linked by nearest neighbours is in one.

  Args:
    graph: of which each example's first neighbour counts.

  Returns:
    ``[n]`` int32 clusters, from 0.

  References:
    Yang et al., `Joint Unsupervised Learning of Deep Representations and Image Clusters
    <https://arxiv.org/abs/1604.03628>`_, 2016, section 3.5. Their code breaks chains of over 50.
  """
  from scipy.sparse import coo_array
  from scipy.sparse.csgraph import connected_components

  n = len(graph.neighbors)
  links = coo_array((np.ones(n), (np.arange(n), graph.neighbors[:, 0])), (n, n))
  return connected_components(links, directed=False)[1].astype(np.int32)


def merge_clusters(
  graph: Graph, labels: np.ndarray, clusters: int, *, nearest: int = 5, locality: float = 1.0
) -> np.ndarray:
  r"""Merges two clusters after another, those that are near and have no others as near.

  The affinity of two clusters is what flows from one through each example of the other and back:

  .. math::
    A(a, b) = \frac{1}{|a|^2} 1^\top W_{ab} W_{ba} 1 + \frac{1}{|b|^2} 1^\top W_{ba} W_{ab} 1

  Merged are, of all pairs, those of greatest

  .. math::
    A(a, b) + \frac{\lambda}{K - 1} \sum_{k=2}^K \big(A(a, b) - A(a, b_k)\big)

  with b the cluster of greatest affinity to a and :math:`b_2 \dots b_K` the next. Affinities after
  a merge are exact; the authors' code has a faster approximation. It leaves the second term out
  below 100 clusters, here it is left out where there are no more than K.

  Args:
    graph: of examples.
    labels: ``[n]`` int, the clusters to start from.
    clusters: how many are to be left, >= 1.
    nearest: :math:`K`, 5 in the paper.
    locality: :math:`\lambda`, 1 in the paper.

  Returns:
    ``[n]`` int32 clusters, from 0; as they were if there were no more than ``clusters``.

  References:
    Yang et al., `Joint Unsupervised Learning of Deep Representations and Image Clusters
    <https://arxiv.org/abs/1604.03628>`_, 2016, eq. 3 and 8, algorithm 1.
  """
  labels = np.unique(labels, return_inverse=True)[1].ravel()
  n, count = len(labels), int(labels.max()) + 1
  k = graph.neighbors.shape[1]
  source, target = np.repeat(np.arange(n), k), graph.neighbors.ravel()
  # What flows from cluster to example, and from example to cluster.
  into, out = np.zeros((count, n)), np.zeros((count, n))
  np.add.at(into, (labels[source], target), graph.weights.ravel())
  np.add.at(out, (labels[target], source), graph.weights.ravel())
  member = np.eye(count)[labels]
  flow = (into * out) @ member  # [a, b]: from a through the examples of b back to a
  size = np.bincount(labels, minlength=count).astype(np.float64)

  def affinities(rows):
    both = (
      flow[rows] / np.square(size[rows])[:, None] + (flow[:, rows] / np.square(size)[:, None]).T
    )
    both[np.arange(len(rows)), rows] = -np.inf
    return both

  affinity = affinities(np.arange(count))
  alive = np.ones(count, bool)
  for left in range(count, max(clusters, 1), -1):
    live = np.flatnonzero(alive)
    living = affinity[np.ix_(live, live)]
    best = score = np.max(living, 1)
    if left > nearest > 1:
      top = np.partition(living, left - nearest, 1)[:, left - nearest :]
      score = best + locality * (best - (np.sum(top, 1) - best) / (nearest - 1))
    a = int(live[np.argmax(score)])
    b = int(np.argmax(affinity[a]))
    into[a] += into[b]
    out[a] += out[b]
    labels[labels == b] = a
    size[a] += size[b]
    flow[:, a] += flow[:, b]
    flow[a] = np.bincount(labels, into[a] * out[a], count)
    alive[b] = False
    row = affinities(np.array([a]))[0]
    row[~alive] = -np.inf
    affinity[a], affinity[:, a] = row, row
    affinity[b], affinity[:, b] = -np.inf, -np.inf
  return np.unique(labels, return_inverse=True)[1].ravel().astype(np.int32)
