"""Losses that keep the dimensions of an embedding in use, and apart from one another."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize
from repjax.losses.layout import batch_sum
from repjax.losses.moments import centered, products, taking_part


def barlow_twins(
  z_1: jax.Array,
  z_2: jax.Array,
  *,
  redundancy_weight: float | jax.Array = 5e-3,
  eps: float = 1e-5,
  where: jax.Array | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Makes the cross-correlation of two views the identity.

  .. math::
    \ell = \sum_i (1 - C_{ii})^2 + \lambda \sum_i \sum_{j \neq i} C_{ij}^2, \qquad
    C_{ij} = \frac{1}{n} \sum_b \hat z_{b,i} \hat z'_{b,j}

  Each dimension is standardised over the batch first, with the biased variance, as by the batch
  normalisation of the authors' code. Earlier versions of that code multiply the loss by 0.024,
  solo-learn multiplies it by 0.025, lightly by nothing, as here.

  Args:
    z_1: first view, ``[batch, dim]``.
    z_2: second view, ``[batch, dim]``, row-aligned with ``z_1``.
    redundancy_weight: :math:`\lambda`, of what dimensions have in common.
    eps: added to variances.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    The loss, a float32 scalar, >= 0; 0 where nothing takes part.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Zbontar et al., `Barlow Twins: Self-Supervised Learning via Redundancy Reduction
    <https://arxiv.org/abs/2103.03230>`_, 2021, eq. 1 and 2.
  """
  check_same_shape(2, z_1=z_1, z_2=z_2)
  (z_1, count), (z_2, _) = (_standardized(z, eps, where, axis_name) for z in (z_1, z_2))
  correlation = products(z_1, z_2, axis_name, precision=precision) / jnp.maximum(count, 1)
  own = jnp.eye(len(correlation), dtype=bool)
  off_diagonal = redundancy_weight * jnp.square(correlation)
  loss = jnp.sum(jnp.where(own, jnp.square(1 - correlation), off_diagonal))
  return jnp.where(count > 0, loss, 0)


def w_mse(
  z_1: jax.Array,
  z_2: jax.Array,
  *,
  eps: float = 1e-4,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Squared distance of two views, each whitened over the batch.

  .. math::
    \ell_i = 2 - 2 \cos(w_i, w'_i), \qquad w_i = L^{-1} (z_i - \bar z), \qquad
    L L^\top = (1 - \epsilon) \operatorname{Cov}(z) + \epsilon I

  with the unbiased covariance and its lower Cholesky factor, as in the authors' code, whose
  :math:`\epsilon` is 0: that needs more rows than dimensions. The paper whitens the batch in
  parts: deal its rows at random to ``[parts, size, dim]`` and map this function over the parts
  by `jax.vmap`. With more views, average over pairs of them.

  Args:
    z_1: first view, ``[batch, dim]``.
    z_2: second view, ``[batch, dim]``, row-aligned with ``z_1``.
    eps: how far covariances are drawn to the identity, from 0 to 1.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per pair, ``[batch]`` float32, from 0 to 4; 0 where ``where`` is false.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Ermolov et al., `Whitening for Self-Supervised Representation Learning
    <https://arxiv.org/abs/2007.06346>`_, 2020.
  """
  check_same_shape(2, z_1=z_1, z_2=z_2)
  w_1, w_2 = (l2_normalize(_whitened(z, eps, where, axis_name)) for z in (z_1, z_2))
  loss = 2 - 2 * jnp.sum(w_1 * w_2, -1)
  return loss if where is None else jnp.where(where, loss, 0)


def tico(
  z_1: jax.Array,
  z_2: jax.Array,
  covariance: jax.Array,
  *,
  decay: float | jax.Array = 0.9,
  contrast_weight: float | jax.Array = 8.0,
  where: jax.Array | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array]:
  r"""Pulls two views together and away from the directions that past batches lay in.

  .. math::
    \ell_i = 1 - \langle z_i, z'_i\rangle + \rho\, z_i^\top C z_i, \qquad
    C = \beta C_{\text{old}} + \frac{1 - \beta}{n} \sum_j z_j z_j^\top

  for vectors of unit length. Start from zeros and pass on what is returned. As in lightly, no
  gradient flows through :math:`C`. Stop those of ``z_2`` before if it comes from a teacher.

  Args:
    z_1: first view, ``[batch, dim]``; normalised inside.
    z_2: second view, ``[batch, dim]``, row-aligned with ``z_1``; normalised inside.
    covariance: what the last call returned, ``[dim, dim]``, the same on all shards.
    decay: :math:`\beta`, how much of the last covariance stays.
    contrast_weight: :math:`\rho`, of the second term.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per pair, ``[batch]`` float32, >= 0, 0 where ``where`` is false; and the new covariance,
    ``[dim, dim]`` float32.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Zhu et al., `TiCo: Transformation Invariance and Covariance Contrast for Self-Supervised Visual
    Representation Learning <https://arxiv.org/abs/2206.10698>`_, 2022.
  """
  check_same_shape(2, z_1=z_1, z_2=z_2)
  dim = z_1.shape[1]
  if covariance.shape != (dim, dim):
    raise ValueError(f"covariance is {covariance.shape}, of views with {dim} dimensions")
  (z_1, count), (z_2, _) = (taking_part(z, where, axis_name) for z in (z_1, z_2))
  z_1, z_2 = l2_normalize(z_1), l2_normalize(z_2)
  fixed = lax.stop_gradient(z_1)
  new = products(fixed, fixed, axis_name, precision=precision) / jnp.maximum(count, 1)
  past = at_least_float32(lax.stop_gradient(covariance))
  covariance = decay * past + (1 - decay) * new
  contrast = jnp.sum(jnp.matmul(z_1, covariance, precision=precision) * z_1, -1)
  loss = 1 - jnp.sum(z_1 * z_2, -1) + contrast_weight * contrast
  return loss if where is None else jnp.where(where, loss, 0), covariance


def _standardized(z, eps, where, axis_name) -> tuple[jax.Array, jax.Array]:
  """Rows of mean 0 and variance 1 over the batch, and how many take part."""
  z, count = centered(z, where, axis_name)
  variance = batch_sum(jnp.sum(jnp.square(z), 0), axis_name) / jnp.maximum(count, 1)
  return z * lax.rsqrt(variance + eps)[None], count


def _whitened(z, eps, where, axis_name) -> jax.Array:
  z, count = centered(z, where, axis_name)
  covariance = products(z, z, axis_name) / jnp.maximum(count - 1, 1)
  # The least that keeps a factor in reach where rounding leaves eigenvalues below zero.
  least = jnp.finfo(z.dtype).eps * jnp.trace(covariance)
  identity = jnp.eye(len(covariance), dtype=z.dtype)
  factor = jnp.linalg.cholesky((1 - eps) * covariance + (eps + least) * identity)
  return lax.linalg.triangular_solve(factor, z.T, left_side=True, lower=True).T
