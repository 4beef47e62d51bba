"""Convergent learning: which units of one net are those of another.

A unit is a column: ``[n, units]`` activations on the same inputs in the same order. Of a
convolutional net a unit is a channel and every position of every image a row:
``layer.reshape(-1, channels)``.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from repjax.measure.alignment import check_pair
from repjax.measure.maps import LinearMap


def unit_correlation(units_1: jax.Array, units_2: jax.Array) -> jax.Array:
  """Correlation of every unit of one net with every unit of another.

  Args:
    units_1: ``[n, units_1]``.
    units_2: ``[n, units_2]``, on the same inputs in the same order.

  Returns:
    ``[units_1, units_2]`` in [-1, 1], at least float32; 0 for a unit that never changes.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Li et al., `Convergent Learning: Do different neural networks learn the same representations?
    <https://arxiv.org/abs/1511.07543>`_, 2016 (within-net and between-net correlation).
  """
  x, y = check_pair(units_1, units_2)
  (x, _, _), (y, _, _) = _standard(x), _standard(y)
  return jnp.clip(jnp.matmul(x.T, y, precision="highest") / len(x), -1, 1)


def one_to_one(correlation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Pairs of units of the largest summed correlation, each unit in one pair at most.

  Args:
    correlation: ``[units_1, units_2]``, from `unit_correlation`.

  Returns:
    For each unit of the first net its partner, ``[units_1]`` int32, -1 where the other net has too
    few, and their correlation, ``[units_1]`` float32, NaN there. On the host (the Hungarian
    algorithm, cubic in units).

  References:
    Li et al., `Convergent Learning: Do different neural networks learn the same representations?
    <https://arxiv.org/abs/1511.07543>`_, 2016 (bipartite matching).
  """
  from scipy.optimize import linear_sum_assignment

  correlation = np.asarray(correlation)
  rows, columns = linear_sum_assignment(correlation, maximize=True)
  partner = np.full(len(correlation), -1, np.int32)
  value = np.full(len(correlation), np.nan, np.float32)
  partner[rows], value[rows] = columns, correlation[rows, columns]
  return partner, value


def semi_matching(correlation: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The best partner of each unit, which others may share.

  Where it is much better than `one_to_one`, several units of the first net crowd around one of the
  second.

  Args:
    correlation: ``[units_1, units_2]``, from `unit_correlation`.

  Returns:
    For each unit of the first net its partner, ``[units_1]``, and their correlation.

  References:
    Li et al., `Convergent Learning: Do different neural networks learn the same representations?
    <https://arxiv.org/abs/1511.07543>`_, 2016 (bipartite semi-matching).
  """
  return jnp.argmax(correlation, 1), jnp.max(correlation, 1)


def sparse_map(
  source: jax.Array, target: jax.Array, *, penalty: float | jax.Array, steps: int = 1000
) -> LinearMap:
  r"""Predicts each unit of one net from few units of another (the lasso).

  .. math::
    \min_W \frac{1}{2 n} \lVert X W - Y \rVert_F^2 + \lambda \sum_{ij} \lvert W_{ij} \rvert

  for units of mean 0 and variance 1, so that the penalty is in units of correlation: at the largest
  correlation of a unit all its weights are 0. By accelerated proximal gradients, all units at once;
  weights left out are 0 exactly.

  Args:
    source: ``[n, units_source]``.
    target: ``[n, units_target]``, on the same inputs in the same order.
    penalty: lambda, >= 0.
    steps: of the optimisation; strongly correlated sources need more.

  Returns:
    The map between the units as they are, for `repjax.measure.apply_map`; columns of 0 for a target
    that never changes.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Li et al., `Convergent Learning: Do different neural networks learn the same representations?
    <https://arxiv.org/abs/1511.07543>`_, 2016 (sparse prediction).
    Tibshirani, `Regression Shrinkage and Selection via the Lasso
    <https://doi.org/10.1111/j.2517-6161.1996.tb02080.x>`_, 1996.
    Beck and Teboulle, `A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse
    Problems <https://doi.org/10.1137/080716542>`_, 2009.
  """
  x, y = check_pair(source, target)
  (x, mean_x, scale_x), (y, mean_y, scale_y) = _standard(x), _standard(y)
  gram = jnp.matmul(x.T, x, precision="highest") / len(x)
  cross = jnp.matmul(x.T, y, precision="highest") / len(x)
  step = 1 / jnp.maximum(jnp.linalg.eigvalsh(gram)[-1], jnp.finfo(x.dtype).tiny)

  def descend(_, state):
    weights, ahead, pace = state
    moved = ahead - step * (jnp.matmul(gram, ahead, precision="highest") - cross)
    shrunk = jnp.sign(moved) * jnp.maximum(jnp.abs(moved) - step * penalty, 0)
    # Restarted where momentum points uphill, which makes strongly convex problems fast.
    uphill = jnp.sum((ahead - shrunk) * (shrunk - weights)) > 0
    pace = jnp.where(uphill, 1.0, pace)
    after = (1 + jnp.sqrt(1 + 4 * pace**2)) / 2
    gain = jnp.where(uphill, 0.0, (pace - 1) / after)
    return shrunk, shrunk + gain * (shrunk - weights), after

  start = jnp.zeros_like(cross)
  weights, _, _ = lax.fori_loop(0, steps, descend, (start, start, jnp.ones((), x.dtype)))
  inverse = jnp.where(scale_x > 0, 1 / jnp.where(scale_x > 0, scale_x, 1), 0)
  return LinearMap(inverse[:, None] * weights * scale_y[None], mean_x, mean_y)


def unit_clusters(
  units_1: np.ndarray, units_2: np.ndarray, *, clusters: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
  """Groups units of both nets that vary together, many to many.

  Spectral clustering of the graph of all units of both nets, whose edges are absolute
  correlations, within nets and between them. A group with units of one net only is a subspace that
  the other has not learned.

  Args:
    units_1: ``[n, units_1]``.
    units_2: ``[n, units_2]``, on the same inputs in the same order.
    clusters: number of groups, at least 2.
    seed: of the clustering.

  Returns:
    Groups of either net's units, ``[units_1]`` and ``[units_2]`` int32. On the host, by
    scikit-learn.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Li et al., `Convergent Learning: Do different neural networks learn the same representations?
    <https://arxiv.org/abs/1511.07543>`_, 2016 (spectral clustering). The paper's text was not at
    hand; it clusters hierarchically, here once.
    Ng et al., `On Spectral Clustering: Analysis and an algorithm
    <https://papers.nips.cc/paper/2092-on-spectral-clustering-analysis-and-an-algorithm>`_, 2001.
  """
  from sklearn.cluster import SpectralClustering

  x, y = check_pair(units_1, units_2)
  both = jnp.concatenate([x, y], 1)
  graph = np.abs(np.array(unit_correlation(both, both), np.float64))
  graph = (graph + graph.T) / 2
  np.fill_diagonal(graph, 0)
  # A unit that never changes has no edge; a small one to all keeps the graph in one piece.
  graph += 1e-6 * (1 - np.eye(len(graph)))
  found = SpectralClustering(clusters, affinity="precomputed", random_state=seed).fit_predict(graph)
  found = np.asarray(found, np.int32)
  return found[: x.shape[1]], found[x.shape[1] :]


def _standard(x):
  """Columns of mean 0 and variance 1, those that never change 0; with means and deviations."""
  mean, largest = jnp.mean(x, 0), jnp.max(jnp.abs(x), 0)
  x = x - mean[None]
  scale = jnp.sqrt(jnp.mean(x * x, 0))
  some = scale > 10 * jnp.finfo(x.dtype).eps * largest  # more than the mean's rounding
  return jnp.where(some[None], x / jnp.where(some, scale, 1)[None], 0), mean, scale * some
