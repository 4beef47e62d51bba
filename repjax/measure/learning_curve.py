"""Error against the number of examples: fits that are carried on beyond the data."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32, check_same_shape


class LearningCurve(NamedTuple):
  r"""A power law that bends below a switch point.

  .. math:: \log e(n) = a + b \log n + c \min(\log n - \log N, 0)^2

  Attributes:
    intercept: :math:`a`.
    slope: :math:`b`, of the straight part.
    curvature: :math:`c`; 0 for a power law.
    switch: :math:`N`, above which it is a power law; value and slope are continuous there.
  """

  intercept: jax.Array
  slope: jax.Array
  curvature: jax.Array
  switch: jax.Array


def fit_power_law(sizes: jax.Array, errors: jax.Array) -> LearningCurve:
  """Least squares of log error on log size.

  Args:
    sizes: ``[points]``, > 0, two different ones or more.
    errors: ``[points]``, > 0.

  Returns:
    A curve without curvature.

  Raises:
    ValueError: if the shapes differ or are not rank 1.
  """
  return fit_piecewise_power_law(sizes, errors, switch=0.0)


def fit_piecewise_power_law(
  sizes: jax.Array, errors: jax.Array, *, switch: float | jax.Array
) -> LearningCurve:
  """Least squares of a piecewise power law with a given switch point, in logarithms.

  Points all below the switch tell the parabola, which is followed on along its tangent; points all
  above it leave a power law. Where to switch is not told by few-shot points: the paper predicts it
  by a regression over other curves, for which `best_switch` gives the target.

  Args:
    sizes: ``[points]``, > 0; three different ones below the switch, or no curvature is told.
    errors: ``[points]``, > 0.
    switch: :math:`N`, >= 0; may be traced.

  Returns:
    The curve; of several that fit equally the one with the smallest coefficients.

  Raises:
    ValueError: if the shapes differ or are not rank 1.

  References:
    Jain et al., `A Meta-Learning Approach to Predicting Performance and Data Requirements
    <https://arxiv.org/abs/2303.01598>`_, 2023, section 3, whose five coefficients under two
    conditions of continuity are these three.
  """
  check_same_shape(1, sizes=sizes, errors=errors)
  switch = jnp.asarray(switch, at_least_float32(sizes).dtype)
  basis = _basis(at_least_float32(sizes), switch)
  # Columns of one length, so that what counts as rank does not depend on units.
  length = jnp.maximum(jnp.linalg.norm(basis, axis=0), jnp.finfo(basis.dtype).tiny)
  weights, *_ = jnp.linalg.lstsq(basis / length[None], jnp.log(at_least_float32(errors)))
  return LearningCurve(*(weights / length), switch)


def predict_error(curve: LearningCurve, sizes: jax.Array) -> jax.Array:
  """What a curve says of other sizes.

  Args:
    curve: fitted.
    sizes: ``[points]``, > 0.

  Returns:
    ``[points]`` errors, > 0; nothing keeps them below 1.
  """
  weights = jnp.stack(curve[:3])
  return jnp.exp(_basis(at_least_float32(sizes), curve.switch) @ weights)


def best_switch(sizes: jax.Array, errors: jax.Array, *, candidates: jax.Array) -> jax.Array:
  """The switch point with which a whole curve is fitted best, in logarithms.

  Args:
    sizes: ``[points]``, > 0.
    errors: ``[points]``, > 0.
    candidates: ``[switches]``, > 0.

  Returns:
    Scalar, one of the candidates.

  Raises:
    ValueError: if the shapes differ or are not rank 1.
  """
  check_same_shape(1, sizes=sizes, errors=errors)

  def error(switch):
    fitted = predict_error(fit_piecewise_power_law(sizes, errors, switch=switch), sizes)
    return jnp.mean(jnp.square(jnp.log(fitted) - jnp.log(errors)))

  return candidates[jnp.argmin(jax.vmap(error)(candidates))]


def _basis(sizes, switch):
  x = jnp.log(sizes)
  # Far below all sizes rather than infinitely so.
  start = jnp.log(jnp.maximum(switch, jnp.finfo(x.dtype).tiny))
  return jnp.stack([jnp.ones_like(x), x, jnp.square(jnp.minimum(x - start, 0))], 1)
