"""Canonical correlations: what two representations share up to any affine map of either."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from repjax.measure.alignment import check_pair


class CanonicalCorrelation(NamedTuple):
  """Directions of two representations, paired by correlation.

  Attributes:
    correlations: ``[k]`` in [0, 1], largest first, k = min(dim_1, dim_2); 0 beyond the smaller
      rank.
    weights_1: ``[dim_1, k]``; ``(x - mean_1) @ weights_1`` are the canonical variates, of unit
      length over the examples fitted (without ridge), uncorrelated.
    weights_2: ``[dim_2, k]``.
    mean_1: ``[dim_1]``.
    mean_2: ``[dim_2]``.
  """

  correlations: jax.Array
  weights_1: jax.Array
  weights_2: jax.Array
  mean_1: jax.Array
  mean_2: jax.Array


def cca(
  features_1: jax.Array,
  features_2: jax.Array,
  *,
  ridge: float | jax.Array = 0.0,
  tolerance: float | None = None,
) -> CanonicalCorrelation:
  r"""Canonical correlation analysis by singular value decompositions.

  With :math:`X = U_x S_x V_x^T` and :math:`Y` likewise, centred, correlations are the singular
  values of :math:`D_x U_x^T U_y D_y`, :math:`D = S (S^2 + \lambda S_{max}^2)^{-1/2}`, the identity
  without ridge. They do not change under invertible affine maps of either side (without ridge), and
  are all 1 where there are no more examples than dimensions: give several times as many, or a
  ridge.

  Args:
    features_1: ``[n, dim_1]``.
    features_2: ``[n, dim_2]``, of the same examples in the same order.
    ridge: added to the variances of a side, as a share of its largest, >= 0.
    tolerance: directions whose singular value is below this share of the largest are left out; by
      default ``max(n, dim)`` roundings of the dtype.

  Returns:
    Correlations, weights and means; the weights hold the ridge's shrinkage.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Hotelling, `Relations Between Two Sets of Variates <https://doi.org/10.2307/2333955>`_, 1936.
    Björck and Golub, `Numerical Methods for Computing Angles Between Linear Subspaces
    <https://doi.org/10.2307/2005662>`_, 1973 (by decompositions of both sides).
  """
  x, y = check_pair(features_1, features_2)
  mean_1, mean_2 = jnp.mean(x, 0), jnp.mean(y, 0)
  basis_1, whiten_1 = _whitened(x - mean_1[None], ridge, tolerance)
  basis_2, whiten_2 = _whitened(y - mean_2[None], ridge, tolerance)
  left, values, right = jnp.linalg.svd(
    jnp.matmul(basis_1.T, basis_2, precision="highest"), full_matrices=False
  )
  keep = min(x.shape[1], y.shape[1])
  pad = lambda z: jnp.pad(z, ((0, 0), (0, keep - z.shape[1])))
  return CanonicalCorrelation(
    jnp.minimum(jnp.pad(values, (0, keep - len(values))), 1),
    pad(jnp.matmul(whiten_1, left, precision="highest")),
    pad(jnp.matmul(whiten_2, right.T, precision="highest")),
    mean_1,
    mean_2,
  )


def mean_squared_cca(features_1: jax.Array, features_2: jax.Array) -> jax.Array:
  r"""Mean of the squared canonical correlations.

  .. math::
    R^2_{CCA} = \frac{1}{p} \sum_i \rho_i^2 = \frac{\lVert Q_y^T Q_x \rVert_F^2}{p}

  with p the smaller of both ranks. Independent features have ``max(dim) / (n - 1)`` in the mean
  and not 0.

  Args:
    features_1: ``[n, dim_1]``; n several times the width, or it is 1 whatever they are.
    features_2: ``[n, dim_2]``, of the same examples in the same order.

  Returns:
    Scalar in [0, 1] up to rounding, at least float32; 0 where a representation is constant.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Kornblith et al., `Similarity of Neural Network Representations Revisited
    <https://arxiv.org/abs/1905.00414>`_, 2019, table 1, where p is the smaller width.
  """
  x, y = check_pair(features_1, features_2)
  (basis_1, _), (basis_2, _) = (_whitened(z - jnp.mean(z, 0)[None], 0.0, None) for z in (x, y))
  # Columns of length 1 up to the rank, 0 beyond.
  ranks = [jnp.round(jnp.sum(basis**2)) for basis in (basis_1, basis_2)]
  shared = jnp.sum(jnp.matmul(basis_1.T, basis_2, precision="highest") ** 2)
  return shared / jnp.maximum(jnp.minimum(*ranks), 1)


def svcca(
  features_1: jax.Array, features_2: jax.Array, *, variance: float | jax.Array = 0.99
) -> jax.Array:
  r"""Mean canonical correlation of the principal components that hold most variance.

  Each side keeps its first components that hold the share ``variance``, and the mean is over the
  smaller number of components. Sees neither orthogonal turns nor scale.

  Args:
    features_1: ``[n, dim_1]``.
    features_2: ``[n, dim_2]``, of the same examples in the same order.
    variance: share in (0, 1].

  Returns:
    Scalar in [0, 1], at least float32; 0 where a representation is constant.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Raghu et al., `SVCCA: Singular Vector Canonical Correlation Analysis for Deep Learning Dynamics
    and Interpretability <https://arxiv.org/abs/1706.05806>`_, 2017, section 2. The share is of the
    squared singular values, as its text has it ("99% of the variance"); the authors' tutorial code
    sums the singular values themselves.
  """
  x, y = check_pair(features_1, features_2)
  kept = [_principal(z - jnp.mean(z, 0)[None], variance) for z in (x, y)]
  (basis_1, count_1), (basis_2, count_2) = kept
  product = jnp.matmul(basis_1.T, basis_2, precision="highest")
  values = jnp.minimum(jnp.linalg.svd(product, compute_uv=False), 1)
  return jnp.sum(values) / jnp.maximum(jnp.minimum(count_1, count_2), 1)


def pwcca(features_1: jax.Array, features_2: jax.Array) -> jax.Array:
  r"""Canonical correlations, each weighted by how much of the first representation it accounts for.

  .. math::
    \frac{\sum_i \alpha_i \rho_i}{\sum_i \alpha_i}, \qquad
    \alpha_i = \sum_j \lvert \langle h_i, x_j \rangle \rvert

  with :math:`h_i` the canonical variates of the first side and :math:`x_j` its centred columns. It
  is not symmetric: weights are of ``features_1``, whatever the widths.

  Args:
    features_1: ``[n, dim_1]``; n several times the width.
    features_2: ``[n, dim_2]``, of the same examples in the same order.

  Returns:
    Scalar in [0, 1], at least float32; 0 where a representation is constant.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Morcos et al., `Insights on representational similarity in neural networks with canonical
    correlation <https://arxiv.org/abs/1806.05759>`_, 2018, section 2.2. The authors' code takes the
    weights of whichever side has fewer directions.
  """
  x, y = check_pair(features_1, features_2)
  found = cca(x, y)
  x = x - found.mean_1[None]
  variates = jnp.matmul(x, found.weights_1, precision="highest")
  weight = jnp.sum(jnp.abs(jnp.matmul(variates.T, x, precision="highest")), 1)
  total = jnp.sum(weight)
  return jnp.where(total > 0, weight @ found.correlations / jnp.where(total > 0, total, 1), 0)


def _tolerance(x, tolerance=None):
  return max(x.shape) * jnp.finfo(x.dtype).eps if tolerance is None else tolerance


def _whitened(x, ridge, tolerance):
  """Orthonormal variates of centred columns, and the weights that make them; 0 beyond the rank."""
  left, values, right = jnp.linalg.svd(x, full_matrices=False)
  some = (values > _tolerance(x, tolerance) * values[0]) & (values > 0)
  length = jnp.sqrt(values**2 + ridge * values[0] ** 2)
  inverse = jnp.where(some, 1 / jnp.where(some, length, 1), 0)
  return left * (values * inverse)[None], right.T * inverse[None]


def _principal(x, variance):
  """Orthonormal scores of the first components that hold a share of the variance; the rest 0."""
  left, values, _ = jnp.linalg.svd(x, full_matrices=False)
  square = values**2
  before = jnp.cumsum(square) - square
  some = (before < variance * jnp.sum(square)) & (values > _tolerance(x) * values[0])
  return jnp.where(some[None], left, 0), jnp.sum(some)
