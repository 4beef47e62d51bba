"""Labels spread over a graph of neighbours."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32, l2_normalize
from repjax.heads.neighbors import mine_neighbors


class Graph(NamedTuple):
  """A symmetric graph, of which each edge is held from where it was found.

  The weight between i and j is half the sum of what i has for j and what j has for i.

  Attributes:
    neighbor: ``[n, k]`` int.
    weight: ``[n, k]``, >= 0.
  """

  neighbor: jax.Array
  weight: jax.Array


def knn_graph(
  features: jax.Array, k: int, *, exponent: float | jax.Array = 3.0, rows: int = 512
) -> Graph:
  """Links each example with its most similar others.

  Args:
    features: ``[n, dim]``; normalised inside.
    k: neighbours of each, less than n.
    exponent: power of the cosine that is the weight; negative cosines weigh 0.
    rows: how many are compared with all others at a time, in memory ``[rows, n]``.

  Returns:
    The graph.

  Raises:
    ValueError: if there are not ``k`` others.

  References:
    Iscen et al., `Label Propagation for Deep Semi-supervised Learning
    <https://arxiv.org/abs/1904.04717>`_, 2019, eq. 9, which has the sum of both directions and an
    exponent of 3.
  """
  neighbor = mine_neighbors(features, k, rows=rows)
  z = l2_normalize(at_least_float32(features))

  def weigh(row):
    x, others = row
    return jnp.maximum(jnp.matmul(z[others], x, precision="highest"), 0) ** exponent

  return Graph(neighbor, jax.lax.map(weigh, (z, neighbor), batch_size=min(rows, len(z))))


def propagate_labels(
  graph: Graph,
  labels: jax.Array,
  *,
  classes: int,
  alpha: float | jax.Array = 0.99,
  tolerance: float = 1e-6,
  max_steps: int = 1000,
) -> jax.Array:
  r"""Labels of all examples from those of a few, by the graph between them.

  .. math:: F = (1 - \alpha) (I - \alpha S)^{-1} Y, \qquad S = D^{-1/2} W D^{-1/2}

  with one-hot rows :math:`Y`, 0 where there is no label, and degrees :math:`D` of the weights
  :math:`W`. It is where :math:`F \leftarrow \alpha S F + (1 - \alpha) Y` ends up, found by
  conjugate gradients in some :math:`\sqrt{1 / (1 - \alpha)}` steps; memory holds ``[n, k,
  classes]``. Equal, up to the length of rows, to scikit-learn's ``LabelSpreading(alpha=alpha)`` on
  the same symmetric weights.

  Args:
    graph: from `knn_graph`, or any.
    labels: ``[n]`` int, -1 for those to be told.
    classes: number of classes.
    alpha: in ``[0, 1)``, the share of what neighbours say; scikit-learn's default is 0.2, the
      paper's 0.99.
    tolerance: ends the search at a residual of this share of the labels' norm.
    max_steps: ends the search in any case.

  Returns:
    ``[n, classes]``, >= 0 up to the tolerance, scores and no probabilities: the labels given are
    not clamped. A row that no label reaches is 0.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Zhou et al., `Learning with Local and Global Consistency
    <https://papers.nips.cc/paper/2506-learning-with-local-and-global-consistency>`_, 2004, eq. 4
    and section 2.
  """
  if graph.neighbor.shape != graph.weight.shape or labels.shape != graph.neighbor.shape[:1]:
    raise ValueError(
      f"expected a graph [n, k] and labels [n], got {graph.neighbor.shape}, {graph.weight.shape} "
      f"and {labels.shape}"
    )
  weight = at_least_float32(graph.weight)
  size = len(labels)

  def weighted(f):
    """W f, for f ``[n, columns]``."""
    found = jnp.einsum("nk,nkc->nc", weight, f[graph.neighbor], precision="highest")
    columns = f.shape[1]
    told = (weight[..., None] * f[:, None]).reshape(-1, columns)
    return (found + jax.ops.segment_sum(told, graph.neighbor.reshape(-1), size)) / 2

  degree = weighted(jnp.ones((size, 1), weight.dtype))
  scale = jnp.where(degree > 0, jax.lax.rsqrt(jnp.where(degree > 0, degree, 1)), 0)
  given = (labels[:, None] == jnp.arange(classes)[None]).astype(weight.dtype)
  apply = lambda f: f - alpha * scale * weighted(scale * f)
  spread, _ = jax.scipy.sparse.linalg.cg(apply, given, tol=tolerance, maxiter=max_steps)
  return (1 - alpha) * spread
