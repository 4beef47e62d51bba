"""How evenly features lie on the sphere, and how near views of one example."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize


def alignment(
  features_1: jax.Array, features_2: jax.Array, *, alpha: float = 2.0, normalize: bool = True
) -> jax.Array:
  r"""Mean distance of the two views of an example, to a power.

  .. math:: \frac1n \sum_i \lVert z_{1i} - z_{2i} \rVert^\alpha

  Args:
    features_1: ``[n, dim]``, of one view.
    features_2: ``[n, dim]``, of the other, row-aligned.
    alpha: the power, > 0; 2 in the paper.
    normalize: scale all vectors to unit length.

  Returns:
    Scalar float32, >= 0 and at most 2 to the power ``alpha`` for unit vectors.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Wang and Isola, `Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere <https://arxiv.org/abs/2005.10242>`_, 2020, section 4.
  """
  check_same_shape(2, features_1=features_1, features_2=features_2)
  z_1, z_2 = at_least_float32(features_1), at_least_float32(features_2)
  z_1, z_2 = (l2_normalize(z_1), l2_normalize(z_2)) if normalize else (z_1, z_2)
  return jnp.mean(jnp.sum(jnp.square(z_1 - z_2), -1) ** (alpha / 2))


def uniformity(
  features: jax.Array, *, t: float = 2.0, normalize: bool = True, rows: int = 512
) -> jax.Array:
  r"""Logarithm of the mean Gaussian potential of two different examples.

  .. math:: \log \frac{1}{n (n - 1)} \sum_{i \neq j} \exp(-t \lVert z_i - z_j \rVert^2)

  The lower, the more evenly features are spread. It is the value of `repjax.losses.uniformity`
  without its gradient and its devices, for whole data sets.

  Args:
    features: ``[n, dim]``, n >= 2.
    t: inverse width of the potential, > 0; 2 in the paper.
    normalize: scale all vectors to unit length.
    rows: how many are compared with all others at a time; memory holds ``[rows, n]``.

  Returns:
    Scalar float32, <= 0 and at least -4 t for unit vectors.

  Raises:
    ValueError: if ``features`` is not rank 2 or has no two rows.

  References:
    Wang and Isola, `Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere <https://arxiv.org/abs/2005.10242>`_, 2020, section 4.
  """
  check_same_shape(2, features=features)
  size = len(features)
  if size < 2:
    raise ValueError(f"features of shape {features.shape} hold no pair; give 2 rows or more")
  z = at_least_float32(features)
  z = l2_normalize(z) if normalize else z
  square = jnp.sum(z * z, -1)

  def row_sum(row):
    i, x, length = row
    distance = length + square - 2 * jnp.matmul(z, x, precision="highest")
    potential = -t * jnp.maximum(distance, 0)
    return jax.nn.logsumexp(jnp.where(jnp.arange(size) == i, -jnp.inf, potential))

  sums = lax.map(row_sum, (jnp.arange(size), z, square), batch_size=min(rows, size))
  return jax.nn.logsumexp(sums) - jnp.log(size * (size - 1.0)).astype(z.dtype)
