"""Distances between representations that are metrics: what the best turn leaves apart."""

import jax
import jax.numpy as jnp

from repjax.arrays import safe_sqrt
from repjax.measure.alignment import check_pair


def procrustes_distance(
  features_1: jax.Array, features_2: jax.Array, *, normalize: bool = True
) -> jax.Array:
  r"""Distance of centred representations after the best orthogonal map.

  .. math::
    \min_Q \lVert X - Y Q \rVert_F
    = \sqrt{\lVert X \rVert_F^2 + \lVert Y \rVert_F^2 - 2 \lVert Y^T X \rVert_*}

  Widths may differ, as if the narrower one had columns of 0. It is the distance and not its square,
  which Ding et al. report.

  Args:
    features_1: ``[n, dim_1]``.
    features_2: ``[n, dim_2]``, of the same examples in the same order.
    normalize: scale both to a Frobenius norm of 1 first.

  Returns:
    Scalar >= 0, at least float32; at most the root of 2 if normalised.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Ding et al., `Grounding Representation Similarity with Statistical Testing
    <https://arxiv.org/abs/2108.01661>`_, 2021, section 3.
    Schönemann, `A generalized solution of the orthogonal Procrustes problem
    <https://doi.org/10.1007/BF02289451>`_, 1966.
  """
  x, y = (_centred(z) for z in check_pair(features_1, features_2))
  if normalize:
    x, y = _unit(x), _unit(y)
  return safe_sqrt(jnp.maximum(jnp.sum(x * x) + jnp.sum(y * y) - 2 * _nuclear(x, y), 0))


def shape_distance(
  features_1: jax.Array, features_2: jax.Array, *, alpha: float | jax.Array = 1.0
) -> jax.Array:
  r"""Angle between representations, partially whitened and turned onto each other.

  .. math::
    \arccos \max_Q \frac{\langle \phi(X), \phi(Y) Q \rangle}
    {\lVert \phi(X) \rVert_F \lVert \phi(Y) \rVert_F}, \qquad
    \phi(X) = C X \big(\alpha I + (1 - \alpha) (X^T C X)^{-1/2}\big)

  with C the centring matrix. At ``alpha`` = 1 the angle of Procrustes, which sees neither turns nor
  scale; at 0 that of CCA, which sees no invertible affine map. All of them obey the triangle
  inequality, so that nets may be clustered and averaged by them. Between 0 and 1 it depends on the
  scale of features and on n, as the paper's does: :math:`X^T C X` is a sum and not a mean.

  Args:
    features_1: ``[n, dim_1]``.
    features_2: ``[n, dim_2]``, of the same examples in the same order.
    alpha: in [0, 1].

  Returns:
    Scalar in [0, pi / 2] radians, at least float32. Near 0 the arc cosine has half the digits: in
    float32, 5e-4.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Williams et al., `Generalized Shape Metrics on Neural Representations
    <https://arxiv.org/abs/2110.14739>`_, 2021 (partial whitening, angular distance). The authors'
    code (netrep, ``LinearMetric``) clips eigenvalues at 1e-7; here singular values under the
    dtype's rounding are left out.
  """
  x, y = (_partly_whitened(_centred(z), alpha) for z in check_pair(features_1, features_2))
  return jnp.arccos(jnp.clip(_nuclear(_unit(x), _unit(y)), 0, 1))


def _centred(x):
  return x - jnp.mean(x, 0)[None]


def _unit(x):
  length = jnp.linalg.norm(x)
  return x / jnp.where(length > 0, length, 1)


def _nuclear(x, y):
  return jnp.sum(jnp.linalg.svd(jnp.matmul(y.T, x, precision="highest"), compute_uv=False))


def _partly_whitened(x, alpha):
  """In the basis of its own singular vectors, which no distance here sees."""
  left, values, _ = jnp.linalg.svd(x, full_matrices=False)
  some = (values > max(x.shape) * jnp.finfo(x.dtype).eps * values[0]) & (values > 0)
  return left * jnp.where(some, alpha * values + (1 - alpha), 0)[None]
