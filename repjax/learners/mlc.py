"""MLC: make manifolds linear and find which image lies on which, by coding rates."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from repjax import losses
from repjax.arrays import at_least_float32, l2_normalize
from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.views import Crops, joint_embedding


class TwoHeads(nn.Module):
  """Two heads side by side on the same features.

  Attributes:
    feature: ``[batch, dim] -> [batch, out]``.
    cluster: of the same shape.
  """

  feature: nn.Module
  cluster: nn.Module

  def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
    """Projects features twice.

    Args:
      x: ``[batch, dim]``.
      train: whether batch norm uses the batch's statistics.

    Returns:
      ``[batch, 2 * out]``, what ``feature`` says first.
    """
    return jnp.concatenate([self.feature(x, train=train), self.cluster(x, train=train)], -1)


def mlc(
  encoder: nn.Module,
  feature_head: nn.Module,
  cluster_head: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  epsilon: float = 0.5,
  entropy_weight: float = 0.1,
  iterations: int = 10,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of manifold linearising and clustering.

  It starts in one shot (`start_from`): the encoder and the feature head from a self-supervised
  task, the cluster head as a copy of the feature head. Afterwards clusters are those of
  `spectral_clusters` of the `memberships`.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    feature_head: ``[batch, dim] -> [batch, out]``, whose rates are measured.
    cluster_head: likewise, whose cosines tell who belongs together.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn once per example.
    epsilon: distortion of the rates, > 0.
    entropy_weight: of the doubly stochastic projection, > 0.
    iterations: of `repjax.losses.sinkhorn`.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; it has the parameters of a `Network`, whose ``projector`` is `TwoHeads`.

  References:
    Ding et al., `Unsupervised Manifold Linearizing and Clustering
    <https://arxiv.org/abs/2301.01805>`_, 2023, eq. 4 and section 3.
  """

  def loss(seen):
    z, cluster_z = jnp.split(seen.online[0].projected, 2, -1)
    options = {"epsilon": epsilon, "entropy_weight": entropy_weight, "iterations": iterations}
    return losses.mlc(z, cluster_z, axis_name=axis_name, **options)

  return joint_embedding(
    Network(encoder, TwoHeads(feature_head, cluster_head)),
    [Crops(augment, 1)],
    loss,
    normalize=normalize,
    axis_name=axis_name,
  )


def memberships(
  cluster_z: jax.Array, *, entropy_weight: float = 0.1, iterations: int = 50
) -> jax.Array:
  """How much examples belong together: the doubly stochastic matrix next to their cosines.

  Args:
    cluster_z: outputs of the cluster head, ``[n, out]``; normalised inside.
    entropy_weight: as in `mlc`.
    iterations: of `repjax.losses.sinkhorn`.

  Returns:
    ``[n, n]`` float32, rows that sum to 1 and columns that nearly do.

  References:
    Ding et al., `Unsupervised Manifold Linearizing and Clustering
    <https://arxiv.org/abs/2301.01805>`_, 2023, section 3.1.
  """
  z = l2_normalize(at_least_float32(cluster_z))
  cosines = jnp.matmul(z, z.T, precision="highest")
  return losses.sinkhorn(cosines, epsilon=entropy_weight, iterations=iterations)


def spectral_clusters(affinity: np.ndarray, clusters: int, *, seed: int) -> np.ndarray:
  """Spectral clustering of a matrix of affinities, on the host.

  Args:
    affinity: ``[n, n]``, >= 0; made symmetric.
    clusters: their number.
    seed: of the k-means in the space of eigenvectors.

  Returns:
    ``[n]`` int32, the cluster of each example.

  References:
    Ng et al., `On Spectral Clustering: Analysis and an algorithm
    <https://papers.nips.cc/paper/2092-on-spectral-clustering-analysis-and-an-algorithm>`_, 2001.
  """
  from sklearn.cluster import SpectralClustering

  affinity = np.asarray(affinity, np.float64)
  method = SpectralClustering(clusters, affinity="precomputed", random_state=seed)
  return method.fit_predict((affinity + affinity.T) / 2).astype(np.int32)
