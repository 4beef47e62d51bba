"""Dependence of two variables by a critic whose slope is bounded, instead of mutual information."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32, safe_sqrt
from repjax.losses.layout import gather, kept, row_index
from repjax.losses.pairs import log_sum_exp

Critic = Callable[[jax.Array, jax.Array], jax.Array]


def wasserstein_dependency(
  critic: Critic,
  x: jax.Array,
  y: jax.Array,
  *,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""How much higher a critic scores independent pairs than true ones.

  .. math:: \ell_i = \frac{1}{n - 1} \sum_{j \neq i} f(x_i, y_j) - f(x_i, y_i)

  For the best critic of slope at most 1, the negative of its mean is the Wasserstein distance of
  the joint distribution from the product of its margins; `gradient_penalty` bounds the slope.

  Args:
    critic: scores one ``x`` with one ``y``, without a batch axis; a scalar.
    x: ``[batch, ...]``.
    y: ``[batch, ...]``, row-aligned with ``x``.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per pair, ``[batch]`` float32, of any sign; 0 where ``where`` is false or there is no
    other pair.

  Raises:
    ValueError: if ``x`` and ``y`` are not of one length.

  References:
    Ozair et al., `Wasserstein Dependency Measure for Representation Learning
    <https://arxiv.org/abs/1903.11780>`_, 2019.
  """
  scores, positive, others = _score_pairs(critic, x, y, where, axis_name)
  count = jnp.sum(others, 1)
  mean = jnp.sum(jnp.where(others, scores, 0), 1) / jnp.maximum(count, 1)
  return jnp.where(count > 0, mean - positive, 0)


def wasserstein_predictive(
  critic: Critic,
  x: jax.Array,
  y: jax.Array,
  *,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Wasserstein predictive coding: `info_nce` of the scores of a critic of bounded slope.

  .. math:: \ell_i = -\log \frac{\exp f(x_i, y_i)}{\sum_j \exp f(x_i, y_j)}

  The authors train with this and `gradient_penalty`, in place of the difference of means.

  Args:
    critic: scores one ``x`` with one ``y``, without a batch axis; a scalar.
    x: ``[batch, ...]``.
    y: ``[batch, ...]``, row-aligned with ``x``.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per pair, ``[batch]`` float32, >= 0; 0 where ``where`` is false.

  Raises:
    ValueError: if ``x`` and ``y`` are not of one length.

  References:
    Ozair et al., `Wasserstein Dependency Measure for Representation Learning
    <https://arxiv.org/abs/1903.11780>`_, 2019.
  """
  scores, positive, others = _score_pairs(critic, x, y, where, axis_name)
  negative = log_sum_exp(jnp.where(others, scores, -jnp.inf), 1)
  return jax.nn.softplus(negative - positive)


def gradient_penalty(
  critic: Critic, x: jax.Array, y: jax.Array, other: jax.Array, key: jax.Array
) -> jax.Array:
  r"""How far a critic's slope is from 1, on lines between true and independent pairs.

  .. math::
    \ell_i = \bigl(\lVert \nabla f(x_i, \hat y_i) \rVert - 1\bigr)^2, \qquad
    \hat y_i = u_i y_i + (1 - u_i) y^-_i

  with :math:`u_i` uniform in [0, 1] and the gradient with respect to both arguments. Its usual
  weight is 10.

  Args:
    critic: scores one ``x`` with one ``y``, without a batch axis; a scalar.
    x: ``[batch, ...]``.
    y: ``[batch, ...]``, row-aligned with ``x``.
    other: partners from other pairs, such as ``jnp.roll(y, 1, 0)``; same shape as ``y``.
    key: draws the places on the lines.

  Returns:
    Penalty per pair, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if ``x`` and ``y`` are not of one length, or ``other`` not of the shape of ``y``.

  References:
    Gulrajani et al., `Improved Training of Wasserstein GANs <https://arxiv.org/abs/1704.00028>`_,
    2017, section 4.
    Ozair et al., `Wasserstein Dependency Measure for Representation Learning
    <https://arxiv.org/abs/1903.11780>`_, 2019.
  """
  _check_one_length(x, y)
  if jnp.shape(other) != jnp.shape(y):
    raise ValueError(f"expected other of shape {jnp.shape(y)}, got {jnp.shape(other)}")
  x, y, other = map(at_least_float32, (x, y, other))
  # Drawn in float32 whatever comes in, so that the places do not depend on it.
  place = (
    jax.random.uniform(key, (len(y),), jnp.float32)
    .astype(y.dtype)
    .reshape(-1, *(1,) * (y.ndim - 1))
  )
  between = place * y + (1 - place) * other
  slopes = jax.vmap(jax.grad(critic, (0, 1)))(x, between)
  square = sum(jnp.sum(slope.reshape(len(y), -1) ** 2, 1) for slope in slopes)
  return (safe_sqrt(square) - 1) ** 2


def _check_one_length(x, y):
  shapes = {"x": jnp.shape(x), "y": jnp.shape(y)}
  if not all(shapes.values()) or shapes["x"][0] != shapes["y"][0]:
    raise ValueError(f"expected x and y of one length, got {shapes}")


def _score_pairs(critic, x, y, where, axis_name):
  """Scores ``[batch, total]``, those of the true pairs, and which are of others that take part."""
  _check_one_length(x, y)
  x, y = at_least_float32(x), at_least_float32(y)
  index = row_index(len(x), axis_name)
  keep = kept(where, len(x))
  all_y, all_index, all_keep = gather((y, index, keep), axis_name)
  of_one = jax.vmap(critic, (None, 0))
  scores = jax.vmap(of_one, (0, None))(x, all_y)
  positive = jnp.where(keep, jax.vmap(critic)(x, y), 0)
  others = keep[:, None] & all_keep[None, :] & (index[:, None] != all_index[None, :])
  return scores, positive, others
