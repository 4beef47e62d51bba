"""How well clusters found without labels are the classes."""

import jax
import numpy as np

from repjax.evaluate.embed import Embedded, labelled


def matched_accuracy(assigned: np.ndarray, label: np.ndarray) -> float:
  """Share of examples whose cluster is that of their class, under the best matching.

  Each cluster stands for one class at most, and each class for one cluster: of all such matchings
  the one that makes most examples right, by the Hungarian method. There may be more clusters than
  classes, or fewer; those without a partner are wrong.

  Args:
    assigned: ``[n]`` integers >= 0, the cluster of each example.
    label: ``[n]`` integers; those labelled -1 take no part.

  Returns:
    Accuracy in (0, 1].

  Raises:
    ValueError: if the shapes differ or nothing is labelled.

  References:
    Kuhn, `The Hungarian method for the assignment problem
    <https://doi.org/10.1002/nav.3800020109>`_, 1955.
    Xie et al., `Unsupervised Deep Embedding for Clustering Analysis
    <https://arxiv.org/abs/1511.06335>`_, 2016, eq. 10, for the measure.
  """
  from scipy.optimize import linear_sum_assignment

  assigned, label = _both(assigned, label)
  counts = np.zeros((assigned.max() + 1, label.max() + 1), int)
  np.add.at(counts, (assigned, label), 1)
  return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(label))


def clustering_scores(assigned: np.ndarray, label: np.ndarray) -> dict[str, float]:
  """Agreement of clusters and classes, by three measures.

  Args:
    assigned: ``[n]`` integers >= 0, the cluster of each example.
    label: ``[n]`` integers; those labelled -1 take no part.

  Returns:
    ``acc``, see `matched_accuracy`; ``nmi``, mutual information over the arithmetic mean of the two
    entropies, in [0, 1]; ``ari``, the Rand index adjusted for chance, 0 at chance and 1 at most.

  Raises:
    ValueError: if the shapes differ or nothing is labelled.

  References:
    Vinh et al., `Information Theoretic Measures for Clusterings Comparison
    <https://jmlr.org/papers/v11/vinh10a.html>`_, 2010, table 2 (``NMI_sum``).
    Hubert and Arabie, `Comparing partitions <https://doi.org/10.1007/BF01908075>`_, 1985.
  """
  from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

  assigned, label = _both(assigned, label)
  return {
    "acc": matched_accuracy(assigned, label),
    "nmi": float(normalized_mutual_info_score(label, assigned)),
    "ari": float(adjusted_rand_score(label, assigned)),
  }


def cluster_kmeans(
  features: np.ndarray, clusters: int, *, key: jax.Array, restarts: int = 10
) -> tuple[np.ndarray, np.ndarray]:
  """Clusters of k-means: the control that a learned clustering must beat.

  Args:
    features: ``[n, dim]``, taken as they are.
    clusters: their number.
    key: of the starts, by k-means++.
    restarts: of which the one of least distortion is kept.

  Returns:
    Clusters ``[n]`` int32, and centroids ``[clusters, dim]`` float32.
  """
  from sklearn.cluster import KMeans

  seed = int(jax.random.randint(key, (), 0, np.iinfo(np.int32).max))
  found = KMeans(clusters, n_init=restarts, random_state=seed).fit(features)
  return found.labels_.astype(np.int32), found.cluster_centers_.astype(np.float32)


def kmeans(
  train: Embedded, test: Embedded, *, key: jax.Array, restarts: int = 10
) -> dict[str, float]:
  """How well the clusters that k-means finds in features are the classes.

  As many clusters as there are classes are found in the train features without a look at labels;
  test examples belong to the nearest centroid. Unlabelled examples (-1) take no part.

  Args:
    train: features to cluster.
    test: features to assign and to score.
    key: of the starts.
    restarts: of k-means.

  Returns:
    ``kmeans_acc``, ``kmeans_nmi``, ``kmeans_ari``, see `clustering_scores`.

  Raises:
    ValueError: if either has no labelled example.
  """
  train, test = labelled(train, test)
  classes = len(np.union1d(train.label, test.label))
  _, centroids = cluster_kmeans(train.features, classes, key=key, restarts=restarts)
  square = np.sum(np.square(centroids), 1)[None] - 2 * test.features @ centroids.T
  scores = clustering_scores(np.argmin(square, 1), test.label)
  return {f"kmeans_{name}": value for name, value in scores.items()}


def _both(assigned, label):
  assigned, label = np.asarray(assigned), np.asarray(label)
  if assigned.shape != label.shape or label.ndim != 1:
    raise ValueError(
      f"expected a cluster and a label of each example, got {assigned.shape} and {label.shape}"
    )
  if not np.any(label >= 0):
    raise ValueError(f"none of the {len(label)} examples has a label >= 0; label some")
  return assigned[label >= 0], label[label >= 0]
