"""Gaussian classes: linear and quadratic discriminants from moments."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32
from repjax.heads.logistic import Logistic
from repjax.heads.moments import Moments, check_dim, within_scatter

_HIGHEST = lax.Precision.HIGHEST


def shrink_covariance(
  covariance: jax.Array,
  shrinkage: float | jax.Array,
  *,
  target: float | jax.Array | None = None,
  ridge: float | jax.Array = 0.0,
) -> jax.Array:
  r"""Pulls a covariance towards a multiple of the identity.

  .. math:: (1 - s) \Sigma + (s \, t + r \, \mathrm{tr}(\Sigma) / d) I

  Args:
    covariance: ``[..., dim, dim]``.
    shrinkage: s in ``[0, 1]``.
    target: t; the mean variance :math:`\mathrm{tr}(\Sigma) / d` if absent, so that nothing depends
      on the scale of the features. scikit-learn's ``shrunk_covariance`` is that.
    ridge: r, >= 0, relative to the mean variance too.

  Returns:
    Same shape as ``covariance``.

  References:
    Ledoit and Wolf, `A well-conditioned estimator for large-dimensional covariance matrices
    <https://doi.org/10.1016/S0047-259X(03)00096-4>`_, 2004, eq. 2.
  """
  dim = covariance.shape[-1]
  variance = jnp.trace(covariance, axis1=-2, axis2=-1) / dim
  goal = variance if target is None else jnp.broadcast_to(target, variance.shape)
  added = (shrinkage * goal + ridge * variance)[..., None, None]
  eye = jnp.eye(dim, dtype=covariance.dtype).reshape((1,) * (covariance.ndim - 2) + (dim, dim))
  return (1 - shrinkage) * covariance + added * eye


def fit_lda(
  moments: Moments,
  *,
  shrinkage: float | jax.Array,
  ridge: float | jax.Array = 0.0,
  ddof: int = 0,
  prior: jax.Array | None = None,
) -> Logistic:
  r"""Linear discriminant: Gaussian classes of one covariance.

  .. math:: \log p(c | x) = \mu_c^\top \Sigma^{-1} x - \tfrac12 \mu_c^\top \Sigma^{-1} \mu_c
    + \log \pi_c + \text{const}

  :math:`\Sigma` is the within-class scatter divided by the number of rows less ``ddof``, shrunk as
  in `shrink_covariance`. At ``ddof=0`` this is scikit-learn's
  ``LinearDiscriminantAnalysis(solver="lsqr" or "eigen", shrinkage=...)`` with the priors of the
  data; with other priors scikit-learn also weighs the classes' covariances by them, which is not
  done here. A singular :math:`\Sigma` is inverted on its
  range, as by the pseudo-inverse. Both terms of
  regularisation are relative to the mean variance: without a prior's say, predictions depend
  neither on the features' scale nor on ``ddof``.

  The official code of FSA (``compute_lda_head``) differs in three ways: it takes the covariance
  about the global mean, adds the identity to it at any scale of the features, and has no priors.

  The kernel is :math:`\Sigma^{-1}(\mu_c - \mu)` with the global mean :math:`\mu`, which adds
  the same to all classes and loses no digits far from the origin.

  Args:
    moments: with a scatter, shared or of each class.
    shrinkage: in ``[0, 1]``; with few rows a dimension, 0 is bad.
    ridge: >= 0, relative to the mean variance.
    ddof: 0 for the maximum of the likelihood, the number of classes for the unbiased estimate.
    prior: ``[classes]``, >= 0; the classes' shares of the rows if absent.

  Returns:
    Parameters of `repjax.heads.logits`; the bias of a class not seen is -inf.

  Raises:
    ValueError: if no scatter was kept.

  References:
    Hastie et al., `The Elements of Statistical Learning <https://hastie.su.domains/ElemStatLearn>`_,
    2009, eq. 4.10.
    Hayes and Kanan, `Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis
    <https://arxiv.org/abs/1909.01520>`_, 2020.
    Panos et al., `First Session Adaptation: A Strong Replay-Free Baseline for Class-Incremental
    Learning <https://arxiv.org/abs/2303.13199>`_, 2023.
  """
  rows = jnp.sum(moments.count)
  sigma = within_scatter(moments) / jnp.maximum(rows - ddof, 1)
  values, axes = jnp.linalg.eigh(shrink_covariance(sigma, shrinkage, ridge=ridge))
  least = len(values) * jnp.finfo(values.dtype).eps * values[-1]
  inverse = jnp.where(values > least, 1 / jnp.where(values > least, values, 1), 0)
  share = moments.count.astype(values.dtype) / jnp.maximum(rows, 1)
  centre = jnp.matmul(share, moments.mean, precision=_HIGHEST)
  seen = moments.count > 0
  apart = jnp.where(seen[:, None], moments.mean - centre[None], 0)
  turned = jnp.matmul(apart, axes, precision=_HIGHEST) * inverse[None]
  kernel = jnp.matmul(axes, turned.T, precision=_HIGHEST)
  bias = -jnp.sum(apart * kernel.T, 1) / 2 - jnp.matmul(centre, kernel, precision=_HIGHEST)
  return {"kernel": kernel, "bias": bias + _log_prior(moments, prior)}


class Quadratic(NamedTuple):
  r"""Parameters of `qda_logits`.

  Attributes:
    mean: ``[classes, dim]``.
    whiten: ``[classes, dim, dim]``, :math:`W_c` with :math:`W_c W_c^\top = \Sigma_c^{-1}`.
    offset: ``[classes]``, the log prior less half the log determinant; -inf for a class not seen.
  """

  mean: jax.Array
  whiten: jax.Array
  offset: jax.Array


def fit_qda(
  moments: Moments,
  *,
  shrinkage: float | jax.Array,
  target: float | jax.Array | None = None,
  ridge: float | jax.Array = 0.0,
  ddof: int = 0,
  prior: jax.Array | None = None,
) -> Quadratic:
  r"""Quadratic discriminant: Gaussian classes, each of its own covariance.

  .. math:: \log p(c | x) = -\tfrac12 (x - \mu_c)^\top \Sigma_c^{-1} (x - \mu_c)
    - \tfrac12 \log\det \Sigma_c + \log \pi_c + \text{const}

  Each covariance is its class's scatter divided by the class's rows less ``ddof``, shrunk as in
  `shrink_covariance`. ``target=1.0`` is scikit-learn's
  ``QuadraticDiscriminantAnalysis(reg_param=shrinkage)``, which depends on the features' scale, at
  its constant: ``ddof=0`` in the newest, 1 in older ones. Without a target it is the newest's
  ``solver="eigen", shrinkage=...``.

  Args:
    moments: with a scatter of each class.
    shrinkage: in ``[0, 1]``. At 0 a class with no more rows than dimensions has no inverse, and
      its logits are NaN; they are not guessed.
    target: variance that is shrunk towards; the class's mean variance if absent.
    ridge: >= 0, relative to the class's mean variance.
    ddof: 0 or 1.
    prior: ``[classes]``, >= 0; the classes' shares of the rows if absent.

  Returns:
    Parameters of `qda_logits`.

  Raises:
    ValueError: if the moments keep no scatter a class.

  References:
    Hastie et al., `The Elements of Statistical Learning <https://hastie.su.domains/ElemStatLearn>`_,
    2009, eq. 4.12.
    Goswami et al., `FeCAM: Exploiting the Heterogeneity of Class Distributions in Exemplar-Free
    Continual Learning <https://arxiv.org/abs/2309.14062>`_, 2023.
  """
  if moments.scatter.ndim != 3 or not len(moments.scatter):
    raise ValueError(
      f"expected a scatter [classes, dim, dim], got {moments.scatter.shape}; begin with "
      "init_moments(scatter='each')"
    )
  rows = jnp.maximum(moments.count - ddof, 1)[:, None, None]
  sigma = shrink_covariance(moments.scatter / rows, shrinkage, target=target, ridge=ridge)
  eye = jnp.eye(sigma.shape[-1], dtype=sigma.dtype)
  seen = moments.count > 0
  factor = jnp.linalg.cholesky(jnp.where(seen[:, None, None], sigma, eye[None]))
  half = jnp.sum(jnp.log(jnp.diagonal(factor, axis1=1, axis2=2)), 1)
  inverse = jax.vmap(lambda x: jax.scipy.linalg.solve_triangular(x, eye, lower=True))(factor)
  return Quadratic(moments.mean, jnp.swapaxes(inverse, 1, 2), _log_prior(moments, prior) - half)


def qda_logits(params: Quadratic, features: jax.Array) -> jax.Array:
  """Log densities of the classes, each with its prior, less the constant they share.

  Args:
    params: from `fit_qda`.
    features: ``[batch, dim]``; a class at a time, so that memory holds ``[batch, dim]``.

  Returns:
    ``[batch, classes]``, in at least float32; -inf for a class not seen.

  Raises:
    ValueError: if the dims differ.
  """
  check_dim(params.mean, features)
  x = at_least_float32(features)

  def of_class(own):
    white = jnp.matmul(x - own.mean[None], own.whiten, precision=_HIGHEST)
    return own.offset - jnp.sum(white * white, 1) / 2

  return lax.map(of_class, params).T


def _log_prior(moments: Moments, prior: jax.Array | None) -> jax.Array:
  """Logarithms of the priors, -inf for a class not seen."""
  dtype = moments.mean.dtype
  weight = moments.count if prior is None else jnp.asarray(prior)
  weight = jnp.where(moments.count > 0, weight, 0).astype(dtype)
  return jnp.log(weight) - jnp.log(jnp.sum(weight))
