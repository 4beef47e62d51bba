"""How many directions features use."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize


def rank_me(
  features: jax.Array, *, epsilon: float | jax.Array = 1e-7, centre: bool = False
) -> jax.Array:
  r"""Effective rank: the exponential of the entropy of the singular values' shares.

  .. math::
    \exp\Big(-\sum_k p_k \log p_k\Big), \qquad p_k = \frac{\sigma_k}{\sum_j \sigma_j} + \epsilon

  over all :math:`\min(n, d)` singular values :math:`\sigma_k`. Few examples bound it by their
  number; take several times the width. The paper takes 25,600 and does not centre.

  Args:
    features: ``[n, dim]``.
    epsilon: added to each share, >= 0; the paper's 1e-7 is for float32.
    centre: whether the mean is taken off first, which otherwise is one of the directions.

  Returns:
    Scalar float32 between 1 and ``min(n, dim)``, up to ``epsilon``; where all features are 0, the
    value of shares of 0.

  Raises:
    ValueError: if ``features`` is not rank 2.

  References:
    Garrido et al., `RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised
    Representations by Their Rank <https://arxiv.org/abs/2210.02885>`_, 2023, eq. 1.
    Roy and Vetterli, `The Effective Rank: A Measure of Effective Dimensionality
    <https://ieeexplore.ieee.org/document/7098875>`_, 2007, where ``epsilon`` is 0.
  """
  return _perplexity(_singular_values(features, centre), epsilon)


def effective_rank(features: jax.Array, *, centre: bool = True) -> jax.Array:
  r"""Exponential of the entropy of the singular values' shares, nothing added: `rank_me` at 0.

  Args:
    features: ``[n, dim]``.
    centre: whether the mean is taken off first.

  Returns:
    Scalar float32 between 1 and ``min(n, dim)``; of k directions of equal variance, k.

  Raises:
    ValueError: if ``features`` is not rank 2.

  References:
    Roy and Vetterli, `The Effective Rank: A Measure of Effective Dimensionality
    <https://ieeexplore.ieee.org/document/7098875>`_, 2007, definition 1.
  """
  return _perplexity(_singular_values(features, centre), 0.0)


def participation_ratio(features: jax.Array, *, centre: bool = True) -> jax.Array:
  r"""Effective number of principal components, by their variances.

  .. math:: \frac{(\sum_k \lambda_k)^2}{\sum_k \lambda_k^2}

  for the eigenvalues of the covariance. It heeds large variances more than `effective_rank` does,
  and is never above it. Few examples pull it down: with n of them from an isotropic distribution of
  d dimensions it is near :math:`1 / (1/n + 1/d)`.

  Args:
    features: ``[n, dim]``.
    centre: whether the mean is taken off first.

  Returns:
    Scalar float32 between 1 and ``min(n, dim)``; 0 where nothing varies.

  Raises:
    ValueError: if ``features`` is not rank 2.

  References:
    Gao et al., `A theory of multineuronal dimensionality, dynamics and measurement
    <https://doi.org/10.1101/214262>`_, 2017, eq. 5. The text was not at hand; the equation's number
    is from memory.
  """
  values = _singular_values(features, centre)
  shares = jnp.square(values / jnp.maximum(values[0], jnp.finfo(values.dtype).tiny))
  most = jnp.maximum(jnp.sum(shares * shares), jnp.finfo(values.dtype).tiny)
  return jnp.square(jnp.sum(shares)) / most


def covariance_spectrum(features: jax.Array, *, centre: bool = True) -> jax.Array:
  r"""Variances along the principal directions, in descending order: the curve of collapse.

  Dimensional collapse shows as a cliff in its logarithm. With fewer examples than dimensions the
  tail is 0 whatever the features.

  Args:
    features: ``[n, dim]``.
    centre: whether the mean is taken off first.

  Returns:
    ``[dim]`` float32, >= 0, eigenvalues of :math:`X^\top X / n`.

  Raises:
    ValueError: if ``features`` is not rank 2.

  References:
    Jing et al., `Understanding Dimensional Collapse in Contrastive Self-supervised Learning
    <https://arxiv.org/abs/2110.09348>`_, 2022, figure 2.
  """
  values = _singular_values(features, centre)
  return jnp.pad(values * values / len(features), (0, features.shape[1] - len(values)))


def alpha_req(
  features: jax.Array, *, start: int = 11, stop: int = 100, centre: bool = True
) -> jax.Array:
  r"""Exponent of the power law that the covariance's eigenvalues follow.

  .. math:: \lambda_k \propto k^{-\alpha}

  fitted by least squares of :math:`\log \lambda_k` on :math:`\log k` with weights
  :math:`1/k`, which count equal stretches of :math:`\log k` alike, as in the code of Stringer et
  al. (``get_powerlaw``) that the paper's code takes over. Near 1 the paper finds features that
  generalise best; larger values are those of collapse.

  Args:
    features: ``[n, dim]``.
    start: first rank that counts, from 1.
    stop: last rank that counts; at most ``min(n, dim)`` do.
    centre: whether the mean is taken off first, which costs one rank where ``n <= dim``.

  Returns:
    Scalar float32; infinite or undefined where an eigenvalue within the range is 0.

  Raises:
    ValueError: if ``features`` is not rank 2, or leave fewer than two ranks in the range.

  References:
    Agrawal et al., `alpha-ReQ: Assessing Representation Quality in Self-Supervised Learning by
    measuring eigenspectrum decay <https://openreview.net/forum?id=ii9X4vtZGTZ>`_, 2022, section 3.
    Stringer et al., `High-dimensional geometry of population responses in visual cortex
    <https://doi.org/10.1038/s41586-019-1346-5>`_, 2019. The range is
    that of their code; neither paper's text was at hand.
  """
  values = _singular_values(features, centre)
  stop = min(stop, len(values) - (centre and len(features) <= features.shape[1]))
  if start < 1 or stop - start < 1:
    raise ValueError(
      f"features of shape {features.shape} leave ranks {start} to {stop}; lower start, now {start}"
    )
  rank = jnp.arange(start, stop + 1, dtype=values.dtype)
  x, y, weight = jnp.log(rank), 2 * jnp.log(values[start - 1 : stop]), 1 / rank
  mean = lambda z: jnp.sum(weight * z) / jnp.sum(weight)
  x = x - mean(x)
  return -mean(x * y) / mean(x * x)


def lidar(
  features: jax.Array, *, delta: float | jax.Array = 1e-4, epsilon: float | jax.Array = 1e-8
) -> jax.Array:
  r"""Effective rank of what tells objects apart, relative to what their views differ in.

  .. math::
    \exp\Big(-\sum_k p_k \log p_k\Big), \qquad p_k = \frac{\lambda_k}{\sum_j \lambda_j} + \epsilon

  for the eigenvalues of :math:`\Sigma_w^{-1/2} \Sigma_b \Sigma_w^{-1/2}`: between the means of
  objects, and of views about the mean of their object, :math:`\delta \, \mathrm{tr}(\Sigma_b +
  \Sigma_w) / d` on the diagonal of the latter. The paper adds :math:`\delta` itself, 1e-4; here it
  is relative, so that the scale of features does not matter. Directions that views alone vary in do
  not count, as they do for `rank_me`. It is at most the number of objects less 1: take many objects
  (the paper some 1,000) and several views (50).

  Args:
    features: ``[objects, views, dim]``, two or more of each.
    delta: ridge, > 0.
    epsilon: added to each share, >= 0.

  Returns:
    Scalar float32, between 1 and ``min(objects - 1, dim)`` up to ``epsilon``.

  Raises:
    ValueError: if ``features`` is not rank 3 or has not two objects and two views.

  References:
    Thilak et al., `LiDAR: Sensing Linear Probing Performance in Joint Embedding SSL Architectures
    <https://arxiv.org/abs/2312.04000>`_, 2023, section 3.
  """
  shape = jnp.shape(features)
  if len(shape) != 3 or min(shape[:2]) < 2:
    raise ValueError(f"expected features [objects, views, dim], two or more each, got {shape}")
  x = at_least_float32(features)
  means = jnp.mean(x, 1)
  about = (x - means[:, None]).reshape(-1, shape[2])
  means = means - jnp.mean(means, 0, keepdims=True)
  tiny = jnp.finfo(x.dtype).tiny
  between = jnp.sum(means * means) / shape[0]
  ridge = delta * (between + jnp.sum(about * about) / len(about)) / shape[2]
  within = jnp.matmul(about.T, about, precision="highest") / len(about)
  within = within + jnp.maximum(ridge, tiny) * jnp.eye(shape[2], dtype=x.dtype)
  # The eigenvalues are squared singular values of the whitened means: no product is formed.
  root = jnp.linalg.cholesky(within)
  white = lax.linalg.triangular_solve(root, means.T, left_side=True, lower=True)
  values = jnp.linalg.svd(white, compute_uv=False)
  return _perplexity(values * values, epsilon)


def coding_rate(
  features: jax.Array, *, epsilon: float | jax.Array = 0.5, normalize: bool = True
) -> jax.Array:
  r"""Nats per example that it takes to code features up to a distortion.

  .. math:: \frac12 \sum_k \log\Big(1 + \frac{d}{n \epsilon^2} \sigma_k^2\Big)

  It is the value of `repjax.losses.coding_rate` without its gradient and its devices.

  Args:
    features: ``[n, dim]``.
    epsilon: distortion, > 0.
    normalize: scale all vectors to unit length.

  Returns:
    Scalar float32, >= 0.

  Raises:
    ValueError: if ``features`` is not rank 2.

  References:
    Yu et al., `Learning Diverse and Discriminative Representations via the Principle of Maximal
    Coding Rate Reduction <https://arxiv.org/abs/2006.08558>`_, 2020, eq. 1.
  """
  check_same_shape(2, features=features)
  x = at_least_float32(features)
  values = jnp.linalg.svd(l2_normalize(x) if normalize else x, compute_uv=False)
  scale = x.shape[1] / (len(x) * epsilon**2)
  return jnp.sum(jnp.log1p(scale * values * values)) / 2


def _singular_values(features, centre):
  check_same_shape(2, features=features)
  x = at_least_float32(features)
  if centre:
    x = x - jnp.mean(x, 0, keepdims=True)
  return jnp.linalg.svd(x, compute_uv=False)


def _perplexity(values, epsilon):
  shares = values / jnp.maximum(jnp.sum(values), jnp.finfo(values.dtype).tiny) + epsilon
  return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(shares, shares)))
