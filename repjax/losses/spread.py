"""Losses that spread a batch out, and pull all views of an example together."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import l2_normalize
from repjax.losses.layout import batch_mean, batch_sum, gather, kept, row_index
from repjax.losses.moments import products, taking_part


def koleo(
  z: jax.Array,
  *,
  eps: float = 1e-8,
  where: jax.Array | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Kozachenko-Leonenko estimate of entropy: pushes each embedding from its nearest neighbour.

  .. math::
    \ell_i = -\log \Bigl(\min_{j \neq i} \lVert \bar z_i - \bar z_j \rVert + \epsilon\Bigr)

  for vectors scaled to unit length. Where two coincide no direction leads apart, and the gradient
  is 0; lightly and DINOv2 add :math:`\epsilon` to every coordinate of the difference as well, so
  that there it is large. They look for neighbours on each device alone, DINOv3 in groups of
  devices, this function in the whole batch. DINOv2 gives it a weight of 0.1.

  Args:
    z: one view, ``[batch, dim]``; normalised inside.
    eps: added to distances.
    where: ``[batch]`` bool, rows that take part; all if absent.
    precision: of the products by which neighbours are found.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per row, ``[batch]`` float32, of any sign; 0 where ``where`` is false or no other row
    takes part.

  Raises:
    ValueError: if ``z`` is not rank 2.

  References:
    Sablayrolles et al., `Spreading vectors for similarity search
    <https://arxiv.org/abs/1806.03198>`_, 2018.
    Oquab et al., `DINOv2: Learning Robust Visual Features without Supervision
    <https://arxiv.org/abs/2304.07193>`_, 2023, section 4.
  """
  if z.ndim != 2:
    raise ValueError(f"expected [batch, dim], got {z.shape}")
  z = l2_normalize(taking_part(z, where, None)[0])
  index = row_index(len(z), axis_name)
  keep = kept(where, len(z))
  others, other_index, other_keep = gather((z, index, keep), axis_name)
  apart = (index[:, None] != other_index[None, :]) & keep[:, None] & other_keep[None, :]
  fixed, other_fixed = lax.stop_gradient((z, others))
  cosines = jnp.matmul(fixed, other_fixed.T, precision=precision)
  nearest = others[jnp.argmax(jnp.where(apart, cosines, -jnp.inf), 1)]
  squared = jnp.sum(jnp.square(z - nearest), -1)
  apart_from_nearest = squared > 0
  distance = jnp.sqrt(jnp.where(apart_from_nearest, squared, 1))
  loss = -jnp.log(jnp.where(apart_from_nearest, distance, 0) + eps)
  return jnp.where(jnp.any(apart, 1), loss, 0)


def mmcr(
  z: jax.Array,
  *,
  local_weight: float = 0.0,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Maximum manifold capacity: makes the centroids of examples fill all dimensions.

  .. math::
    \ell = -\lVert C \rVert_* + \frac{\lambda}{n} \sum_i \lVert Z_i \rVert_*, \qquad
    C_i = \frac{1}{k} \sum_v Z_{iv}

  with the nuclear norm, the sum of singular values, and rows of unit length. Views that agree have
  long centroids, so that the first term alone, which is the paper's objective, does.
  lightly's :math:`\lambda` is 0.005 and it leaves normalising to the caller. Singular values that
  are 0 up to rounding carry no gradient.

  Args:
    z: all views of each example, ``[batch, views, dim]``; normalised inside. With a momentum
      encoder its outputs are further views.
    local_weight: :math:`\lambda`, of the extent of each example's own views.
    where: ``[batch]`` bool, examples that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    The loss, a float32 scalar; that of n examples in d dimensions is at least
    :math:`-\sqrt{n \min(n, d)}` without the second term. 0 where nothing takes part.

  Raises:
    ValueError: if ``z`` is not rank 3.

  References:
    Yerxa et al., `Learning Efficient Coding of Natural Images with Maximum Manifold Capacity
    Representations <https://arxiv.org/abs/2303.03307>`_, 2023.
  """
  _check_views(z)
  z = l2_normalize(taking_part(z, where, None)[0])
  loss = -_nuclear_norm(gather(jnp.mean(z, 1), axis_name))
  if local_weight:
    loss += local_weight * batch_mean(_nuclear_norm(z), axis_name, where=where)
  return loss


def frossl(
  z: jax.Array,
  *,
  invariance_weight: float | jax.Array = 1.0,
  where: jax.Array | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Evens out the spectrum of each view, by the Frobenius norm of its covariance.

  .. math::
    \ell = \sum_v \log \Bigl\lVert \frac{\hat Z_v^\top \hat Z_v}
      {\operatorname{tr} \hat Z_v^\top \hat Z_v} \Bigr\rVert_F^2
      + \lambda \frac{k}{n} \sum_v \lVert \hat Z_v - \bar Z \rVert_F^2

  for k views whose columns, dimensions over the batch, have unit length, and their mean
  :math:`\bar Z`. Lengths and weights are those of lightly and solo-learn; the authors' repository
  scales rows to length :math:`\sqrt d` and averages the second term over entries.

  Args:
    z: two or more views of each example, ``[batch, views, dim]``; normalised inside.
    invariance_weight: :math:`\lambda`, of the distance of views from their mean.
    where: ``[batch]`` bool, examples that take part; all if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    The loss, a float32 scalar, at least ``-views * log(dim)``; 0 where nothing takes part.

  Raises:
    ValueError: if ``z`` is not rank 3.

  References:
    Skean et al., `FroSSL: Frobenius Norm Minimization for Efficient Multiview Self-Supervised
    Learning <https://arxiv.org/abs/2310.02903>`_, 2023.
  """
  _check_views(z)
  z, count = taking_part(z, where, axis_name)
  squares = batch_sum(jnp.sum(jnp.square(z), 0), axis_name)
  z *= lax.rsqrt(jnp.maximum(squares, 1e-12))[None]
  covariance = products(z, z, axis_name, precision=precision)
  trace = jnp.trace(covariance, axis1=-2, axis2=-1)
  norm = jnp.sum(jnp.square(covariance), (-2, -1))
  some = norm > 0
  norm, trace = jnp.where(some, norm, 1), jnp.where(some, trace, 1)
  spread = jnp.sum(jnp.log(norm) - 2 * jnp.log(trace))
  difference = jnp.square(z - jnp.mean(z, 1, keepdims=True))
  apart = batch_sum(jnp.sum(difference), axis_name) / jnp.maximum(count, 1)
  return spread + invariance_weight * z.shape[1] * apart


def emp_ssl(
  z: jax.Array,
  *,
  invariance_weight: float | jax.Array = 200.0,
  eps: float = 0.2,
  where: jax.Array | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Raises the coding rate of each view while it pulls many views to their mean.

  .. math::
    \ell = -\frac{1}{k} \sum_v \Bigl(R(Z_v)
      + \frac{\lambda}{n} \sum_i \cos(z_{iv}, \bar z_i)\Bigr), \qquad
    R(Z) = \frac12 \log \det \Bigl(I + \frac{d}{n \epsilon} Z^\top Z\Bigr)

  for rows of unit length and their mean :math:`\bar z_i` over the views. We follow the authors'
  code; the paper squares :math:`\epsilon`. lightly 1.6.0 has the sign of R wrong, so that it
  lowers the coding rate.

  Args:
    z: views of each example, 100 in the authors' code, ``[batch, views, dim]``; normalised
      inside, as their projector does.
    invariance_weight: :math:`\lambda`, of the cosines.
    eps: distortion up to which rows are coded, > 0.
    where: ``[batch]`` bool, examples that take part; all if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    The loss, a float32 scalar; 0 where nothing takes part.

  Raises:
    ValueError: if ``z`` is not rank 3.

  References:
    Tong et al., `EMP-SSL: Towards Self-Supervised Learning in One Training Epoch
    <https://arxiv.org/abs/2304.03977>`_, 2023.
  """
  _check_views(z)
  z, count = taking_part(z, where, axis_name)
  z, dim = l2_normalize(z), z.shape[-1]
  scale = dim / (jnp.maximum(count, 1) * eps)
  identity = jnp.broadcast_to(jnp.eye(dim, dtype=z.dtype), (z.shape[1], dim, dim))
  spread = identity + scale * products(z, z, axis_name, precision=precision)
  diagonal = jnp.diagonal(jnp.linalg.cholesky(spread), axis1=-2, axis2=-1)
  rate = jnp.mean(jnp.sum(jnp.log(diagonal), -1))
  centre = l2_normalize(jnp.mean(z, 1, keepdims=True))
  agreement = batch_mean(jnp.mean(jnp.sum(z * centre, -1), 1), axis_name, where=where)
  return -rate - invariance_weight * agreement


def _check_views(z) -> None:
  if z.ndim != 3:
    raise ValueError(f"expected [batch, views, dim], got {z.shape}; stack the views on axis 1")


def _nuclear_norm(x) -> jax.Array:
  """Sum of the singular values of ``[..., rows, columns]`` matrices that are not 0."""
  values = jnp.linalg.svd(x, compute_uv=False)
  least = max(x.shape[-2:]) * jnp.finfo(x.dtype).eps * values[..., :1]
  return jnp.sum(jnp.where(values > least, values, 0), -1)
