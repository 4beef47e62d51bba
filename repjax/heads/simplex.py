"""Classifiers that are fixed before training: the corners of a simplex."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32, l2_normalize


def d_simplex(classes: int, *, dtype: DTypeLike = jnp.float32) -> jax.Array:
  r"""Corners of the regular simplex about the origin, in one dimension less than there are classes.

  The axes :math:`e_1, \dots, e_{K-1}` and :math:`\frac{1 - \sqrt K}{K - 1} \sum_i e_i` lie equally
  far from one another; less their mean and at length 1 they are the rows :math:`w_k`, with
  :math:`\langle w_j, w_k \rangle = -1 / (K - 1)`. Train an encoder of that dim by the cross entropy
  of `simplex_logits` and leave the rows as they are: later encoders then put a class where earlier
  ones did. Take more classes than there are now, and new ones have their place reserved.

  Args:
    classes: K, at least 2.
    dtype: of the result.

  Returns:
    ``[classes, classes - 1]``, rows of length 1.

  Raises:
    ValueError: if there are less than 2 classes.

  References:
    Pernici et al., `Regular Polytope Networks <https://arxiv.org/abs/2103.15632>`_, 2021,
    section 3.
    Biondi et al., `Stationary Representations: Optimally Approximating Compatibility and
    Implications for Improved Model Replacements <https://arxiv.org/abs/2405.02581>`_, 2024.
  """
  if classes < 2:
    raise ValueError(f"a simplex of {classes} classes has no corners; take 2 or more")
  dim = classes - 1
  last = (1 - jnp.sqrt(jnp.asarray(classes, dtype))) / dim
  corners = jnp.concatenate([jnp.eye(dim, dtype=dtype), jnp.full((1, dim), last, dtype)])
  return l2_normalize(corners - jnp.mean(corners, 0, keepdims=True))


def simplex_etf(
  key: jax.Array, classes: int, dim: int, *, dtype: DTypeLike = jnp.float32
) -> jax.Array:
  """A simplex equiangular tight frame: `d_simplex`, turned at random, in any dim that holds it.

  Args:
    key: of the turn.
    classes: K, at least 2.
    dim: of the features, at least K - 1.
    dtype: of the result.

  Returns:
    ``[classes, dim]``, rows of length 1 with inner products -1 / (K - 1).

  Raises:
    ValueError: if the dim is too small.

  References:
    Papyan et al., `Prevalence of neural collapse during the terminal phase of deep learning
    training <https://arxiv.org/abs/2008.08186>`_, 2020, which scales by any number.
    Yang et al., `Inducing Neural Collapse in Imbalanced Learning: Do We Really Need a Learnable
    Classifier at the End of Deep Neural Network? <https://arxiv.org/abs/2203.09081>`_, 2022, eq. 1.
  """
  if dim < classes - 1:
    raise ValueError(
      f"{classes} classes at equal angles need dim={classes - 1} or more, got {dim=}; "
      "project the features up"
    )
  axes, triangle = jnp.linalg.qr(jax.random.normal(key, (dim, classes - 1), dtype))
  axes = axes * jnp.sign(jnp.diagonal(triangle))[None]  # else not uniform over turns
  return jnp.matmul(d_simplex(classes, dtype=dtype), axes.T, precision=lax.Precision.HIGHEST)


def simplex_logits(
  weights: jax.Array, features: jax.Array, *, scale: float | jax.Array = 1.0
) -> jax.Array:
  """Scaled cosines between features and the vectors of classes.

  Args:
    weights: ``[classes, dim]``, fixed or learned; normalised inside.
    features: ``[batch, dim]``; normalised inside.
    scale: what cosines are multiplied with, > 0.

  Returns:
    ``[batch, classes]`` in ``[-scale, scale]``, in at least float32.

  Raises:
    ValueError: if the dims differ.
  """
  if features.ndim != 2 or weights.ndim != 2 or weights.shape[1] != features.shape[1]:
    raise ValueError(
      f"expected weights [classes, dim] and features [batch, dim] of one dim, got {weights.shape} "
      f"and {features.shape}"
    )
  weights, features = (l2_normalize(at_least_float32(x)) for x in (weights, features))
  return scale * jnp.matmul(features, weights.T, precision=lax.Precision.HIGHEST)
