"""How many directions features use."""

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32, check_same_shape


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
  check_same_shape(2, features=features)
  x = at_least_float32(features)
  if centre:
    x = x - jnp.mean(x, 0, keepdims=True)
  values = jnp.linalg.svd(x, compute_uv=False)
  shares = values / jnp.maximum(jnp.sum(values), jnp.finfo(values.dtype).tiny) + epsilon
  return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(shares, shares)))
