"""Divergence and information straight from Gram matrices, without a density in between.

All take Gram matrices, ``gram[i, j] = k(x_i, x_j)``, hold ``[n, n]`` numbers and answer in nats;
many papers' code answers in bits.
"""

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32, check_same_shape
from repjax.measure.kernels import squared_distances


def gaussian_gram(x: jax.Array, y: jax.Array, *, width: float | jax.Array) -> jax.Array:
  r"""Gaussian kernel of all pairs.

  .. math:: k(x, y) = \exp(-\lVert x - y \rVert^2 / 2 \sigma^2)

  Args:
    x: ``[n, dim]``.
    y: ``[m, dim]``.
    width: sigma, > 0.

  Returns:
    ``[n, m]``, in (0, 1].

  Raises:
    ValueError: if either is not rank 2, or dimensions differ.
  """
  if jnp.ndim(x) != 2 or jnp.ndim(y) != 2 or jnp.shape(x)[1] != jnp.shape(y)[1]:
    raise ValueError(f"expected x [n, dim] and y [m, dim], got {jnp.shape(x)} and {jnp.shape(y)}")
  return jnp.exp(-squared_distances(x, y) / (2 * width**2))


def cauchy_schwarz_divergence(
  gram_1: jax.Array, gram_2: jax.Array, gram_12: jax.Array
) -> jax.Array:
  r"""How far two samples' kernel densities are from being proportional.

  .. math::
    D(p, q) = \log \int p^2 + \log \int q^2 - 2 \log \int p q
    \approx \log \overline{K_1} + \log \overline{K_2} - 2 \log \overline{K_{12}}

  where a bar is the mean of a matrix, own pairs included. With a Gaussian kernel of width
  :math:`\sigma` this is exactly the divergence of the two kernel density estimates of width
  :math:`\sigma / \sqrt 2`. Symmetric in p and q.

  Args:
    gram_1: ``[n, n]``, within the first sample.
    gram_2: ``[m, m]``, within the second.
    gram_12: ``[n, m]``, between them.

  Returns:
    Scalar, >= 0 for a positive definite kernel; 0 for equal samples.

  Raises:
    ValueError: if shapes do not fit.

  References:
    Jenssen et al., `The Cauchy-Schwarz divergence and Parzen windowing: Connections to graph theory
    and Mercer kernels <https://doi.org/10.1016/j.jfranklin.2006.03.018>`_, 2006.
    Yu et al., `Cauchy-Schwarz Divergence Information Bottleneck for Regression
    <https://arxiv.org/abs/2404.17951>`_, 2024, section 2.
  """
  shapes = [jnp.shape(gram) for gram in (gram_1, gram_2, gram_12)]
  if [(s[:1] * 2) for s in shapes[:2]] != shapes[:2] or shapes[2] != shapes[0][:1] + shapes[1][:1]:
    raise ValueError(f"expected gram_1 [n, n], gram_2 [m, m] and gram_12 [n, m], got {shapes}")
  means = [jnp.mean(at_least_float32(gram)) for gram in (gram_1, gram_2, gram_12)]
  return jnp.log(means[0]) + jnp.log(means[1]) - 2 * jnp.log(means[2])


def conditional_cauchy_schwarz_divergence(
  gram_x: jax.Array, gram_1: jax.Array, gram_2: jax.Array, gram_12: jax.Array
) -> jax.Array:
  r"""How two answers to the same questions differ: divergence of p(y|x) from q(y|x).

  .. math::
    \log \sum_j \frac{\sum_i K_{ji} L^{1}_{ji}}{(\sum_i K_{ji})^2}
    + \log \sum_j \frac{\sum_i K_{ji} L^{2}_{ji}}{(\sum_i K_{ji})^2}
    - 2 \log \sum_j \frac{\sum_i K_{ji} L^{12}_{ji}}{(\sum_i K_{ji})^2}

  It is of :math:`\int p(y|x)^2`, in which :math:`p(x)` is divided out twice, as its kernel density
  twice here. The authors' code divides by :math:`\sum_i K_{ji}^2` instead, which is no density;
  this follows the derivation.

  Args:
    gram_x: ``[n, n]`` of what is conditioned on.
    gram_1: ``[n, n]`` of the one answer.
    gram_2: ``[n, n]`` of the other, row-aligned.
    gram_12: ``[n, n]``, from the one answer to the other.

  Returns:
    Scalar; 0 for equal answers.

  Raises:
    ValueError: if shapes differ.

  References:
    Yu et al., `The Conditional Cauchy-Schwarz Divergence with Applications to Time-Series Data and
    Sequential Decision Making <https://arxiv.org/abs/2301.08970>`_, 2023.
    Yu et al., `Cauchy-Schwarz Divergence Information Bottleneck for Regression
    <https://arxiv.org/abs/2404.17951>`_, 2024, eq. 18, and `code
    <https://github.com/SJYuCNEL/Cauchy-Schwarz-Information-Bottleneck>`_.
  """
  check_same_shape(2, gram_x=gram_x, gram_1=gram_1, gram_2=gram_2, gram_12=gram_12)
  k, *answers = map(at_least_float32, (gram_x, gram_1, gram_2, gram_12))
  density = jnp.sum(k, 1)
  terms = [jnp.log(jnp.sum(jnp.sum(k * answer, 1) / density**2)) for answer in answers]
  return terms[0] + terms[1] - 2 * terms[2]


def cauchy_schwarz_information(
  gram_x: jax.Array, gram_y: jax.Array, *, normalized: bool = False
) -> jax.Array:
  r"""Cauchy-Schwarz divergence of the joint distribution from the product of the margins.

  .. math::
    \log \frac{1}{n^2} \sum_{ij} K_{ij} L_{ij}
    + \log \frac{1}{n^4} \sum_{ij} K_{ij} \sum_{ij} L_{ij}
    - 2 \log \frac{1}{n^3} \sum_{ijk} K_{ij} L_{ik}

  The three sums are those of biased HSIC, which adds what this takes the logarithms of. It depends
  on the kernels' widths, and grows with them to no limit of its own as they shrink.

  Args:
    gram_x: ``[n, n]``, symmetric.
    gram_y: ``[n, n]``, symmetric, row-aligned.
    normalized: whether to divide by the square root of what each side has with itself, as the
      authors' code does.

  Returns:
    Scalar, >= 0 for positive definite kernels; 0 where a Gram matrix is constant.

  Raises:
    ValueError: if shapes differ.

  References:
    Yu et al., `Cauchy-Schwarz Divergence Information Bottleneck for Regression
    <https://arxiv.org/abs/2404.17951>`_, 2024, section 3.
  """
  check_same_shape(2, gram_x=gram_x, gram_y=gram_y)
  k, l = at_least_float32(gram_x), at_least_float32(gram_y)  # noqa: E741

  def between(k, l):  # noqa: E741
    joint, cross = jnp.mean(k * l), jnp.mean(jnp.mean(k, 1) * jnp.mean(l, 1))
    return jnp.log(joint) + jnp.log(jnp.mean(k)) + jnp.log(jnp.mean(l)) - 2 * jnp.log(cross)

  value = between(k, l)
  return value / jnp.sqrt(between(k, k) * between(l, l)) if normalized else value


def matrix_entropy(gram: jax.Array, *, alpha: float = 1.01) -> jax.Array:
  r"""Rényi's entropy of the eigenvalues of a Gram matrix of trace 1.

  .. math::
    S_\alpha(A) = \frac{1}{1 - \alpha} \log \sum_i \lambda_i(A)^\alpha, \qquad
    A_{ij} = \frac{1}{n} \frac{K_{ij}}{\sqrt{K_{ii} K_{jj}}}

  and for alpha 1 its limit, von Neumann's entropy. Not an estimate of Shannon's: it depends on the
  kernel, and no sample of n has more than :math:`\log n`.

  Args:
    gram: ``[n, n]``, positive semidefinite, with a positive diagonal.
    alpha: order, > 0.

  Returns:
    Scalar in [0, log n].

  Raises:
    ValueError: if ``gram`` is not square or alpha is not positive.

  References:
    Sanchez Giraldo et al., `Measures of Entropy from Data Using Infinitely Divisible Kernels
    <https://arxiv.org/abs/1211.2459>`_, 2015, section III; in bits there.
  """
  return _entropy(_unit_trace(gram), alpha)


def matrix_information(gram_x: jax.Array, gram_y: jax.Array, *, alpha: float = 1.01) -> jax.Array:
  r"""What the entropies of two Gram matrices and of their product have in common.

  .. math:: S_\alpha(A) + S_\alpha(B) - S_\alpha\Big(\frac{A \circ B}{\mathrm{tr}(A \circ B)}\Big)

  Args:
    gram_x: ``[n, n]``, positive semidefinite, with a positive diagonal.
    gram_y: ``[n, n]``, likewise, row-aligned.
    alpha: order, > 0.

  Returns:
    Scalar; 0 where a Gram matrix is constant.

  Raises:
    ValueError: if shapes differ or alpha is not positive.

  References:
    Sanchez Giraldo et al., `Measures of Entropy from Data Using Infinitely Divisible Kernels
    <https://arxiv.org/abs/1211.2459>`_, 2015, section III.
    Yu et al., `Multivariate Extension of Matrix-based Renyi's alpha-order Entropy Functional
    <https://arxiv.org/abs/1808.07912>`_, 2019.
  """
  check_same_shape(2, gram_x=gram_x, gram_y=gram_y)
  a, b = _unit_trace(gram_x), _unit_trace(gram_y)
  # Both diagonals are 1 / n, so that the trace of the product is 1 / n.
  return _entropy(a, alpha) + _entropy(b, alpha) - _entropy(a * b * len(a), alpha)


def _unit_trace(gram):
  shape = jnp.shape(gram)
  if len(shape) != 2 or shape[0] != shape[1]:
    raise ValueError(f"expected a Gram matrix [n, n], got {shape}")
  gram = at_least_float32(gram)
  scale = jax.lax.rsqrt(jnp.diagonal(gram))
  return gram * scale[:, None] * scale[None, :] / len(gram)


def _entropy(a, alpha):
  if alpha <= 0:
    raise ValueError(f"alpha={alpha} is no order of an entropy; take one above 0")
  # Rounding leaves eigenvalues a little below 0, where there are none.
  values = jnp.maximum(jnp.linalg.eigvalsh(a), 0)
  if alpha == 1:
    return -jnp.sum(jax.scipy.special.xlogy(values, values))
  return jnp.log(jnp.sum(values**alpha)) / (1 - alpha)
