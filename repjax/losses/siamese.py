"""Losses that pull one view towards another, and leave it to the architecture not to collapse."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize


def byol(prediction: jax.Array, target: jax.Array) -> jax.Array:
  r"""Squared distance of the online network's prediction and the target network's projection.

  .. math::
    \ell_i = \lVert \bar p_i - \bar z_i \rVert^2 = 2 - 2 \langle \bar p_i, \bar z_i \rangle

  for vectors scaled to unit length. One direction: BYOL adds the one with the views swapped. No
  gradient reaches ``target``. As in solo-learn; `simsiam` is the same loss on another scale.

  Args:
    prediction: predictor's output for one view, ``[batch, dim]``; normalised inside.
    target: target network's output for the other view, ``[batch, dim]``; normalised inside.

  Returns:
    Loss per example, ``[batch]`` float32, from 0 to 4.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Grill et al., `Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning
    <https://arxiv.org/abs/2006.07733>`_, 2020, eq. 2.
  """
  return 2 + 2 * simsiam(prediction, target)


def simsiam(prediction: jax.Array, target: jax.Array) -> jax.Array:
  r"""Negative cosine of one view's prediction and the other view's projection.

  .. math::
    \ell_i = -\langle \bar p_i, \bar z_i \rangle

  for vectors scaled to unit length. One direction: SimSiam averages both. No gradient reaches
  ``target``; lightly's ``NegativeCosineSimilarity`` leaves stopping it to the caller.

  Args:
    prediction: predictor's output for one view, ``[batch, dim]``; normalised inside.
    target: encoder's output for the other view, ``[batch, dim]``; normalised inside.

  Returns:
    Loss per example, ``[batch]`` float32, from -1 to 1.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Chen and He, `Exploring Simple Siamese Representation Learning
    <https://arxiv.org/abs/2011.10566>`_, 2020, eq. 1.
  """
  check_same_shape(2, prediction=prediction, target=target)
  prediction, target = (l2_normalize(at_least_float32(x)) for x in (prediction, target))
  return -jnp.sum(prediction * lax.stop_gradient(target), -1)
