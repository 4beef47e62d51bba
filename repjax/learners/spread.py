"""How far features spread: what tells a collapsed run from one that learns."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, l2_normalize


def spread(features: jax.Array, *, axis_name: str | None = None) -> dict[str, jax.Array]:
  r"""Standard deviation and rank of features over a batch.

  With :math:`C` the covariance of rows scaled to unit length,

  .. math::
    \text{std} = \sqrt{\operatorname{tr} C}, \qquad
    \text{rank} = \frac{(\operatorname{tr} C)^2}{\operatorname{tr} C^2}

  The first is 0 where all examples have one feature vector and 1 where their mean is 0; the second
  lies between 1, all on a line, and the width. It takes one matrix product and no decomposition.

  Args:
    features: ``[batch, dim]``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    ``feature_std`` and ``feature_rank``, scalars without gradient.

  References:
    Chen and He, `Exploring Simple Siamese Representation Learning
    <https://arxiv.org/abs/2011.10566>`_, 2020, section 4.1, for the deviation of unit vectors.
    Gao et al., `A theory of multineuronal dimensionality, dynamics and measurement
    <https://doi.org/10.1101/214262>`_, 2017, for the participation ratio.
  """
  mean = (lambda x: x) if axis_name is None else (lambda x: lax.pmean(x, axis_name))
  x = l2_normalize(lax.stop_gradient(at_least_float32(features)))
  centred = (x - mean(jnp.mean(x, 0, keepdims=True))).astype(features.dtype)
  product = jnp.matmul(centred.T, centred, preferred_element_type=x.dtype)
  covariance = mean(product / len(x))
  trace, square = jnp.trace(covariance), jnp.sum(jnp.square(covariance))
  tiny = jnp.finfo(square.dtype).tiny
  return {
    "feature_std": jnp.sqrt(trace),
    "feature_rank": jnp.square(trace) / jnp.maximum(square, tiny),
  }
