"""Gram matrices of a representation, and the dependence of two of them (HSIC)."""

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32, check_same_shape


def linear_gram(features: jax.Array) -> jax.Array:
  r"""Inner products of all pairs of examples, after the mean is taken off.

  Centring changes neither estimate of `hsic`, and keeps float32 exact where the mean is large.

  Args:
    features: ``[n, dim]``.

  Returns:
    ``[n, n]``, at least float32.

  Raises:
    ValueError: if ``features`` is not rank 2.
  """
  x = _centred(features)
  return jnp.matmul(x, x.T, precision="highest")


def squared_distances(x: jax.Array, y: jax.Array) -> jax.Array:
  """Squared Euclidean distances of all pairs, by products.

  Args:
    x: ``[n, dim]``.
    y: ``[m, dim]``, whose mean is taken off both first, so that subtracting squares loses little.

  Returns:
    ``[n, m]`` >= 0, at least float32; where a point meets itself, 0 up to rounding.
  """
  x, y = at_least_float32(x), at_least_float32(y)
  centre = jnp.mean(y, 0)[None]
  x, y = x - centre, y - centre
  square = jnp.sum(x * x, 1)[:, None] + jnp.sum(y * y, 1)[None]
  return jnp.maximum(square - 2 * jnp.matmul(x, y.T, precision="highest"), 0)


def rbf_gram(features: jax.Array, *, bandwidth: float | jax.Array = 1.0) -> jax.Array:
  r"""Gaussian kernel whose width is a share of the median distance.

  .. math::
    K_{ij} = \exp\Big(-\frac{\lVert x_i - x_j \rVert^2}{2 \sigma^2}\Big), \qquad
    \sigma = \mathrm{bandwidth} \cdot \mathrm{median}_{i < j} \lVert x_i - x_j \rVert

  so that it does not depend on the scale of features. The median is over pairs of different
  examples; the code of Kornblith et al. counts the zeros of the diagonal among them.

  Args:
    features: ``[n, dim]``, n >= 2.
    bandwidth: the share, > 0.

  Returns:
    ``[n, n]`` in [0, 1], at least float32; all 1 where all examples are equal.

  Raises:
    ValueError: if ``features`` is not rank 2 or has no two rows.

  References:
    Kornblith et al., `Similarity of Neural Network Representations Revisited
    <https://arxiv.org/abs/1905.00414>`_, 2019, section 3 (bandwidth by the median distance).
  """
  check_same_shape(2, features=features)
  x = features
  if len(x) < 2:
    raise ValueError(f"features of shape {x.shape} hold no pair; give 2 rows or more")
  square = squared_distances(x, x)
  square = jnp.where(jnp.eye(len(x), dtype=bool), 0, square)
  # The square of a median of distances is taken of the distances: with an even number of pairs
  # the median lies between two.
  median = jnp.median(jnp.sqrt(square[jnp.triu_indices(len(x), 1)]))
  width = 2 * jnp.asarray(bandwidth, square.dtype) ** 2 * median**2
  return jnp.exp(-square / jnp.where(width > 0, width, 1))


def centre_gram(gram: jax.Array, *, unbiased: bool = False) -> jax.Array:
  r"""Takes row and column means off a Gram matrix.

  Biased, :math:`H K H` with :math:`H = I - 1 1^T / n`. Unbiased, U-centring: zero on the diagonal,
  and elsewhere

  .. math::
    K_{ij} - \frac{1}{n - 2} \sum_{l \neq i} K_{il} - \frac{1}{n - 2} \sum_{l \neq j} K_{lj}
    + \frac{1}{(n - 1)(n - 2)} \sum_{k \neq l} K_{kl}

  Inner products of either with a Gram matrix of the same kind are `hsic` times a number of n.

  Args:
    gram: ``[n, n]`` symmetric.
    unbiased: which.

  Returns:
    ``[n, n]``, at least float32; its rows sum to 0.

  Raises:
    ValueError: if ``gram`` is not square, or if U-centring has fewer than 4 rows.

  References:
    Székely and Rizzo, `Partial distance correlation with methods for dissimilarities
    <https://arxiv.org/abs/1310.2926>`_, 2014, definition 2 (U-centring).
  """
  gram = at_least_float32(gram)
  if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
    raise ValueError(f"expected a Gram matrix [n, n], got {gram.shape}")
  size = len(gram)
  if not unbiased:
    return gram - jnp.mean(gram, 0)[None] - jnp.mean(gram, 1)[:, None] + jnp.mean(gram)
  if size < 4:
    raise ValueError(f"the unbiased estimate needs 4 examples or more, got {size}")
  own = jnp.eye(size, dtype=bool)
  gram = jnp.where(own, 0, gram)
  row, column = jnp.sum(gram, 1) / (size - 2), jnp.sum(gram, 0) / (size - 2)
  # Of the whole and not of the rows' rounding: what is left then sums to 0 as closely as it can.
  whole = jnp.sum(gram) / ((size - 1) * (size - 2))
  return jnp.where(own, 0, gram - row[:, None] - column[None] + whole)


def hsic(gram_1: jax.Array, gram_2: jax.Array, *, unbiased: bool) -> jax.Array:
  r"""Hilbert-Schmidt independence criterion of two kernels on the same examples.

  Biased, :math:`\mathrm{tr}(K H L H) / (n - 1)^2`. Unbiased, with :math:`\tilde K` and
  :math:`\tilde L` zero on the diagonal,

  .. math::
    \frac{1}{n (n - 3)} \Big(\mathrm{tr}(\tilde K \tilde L)
    + \frac{1^T \tilde K 1 \, 1^T \tilde L 1}{(n - 1)(n - 2)}
    - \frac{2}{n - 2} 1^T \tilde K \tilde L 1 \Big)

  which is the inner product of the U-centred matrices over :math:`n (n - 3)`, and is computed so.
  It may be negative and is not clipped. Memory holds ``[n, n]``.

  Args:
    gram_1: ``[n, n]`` symmetric.
    gram_2: ``[n, n]`` symmetric, of the same examples in the same order.
    unbiased: which estimate; the biased one of independent features falls as 1 / n only.

  Returns:
    Scalar, at least float32.

  Raises:
    ValueError: if shapes differ or are not square, or if the unbiased estimate has fewer than 4
      rows.

  References:
    Gretton et al., `Measuring Statistical Dependence with Hilbert-Schmidt Norms
    <https://www.gatsby.ucl.ac.uk/~gretton/papers/GreBouSmoSch05.pdf>`_, 2005, eq. 9 (biased).
    Song et al., `Feature Selection via Dependence Maximization
    <https://www.jmlr.org/papers/v13/song12a.html>`_, 2012, eq. 5 (unbiased).
  """
  check_same_shape(2, gram_1=gram_1, gram_2=gram_2)
  first, second = (centre_gram(gram, unbiased=unbiased) for gram in (gram_1, gram_2))
  size = len(first)
  return jnp.sum(first * second) / (size * (size - 3) if unbiased else (size - 1) ** 2)


def _centred(features):
  check_same_shape(2, features=features)
  x = at_least_float32(features)
  return x - jnp.mean(x, 0)[None]
