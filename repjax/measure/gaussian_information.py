"""Mutual information of variables that are normal together: what their covariance tells."""

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma

from repjax.arrays import at_least_float32


def gaussian_information(x: jax.Array, y: jax.Array, *, unbiased: bool = False) -> jax.Array:
  r"""Mutual information of a sample from its canonical correlations, as if it were Gaussian.

  .. math:: -\tfrac12 \log\det(I - \rho \rho^\top) = -\tfrac12 \sum_k \log(1 - \rho_k^2)

  with the canonical correlations :math:`\rho_k` of ``x`` and ``y``. In nats, the same for any
  invertible linear map of either side. Of other distributions it is neither bound nor estimate.

  The plain value is too large by about :math:`d_x d_y / 2 n` nats. What it is too large by for
  Gaussians is known exactly, from the mean of the logarithm of a Wishart determinant, and taken off
  on request; the value is then unbiased, and may be negative.

  Args:
    x: ``[n, dim_x]``, columns linearly independent.
    y: ``[n, dim_y]``, row-aligned with ``x``, columns linearly independent.
    unbiased: whether the bias at n points is taken off.

  Returns:
    Scalar, >= 0 unless ``unbiased``.

  Raises:
    ValueError: if shapes do not fit, or there are no more points than columns.

  References:
    Cover and Thomas, `Elements of Information Theory
    <https://onlinelibrary.wiley.com/doi/book/10.1002/047174882X>`_, 2006, eq. 8.41.
    Misra et al., `Estimation of the entropy of a multivariate normal distribution
    <https://doi.org/10.1016/j.jmva.2003.10.003>`_, 2005, for the mean of the determinant.
  """
  shapes = {"x": jnp.shape(x), "y": jnp.shape(y)}
  if any(len(shape) != 2 for shape in shapes.values()) or shapes["x"][0] != shapes["y"][0]:
    raise ValueError(f"expected x [n, dim_x] and y [n, dim_y], got {shapes}")
  (n, dim_x), dim_y = shapes["x"], shapes["y"][1]
  if n <= dim_x + dim_y:
    raise ValueError(f"{n} points are too few for {dim_x} and {dim_y} columns; take more than both")
  dtype = jnp.promote_types(at_least_float32(x).dtype, at_least_float32(y).dtype)
  # An orthonormal basis of each side's columns, whose products are the canonical correlations: no
  # covariance is squared or inverted.
  bases = [jnp.linalg.qr(z - jnp.mean(z, 0, keepdims=True))[0] for z in (x.astype(dtype), y)]
  correlation = jnp.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
  value = -jnp.sum(jnp.log1p(-(correlation**2))) / 2
  return value - _bias(n, dim_x, dim_y).astype(dtype) if unbiased else value


def covariance_information(covariance: jax.Array, dim_x: int) -> jax.Array:
  r"""Mutual information of two parts of a Gaussian vector of known covariance.

  .. math:: \tfrac12 (\log\det \Sigma_x + \log\det \Sigma_y - \log\det \Sigma)

  Args:
    covariance: ``[dim, dim]``, positive definite; the scale of coordinates does not matter.
    dim_x: how many of the first coordinates are ``x``; the rest is ``y``.

  Returns:
    Scalar, nats, >= 0.

  Raises:
    ValueError: if ``covariance`` is not square or does not leave both parts some coordinates.

  References:
    Cover and Thomas, `Elements of Information Theory
    <https://onlinelibrary.wiley.com/doi/book/10.1002/047174882X>`_, 2006, eq. 8.41.
  """
  shape = jnp.shape(covariance)
  if len(shape) != 2 or shape[0] != shape[1] or not 0 < dim_x < shape[0]:
    raise ValueError(f"expected a square covariance of more than dim_x={dim_x}, got {shape}")
  covariance = at_least_float32(covariance)
  log_det = lambda part: jnp.linalg.slogdet(part)[1]
  parts = covariance[:dim_x, :dim_x], covariance[dim_x:, dim_x:]
  return (log_det(parts[0]) + log_det(parts[1]) - log_det(covariance)) / 2


def _bias(n, dim_x, dim_y):
  """Mean of the plain estimate less the truth, for Gaussians, whatever their covariance."""
  # The mean of the logarithm of a Wishart determinant of n - 1 degrees of freedom.
  of = lambda dim: jnp.sum(digamma((n - 1.0 - jnp.arange(dim)) / 2))
  return (of(dim_x) + of(dim_y) - of(dim_x + dim_y)) / 2
