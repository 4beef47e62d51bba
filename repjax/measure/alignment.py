"""Centred kernel alignment (CKA): whether two representations find the same examples alike."""

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32
from repjax.measure.kernels import centre_gram


def cka(gram_1: jax.Array, gram_2: jax.Array, *, unbiased: bool) -> jax.Array:
  r"""Centred kernel alignment of two Gram matrices.

  .. math::
    \frac{\mathrm{HSIC}(K, L)}{\sqrt{\mathrm{HSIC}(K, K) \, \mathrm{HSIC}(L, L)}}

  With the biased estimate of HSIC it lies in [0, 1], and is far above 0 for independent features
  of few examples: of 16 Gaussian dimensions each, 0.34, 0.20, 0.11 and 0.06 at n = 32, 64, 128 and
  256, where the unbiased one has 0 in the mean. That one may be negative and is not clipped. Linear
  kernels see neither orthogonal turns nor scale. Memory holds ``[n, n]``.

  Args:
    gram_1: ``[n, n]`` symmetric, as of `repjax.measure.rbf_gram`.
    gram_2: ``[n, n]`` symmetric, of the same examples in the same order.
    unbiased: which estimate of `repjax.measure.hsic`.

  Returns:
    Scalar, at least float32; at most 1; 0 where a representation is constant.

  Raises:
    ValueError: if shapes differ or are not square, or if the unbiased estimate has fewer than 4
      rows.

  References:
    Kornblith et al., `Similarity of Neural Network Representations Revisited
    <https://arxiv.org/abs/1905.00414>`_, 2019, eq. 4.
    Song et al., `Feature Selection via Dependence Maximization
    <https://www.jmlr.org/papers/v13/song12a.html>`_, 2012, eq. 5 (unbiased HSIC).
  """
  if jnp.shape(gram_1) != jnp.shape(gram_2):
    raise ValueError(
      f"expected Gram matrices of the same examples, got {gram_1.shape} and {gram_2.shape}"
    )
  first, second = (centre_gram(gram, unbiased=unbiased) for gram in (gram_1, gram_2))
  return _ratio(jnp.sum(first * second), jnp.sum(first**2), jnp.sum(second**2))


def linear_cka(features_1: jax.Array, features_2: jax.Array, *, unbiased: bool) -> jax.Array:
  r"""`cka` of linear kernels without a matrix of all pairs of examples.

  With centred features, :math:`k_i = \lVert x_i \rVert^2` and :math:`l_i = \lVert y_i \rVert^2`,
  HSIC is a number of n times

  .. math::
    \lVert Y^T X \rVert_F^2 \quad \text{(biased)}, \qquad
    \lVert Y^T X \rVert_F^2 - \frac{n}{n - 2} \sum_i k_i l_i
    + \frac{\sum_i k_i \sum_i l_i}{(n - 1)(n - 2)} \quad \text{(unbiased)}

  Memory holds ``[dim_1, dim_2]``, or ``[n, n]`` where that is smaller.

  Args:
    features_1: ``[n, dim_1]``.
    features_2: ``[n, dim_2]``, of the same examples in the same order.
    unbiased: which estimate of HSIC.

  Returns:
    Scalar, at least float32; at most 1; 0 where a representation is constant. The unbiased one may
    be negative.

  Raises:
    ValueError: if shapes do not fit together, or if the unbiased estimate has fewer than 4 rows.

  References:
    Kornblith et al., `Similarity of Neural Network Representations Revisited
    <https://arxiv.org/abs/1905.00414>`_, 2019, table 1; the authors' code has the debiased form.
  """
  x, y = check_pair(features_1, features_2)
  size = len(x)
  if unbiased and size < 4:
    raise ValueError(f"the unbiased estimate needs 4 examples or more, got {size}")
  x, y = x - jnp.mean(x, 0)[None], y - jnp.mean(y, 0)[None]

  def inner(x, y):
    cross = _cross_square(x, y)
    if not unbiased:
      return cross
    own_1, own_2 = jnp.sum(x * x, 1), jnp.sum(y * y, 1)
    mean = jnp.sum(own_1) * jnp.sum(own_2) / ((size - 1) * (size - 2))
    return cross - size / (size - 2) * jnp.sum(own_1 * own_2) + mean

  return _ratio(inner(x, y), inner(x, x), inner(y, y))


def check_pair(features_1: jax.Array, features_2: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Raises unless two arrays hold representations of as many examples.

  Args:
    features_1: ``[n, dim_1]``.
    features_2: ``[n, dim_2]``.

  Returns:
    Both, at least float32.

  Raises:
    ValueError: naming both shapes.
  """
  shapes = jnp.shape(features_1), jnp.shape(features_2)
  if any(len(shape) != 2 for shape in shapes) or shapes[0][0] != shapes[1][0]:
    raise ValueError(
      f"expected [n, dim] of the same n examples, got {shapes[0]} and {shapes[1]}; "
      "flatten maps and align rows first"
    )
  return at_least_float32(features_1), at_least_float32(features_2)


def _cross_square(x, y):
  """Squared Frobenius norm of the cross product, by the smaller of its two forms."""
  if len(x) ** 2 < x.shape[1] * y.shape[1]:
    return jnp.sum(
      jnp.matmul(x, x.T, precision="highest") * jnp.matmul(y, y.T, precision="highest")
    )
  return jnp.sum(jnp.matmul(x.T, y, precision="highest") ** 2)


def _ratio(cross, first, second):
  some = (first > 0) & (second > 0)
  # Two roots: the product of both may leave the range of float32.
  return jnp.where(some, cross / jnp.where(some, jnp.sqrt(first) * jnp.sqrt(second), 1), 0)
