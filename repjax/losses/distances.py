"""Distances of every row to every column, smaller for what is closer, as losses over pairs take.

All multiply matrices where they can. Where the rows of both sides are each other's partners,
`row_aligned` gives their distances alone. Faster products than float32's are chosen by
``functools.partial(euclidean, precision="BF16_BF16_F32")``. A distance of one's own is a function
of its arguments alone: in tiles, a traced array that it closed over would get no gradient.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize, safe_sqrt

Distance = Callable[[jax.Array, jax.Array], jax.Array]


def cosine_similarity(
  rows: jax.Array, columns: jax.Array, *, precision: lax.PrecisionLike = "highest"
) -> jax.Array:
  r"""Cosines of angles.

  .. math:: \cos \theta_{ij} = \frac{\langle x_i, y_j\rangle}{\lVert x_i\rVert \lVert y_j\rVert}

  Args:
    rows: ``[batch, dim]``.
    columns: ``[total, dim]``.
    precision: of the products; ``"highest"`` is float32.

  Returns:
    ``[batch, total]`` float32 from -1 to 1, up to rounding; 0 for zero vectors. Larger is closer.

  References:
    Musgrave et al., `PyTorch Metric Learning <https://arxiv.org/abs/2008.09164>`_, 2020.
  """
  rows, columns = (l2_normalize(at_least_float32(x)) for x in (rows, columns))
  return jnp.matmul(rows, columns.T, precision=precision)


def cosine_distance(
  rows: jax.Array, columns: jax.Array, *, precision: lax.PrecisionLike = "highest"
) -> jax.Array:
  r"""One minus the cosine; half the squared distance of the unit vectors.

  .. math:: d_{ij} = 1 - \cos \theta_{ij}

  Args:
    rows: ``[batch, dim]``.
    columns: ``[total, dim]``.
    precision: of the products; ``"highest"`` is float32.

  Returns:
    ``[batch, total]`` float32 from 0 to 2, up to rounding.

  References:
    Musgrave et al., `PyTorch Metric Learning <https://arxiv.org/abs/2008.09164>`_, 2020.
  """
  return 1 - cosine_similarity(rows, columns, precision=precision)


def squared_euclidean(
  rows: jax.Array, columns: jax.Array, *, precision: lax.PrecisionLike = "highest"
) -> jax.Array:
  r"""Squared Euclidean distances, by one matrix product.

  .. math:: d_{ij} = \lVert x_i\rVert^2 + \lVert y_j\rVert^2 - 2 \langle x_i, y_j\rangle

  What is left of a difference below the rounding of its terms counts as 0, without gradient.

  Args:
    rows: ``[batch, dim]``.
    columns: ``[total, dim]``.
    precision: of the products; ``"highest"`` is float32.

  Returns:
    ``[batch, total]`` float32, >= 0.

  References:
    Schroff et al., `FaceNet: A Unified Embedding for Face Recognition and Clustering
    <https://arxiv.org/abs/1503.03832>`_, 2015, section 3.
  """
  rows, columns = at_least_float32(rows), at_least_float32(columns)
  lengths = jnp.sum(rows * rows, -1)[:, None] + jnp.sum(columns * columns, -1)[None, :]
  squares = lengths - 2 * jnp.matmul(rows, columns.T, precision=precision)
  rounding = 8 * jnp.finfo(squares.dtype).eps * lengths
  return jnp.where(squares > rounding, squares, 0)


def euclidean(
  rows: jax.Array, columns: jax.Array, *, precision: lax.PrecisionLike = "highest"
) -> jax.Array:
  r"""Euclidean distances; the gradient is 0 where the distance is.

  .. math:: d_{ij} = \lVert x_i - y_j\rVert_2

  Args:
    rows: ``[batch, dim]``.
    columns: ``[total, dim]``.
    precision: of the products; ``"highest"`` is float32.

  Returns:
    ``[batch, total]`` float32, >= 0.

  References:
    Hermans et al., `In Defense of the Triplet Loss for Person Re-Identification
    <https://arxiv.org/abs/1703.07737>`_, 2017, which finds it to train better than its square.
  """
  return _root(squared_euclidean(rows, columns, precision=precision), 2)


def lp_distance(rows: jax.Array, columns: jax.Array, *, p: float = 1) -> jax.Array:
  r"""Distances by the p-norm; the gradient is 0 where the distance is.

  .. math:: d_{ij} = \Bigl(\sum_k \lvert x_{ik} - y_{jk}\rvert^p\Bigr)^{1 / p}

  One coordinate after the other, in the memory of a single matrix also for the gradient. Use
  `euclidean` for ``p=2``: it is a matrix product.

  Args:
    rows: ``[batch, dim]``.
    columns: ``[total, dim]``.
    p: of the norm, >= 1.

  Returns:
    ``[batch, total]`` float32, >= 0.

  Raises:
    ValueError: if ``p`` is below 1, where this is no distance.

  References:
    Musgrave et al., `PyTorch Metric Learning <https://arxiv.org/abs/2008.09164>`_, 2020.
  """
  if p < 1:
    raise ValueError(f"p={p} is no norm; give p >= 1")
  rows, columns = at_least_float32(rows), at_least_float32(columns)

  @jax.checkpoint
  def power(x, y):
    difference = x[:, None] - y[None, :]
    # Unlike that of jnp.abs, the gradient of a product with the sign is 0 at 0.
    return (difference * jnp.sign(difference)) ** p

  add = lambda total, pair: (total + power(*pair), None)
  first, rest = power(rows[:, 0], columns[:, 0]), (rows.T[1:], columns.T[1:])
  return _root(lax.scan(add, first, rest)[0], p)


def snr_distance(
  rows: jax.Array, columns: jax.Array, *, precision: lax.PrecisionLike = "highest"
) -> jax.Array:
  r"""Noise to signal: the variance of the difference, relative to the anchor's own.

  .. math:: d_{ij} = \frac{\operatorname{var}(x_i - y_j)}{\operatorname{var}(x_i)}

  Variances are over the coordinates of a vector. Rows are the anchors: it is not symmetric.

  Args:
    rows: anchors, ``[batch, dim]``.
    columns: ``[total, dim]``.
    precision: of the products; ``"highest"`` is float32.

  Returns:
    ``[batch, total]`` float32, >= 0; 0 where an anchor has no variance.

  References:
    Yuan et al., `Signal-to-Noise Ratio: A Robust Distance Metric for Deep Metric Learning
    <https://arxiv.org/abs/1904.02616>`_, 2019.
  """
  rows, columns = at_least_float32(rows), at_least_float32(columns)
  rows, columns = (x - jnp.mean(x, -1, keepdims=True) for x in (rows, columns))
  noise = squared_euclidean(rows, columns, precision=precision)
  signal = jnp.sum(rows * rows, -1)[:, None]
  some = signal > 0
  return jnp.where(some, noise / jnp.where(some, signal, 1), 0)


def row_aligned(distance: Distance, rows: jax.Array, columns: jax.Array) -> jax.Array:
  """Distances of rows to the columns at the same place.

  Args:
    distance: of every row to every column.
    rows: ``[batch, dim]``.
    columns: ``[batch, dim]``.

  Returns:
    ``[batch]`` float32.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Musgrave et al., `PyTorch Metric Learning <https://arxiv.org/abs/2008.09164>`_, 2020.
  """
  check_same_shape(2, rows=rows, columns=columns)
  return jax.vmap(lambda x, y: distance(x[None], y[None])[0, 0])(rows, columns)


def _root(x: jax.Array, p: float) -> jax.Array:
  """The p-th root, without gradient at 0."""
  if p == 1:
    return x
  if p == 2:
    return safe_sqrt(x)
  some = x > 0
  return jnp.where(some, jnp.where(some, x, 1) ** (1 / p), 0)
