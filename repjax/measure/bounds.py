"""Bounds on mutual information from the scores that a critic gives to all pairs of a sample.

All take ``scores[i, j] = f(x_i, y_j)``: the diagonal is a sample of the joint distribution, the
rest one of the product of the margins. All are estimates in nats, higher for more dependence, and
none is clipped; the negative of one is a loss for its critic. They hold ``[n, n]`` numbers.
"""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32


def info_nce_bound(scores: jax.Array) -> jax.Array:
  r"""InfoNCE: how well each ``x`` picks its ``y`` out of all, less chance.

  .. math:: \log n + \frac{1}{n} \sum_i \Big(f_{ii} - \log \sum_j e^{f_{ij}}\Big)

  A lower bound in expectation, of small variance, that cannot rise above :math:`\log n`: 4.16, 5.55
  and 6.93 nats for 64, 256 and 1,024 pairs. Anything added to a row leaves it alone.

  Args:
    scores: ``[n, n]``, n >= 2.

  Returns:
    Scalar, at most ``log n``.

  Raises:
    ValueError: if ``scores`` is not square or holds one pair.

  References:
    van den Oord et al., `Representation Learning with Contrastive Predictive Coding
    <https://arxiv.org/abs/1807.03748>`_, 2018, eq. 4 and 5.
    Poole et al., `On Variational Bounds of Mutual Information <https://arxiv.org/abs/1905.06922>`_,
    2019, section 2.
  """
  scores = _square(scores)
  return jnp.log(len(scores)) - jnp.mean(jax.nn.logsumexp(scores, 1) - jnp.diagonal(scores))


def donsker_varadhan_bound(scores: jax.Array) -> jax.Array:
  r"""Donsker and Varadhan's bound, which MINE maximises.

  .. math:: \frac{1}{n} \sum_i f_{ii} - \log \frac{1}{n (n - 1)} \sum_{i \neq j} e^{f_{ij}}

  The logarithm of a mean over a sample is too small on average, so that the estimate is too high,
  and its variance grows as the exponential of the information. A constant added to all scores
  leaves it alone. MINE's gradient is biased by the batch for the same reason; its authors average
  the denominator over steps.

  Args:
    scores: ``[n, n]``, n >= 2.

  Returns:
    Scalar, of any sign.

  Raises:
    ValueError: if ``scores`` is not square or holds one pair.

  References:
    Belghazi et al., `MINE: Mutual Information Neural Estimation
    <https://arxiv.org/abs/1801.04062>`_, 2018, section 3.
  """
  scores = _square(scores)
  return jnp.mean(jnp.diagonal(scores)) - _log_mean_others(scores)


def nwj_bound(scores: jax.Array) -> jax.Array:
  r"""Nguyen, Wainwright and Jordan's bound, also called f-GAN KL and MINE-f.

  .. math:: \frac{1}{n} \sum_i f_{ii} - \frac{1}{e\, n (n - 1)} \sum_{i \neq j} e^{f_{ij}}

  Unbiased, of large variance; tight for :math:`f = 1 + \log p(x, y) / p(x) p(y)`. Never above
  `donsker_varadhan_bound` of the same scores.

  Args:
    scores: ``[n, n]``, n >= 2.

  Returns:
    Scalar, of any sign.

  Raises:
    ValueError: if ``scores`` is not square or holds one pair.

  References:
    Nguyen et al., `Estimating divergence functionals and the likelihood ratio by convex risk
    minimization <https://arxiv.org/abs/0809.0853>`_, 2010.
    Poole et al., `On Variational Bounds of Mutual Information <https://arxiv.org/abs/1905.06922>`_,
    2019, section 2.
  """
  return tuba_bound(scores, jnp.ones((), at_least_float32(scores).dtype))


def tuba_bound(scores: jax.Array, log_baseline: jax.Array) -> jax.Array:
  r"""Barber and Agakov's bound made tractable, with a baseline of each ``y``.

  .. math::
    1 + \frac{1}{n} \sum_j (f_{jj} - \log a_j)
    - \frac{1}{n (n - 1)} \sum_{i \neq j} \frac{e^{f_{ij}}}{a_j}

  Unbiased. For scores of :math:`\log p(x, y) / p(x) + c(y)` it is tight at
  :math:`a_j = e^{c(y_j)} p(y_j)`. A baseline of e gives `nwj_bound`.

  Args:
    scores: ``[n, n]``, n >= 2.
    log_baseline: ``log a``, ``[n]`` one for each ``y`` (column), or a scalar.

  Returns:
    Scalar, of any sign.

  Raises:
    ValueError: if ``scores`` is not square or holds one pair, or the baseline has another length.

  References:
    Poole et al., `On Variational Bounds of Mutual Information <https://arxiv.org/abs/1905.06922>`_,
    2019, section 2.
  """
  scores = _square(scores)
  above = scores - _baseline(log_baseline, scores)[None, :]
  return 1 + jnp.mean(jnp.diagonal(above)) - jnp.exp(_log_mean_others(above))


def jensen_shannon_divergence(scores: jax.Array) -> jax.Array:
  r"""Lower bound on the Jensen-Shannon divergence of the joint from the product of the margins.

  .. math::
    \log 2 - \frac{1}{2 n} \sum_i \log(1 + e^{-f_{ii}})
    - \frac{1}{2 n (n - 1)} \sum_{i \neq j} \log(1 + e^{f_{ij}})

  A measure of dependence of its own, at most :math:`\log 2`, not an estimate of mutual information:
  that is `jensen_shannon_bound`, read from a critic that was trained to maximise this one. Deep
  InfoMax's objective is twice this less :math:`2 \log 2`. Tight for
  :math:`f = \log p(x, y) / p(x) p(y)`.

  Args:
    scores: ``[n, n]``, n >= 2.

  Returns:
    Scalar, at most ``log 2``; 0 where all scores are 0.

  Raises:
    ValueError: if ``scores`` is not square or holds one pair.

  References:
    Nowozin et al., `f-GAN: Training Generative Neural Samplers using Variational Divergence
    Minimization <https://arxiv.org/abs/1606.00709>`_, 2016.
    Hjelm et al., `Learning deep representations by mutual information estimation and maximization
    <https://arxiv.org/abs/1808.06670>`_, 2018, eq. 4.
  """
  scores = _square(scores)
  joint = jnp.mean(jax.nn.softplus(-jnp.diagonal(scores)))
  others = jnp.where(_others(len(scores)), jax.nn.softplus(scores), 0)
  return jnp.log(2.0) - (joint + jnp.sum(others) / (len(scores) * (len(scores) - 1))) / 2


def jensen_shannon_bound(scores: jax.Array) -> jax.Array:
  r"""What a critic trained by `jensen_shannon_divergence` says about mutual information.

  `nwj_bound` of :math:`f + 1`: the best critic of the one differs from that of the other by 1. The
  authors' notebook and its copies leave the 1 out, and with the best critic are :math:`1 / e` nats
  too low. Its own gradient is that of `nwj_bound`, so do not train by it.

  Args:
    scores: ``[n, n]``, n >= 2.

  Returns:
    Scalar, of any sign.

  Raises:
    ValueError: if ``scores`` is not square or holds one pair.

  References:
    Poole et al., `On Variational Bounds of Mutual Information <https://arxiv.org/abs/1905.06922>`_,
    2019, section 2.
  """
  return tuba_bound(scores, jnp.zeros((), at_least_float32(scores).dtype))


def smile_bound(scores: jax.Array, *, clip: float | jax.Array = 5.0) -> jax.Array:
  r"""`donsker_varadhan_bound` whose density ratios are clipped where they are averaged.

  .. math::
    \frac{1}{n} \sum_i f_{ii} - \log \frac{1}{n (n - 1)} \sum_{i \neq j}
    \mathrm{clip}(e^{f_{ij}}, e^{-\tau}, e^{\tau})

  Variance falls and bias rises with a smaller :math:`\tau`; it is no bound any more. The authors
  train the critic by `jensen_shannon_divergence` and read this value.

  Args:
    scores: ``[n, n]``, n >= 2, estimates of the log density ratio.
    clip: tau, > 0; the authors take 1, 5 and infinity.

  Returns:
    Scalar, of any sign.

  Raises:
    ValueError: if ``scores`` is not square or holds one pair.

  References:
    Song and Ermon, `Understanding the Limitations of Variational Mutual Information Estimators
    <https://arxiv.org/abs/1910.06222>`_, 2019, section 4.
  """
  scores = _square(scores)
  return jnp.mean(jnp.diagonal(scores)) - _log_mean_others(jnp.clip(scores, -clip, clip))


def interpolated_bound(
  scores: jax.Array, log_baseline: jax.Array, *, alpha: float | jax.Array
) -> jax.Array:
  r"""Between `tuba_bound` (alpha 0) and InfoNCE (alpha 1), between variance and bias.

  .. math::
    1 + \frac{1}{n (n - 1)} \sum_{k \neq j} \log \frac{e^{f_{jj}}}{b_{kj}}
    - \frac{1}{n (n - 1)} \sum_{i \neq j} \frac{e^{f_{ij}}}{b_{jj}}, \qquad
    b_{kj} = \alpha \frac{1}{n - 1} \sum_{i \neq k} e^{f_{ij}} + (1 - \alpha) a_j

  Each ``y`` is compared with :math:`n - 1` values of ``x``: with its own and all but one other in
  the first sum, with all others in the second. At most :math:`\log ((n - 1) / \alpha)`.

  Args:
    scores: ``[n, n]``, n >= 2.
    log_baseline: ``log a``, ``[n]`` one for each ``y`` (column), or a scalar.
    alpha: weight of the sample's mean, in [0, 1].

  Returns:
    Scalar, of any sign.

  Raises:
    ValueError: if ``scores`` is not square or holds one pair, or the baseline has another length.

  References:
    Poole et al., `On Variational Bounds of Mutual Information <https://arxiv.org/abs/1905.06922>`_,
    2019, section 2.
  """
  scores = _square(scores)
  n, others = len(scores), _others(len(scores))
  # Each sum without one term is one over what comes before it and one over what comes after: to
  # subtract the term from the whole loses everything where it is the largest.
  edge = jnp.full((1, n), -jnp.inf, scores.dtype)
  before = jnp.concatenate([edge, lax.cumlogsumexp(scores, 0)[:-1]])
  after = jnp.concatenate([lax.cumlogsumexp(scores, 0, reverse=True)[1:], edge])
  mean = jnp.logaddexp(before, after) - jnp.log(n - 1)
  alpha = jnp.asarray(alpha, scores.dtype)
  fixed = jnp.log1p(-alpha) + _baseline(log_baseline, scores)
  b = jnp.logaddexp(jnp.log(alpha) + mean, fixed[None, :])
  joint = jnp.where(others, jnp.diagonal(scores)[None, :] - b, 0)
  margins = jnp.exp(_log_mean_others(scores - jnp.diagonal(b)[None, :]))
  return 1 + jnp.sum(joint) / (n * (n - 1)) - margins


def club_bound(log_conditional: jax.Array, *, include_joint: bool = False) -> jax.Array:
  r"""CLUB: an upper bound from the density of ``y`` given ``x``.

  .. math::
    \frac{1}{n} \sum_i \log q(y_i | x_i) - \frac{1}{n (n - 1)} \sum_{i \neq j} \log q(y_j | x_i)

  An upper bound in expectation if :math:`q` is the true conditional density, and close to one while
  it is a good fit. With the joint pairs in the second sum, as in the paper, it is
  :math:`(n - 1) / n` of this.

  Args:
    log_conditional: ``[n, n]``, ``log q(y_j | x_i)`` at ``[i, j]``, n >= 2.
    include_joint: whether the second mean is over all pairs, the joint ones among them.

  Returns:
    Scalar, of any sign.

  Raises:
    ValueError: if ``log_conditional`` is not square or holds one pair.

  References:
    Cheng et al., `CLUB: A Contrastive Log-ratio Upper Bound of Mutual Information
    <https://arxiv.org/abs/2006.12013>`_, 2020, section 3.
  """
  value = wasserstein_bound(log_conditional)
  n = len(log_conditional)
  return value * (n - 1) / n if include_joint else value


def wasserstein_bound(scores: jax.Array) -> jax.Array:
  r"""Wasserstein dependency: by how much a critic scores true pairs higher than independent ones.

  .. math:: \frac{1}{n} \sum_i f_{ii} - \frac{1}{n (n - 1)} \sum_{i \neq j} f_{ij}

  For critics of slope at most 1 a lower bound on the Wasserstein distance of the joint distribution
  from the product of the margins, in units of the metric, not in nats. It has no ceiling of
  :math:`\log n`. The negative mean of `repjax.losses.wasserstein_dependency`, of whose critic
  `repjax.losses.gradient_penalty` bounds the slope.

  Args:
    scores: ``[n, n]``, n >= 2, of a critic of slope at most 1.

  Returns:
    Scalar, of any sign.

  Raises:
    ValueError: if ``scores`` is not square or holds one pair.

  References:
    Ozair et al., `Wasserstein Dependency Measure for Representation Learning
    <https://arxiv.org/abs/1903.11780>`_, 2019.
  """
  scores = _square(scores)
  n = len(scores)
  others = jnp.sum(jnp.where(_others(n), scores, 0)) / (n * (n - 1))
  return jnp.mean(jnp.diagonal(scores)) - others


def _square(scores):
  shape = jnp.shape(scores)
  if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 2:
    raise ValueError(f"expected scores [n, n] of two pairs or more, got {shape}")
  return at_least_float32(scores)


def _baseline(log_baseline, scores):
  shape = jnp.shape(log_baseline)
  if shape not in ((), (len(scores),)):
    raise ValueError(f"expected a log_baseline of shape () or {(len(scores),)}, got {shape}")
  return jnp.broadcast_to(jnp.asarray(log_baseline, scores.dtype), (len(scores),))


def _others(n):
  return ~jnp.eye(n, dtype=bool)


def _log_mean_others(scores):
  n = len(scores)
  apart = jnp.where(_others(n), scores, -jnp.inf)
  return jax.nn.logsumexp(apart) - jnp.log(n * (n - 1.0))
