"""Mutual information from distances to nearest neighbours, without a model."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import digamma

from repjax.arrays import at_least_float32


def ksg_information(
  x: jax.Array, y: jax.Array, *, neighbours: int = 3, rows: int = 256
) -> jax.Array:
  r"""Kraskov, Stögbauer and Grassberger's first estimator.

  .. math::
    \psi(k) + \psi(n) - \frac{1}{n} \sum_i \big(\psi(n^x_i + 1) + \psi(n^y_i + 1)\big)

  where :math:`n^x_i` other points are nearer to point i in x than its k-th neighbour is in the
  larger of both distances, each of them a largest coordinate difference.

  In nats; nearly 0 on average for independent variables, of either sign and not clipped. Elsewhere
  it is too small where there are few points for the number of dimensions or for the information, of
  which n points show about :math:`\log n`; more neighbours mean less variance and more bias. It
  changes a little with the scale of coordinates, though the information does not: give them one
  scale first. Equal values break its assumptions: add a little noise to rounded data.

  Args:
    x: ``[n, dim_x]``.
    y: ``[n, dim_y]``, row-aligned with ``x``.
    neighbours: k, from 1 to ``n - 1``; the authors take 2 to 4, benchmarks up to 10.
    rows: points of a tile; memory holds ``[rows, n]`` distances.

  Returns:
    Scalar.

  Raises:
    ValueError: if shapes do not fit or there are no more points than neighbours.

  References:
    Kraskov et al., `Estimating mutual information <https://arxiv.org/abs/cond-mat/0305641>`_, 2004,
    eq. 8.
  """

  def terms(gap_x, gap_y, near):
    # Compared with the very numbers that the k-th neighbour is taken from: no rounding in between.
    radius = jnp.max(jnp.maximum(gap_x[near], gap_y[near]))
    return tuple(digamma(1.0 + jnp.sum(gap < radius)) for gap in (gap_x, gap_y))

  term_x, term_y, n = _of_each_point(terms, x, y, neighbours, rows)
  return digamma(jnp.asarray(neighbours, term_x.dtype)) + digamma(n) - jnp.mean(term_x + term_y)


def ksg_information_2(
  x: jax.Array, y: jax.Array, *, neighbours: int = 3, rows: int = 256
) -> jax.Array:
  r"""Kraskov, Stögbauer and Grassberger's second estimator, with a box instead of a cube.

  .. math::
    \psi(k) - \frac{1}{k} + \psi(n) - \frac{1}{n} \sum_i \big(\psi(n^x_i) + \psi(n^y_i)\big)

  where :math:`n^x_i` other points are no further from point i in x than the furthest in x of its k
  nearest neighbours, likewise for y. More variance and, in several dimensions, less bias than
  `ksg_information`, whose notes hold here too.

  Args:
    x: ``[n, dim_x]``.
    y: ``[n, dim_y]``, row-aligned with ``x``.
    neighbours: k, from 1 to ``n - 1``.
    rows: points of a tile; memory holds ``[rows, n]`` distances.

  Returns:
    Scalar.

  Raises:
    ValueError: if shapes do not fit or there are no more points than neighbours.

  References:
    Kraskov et al., `Estimating mutual information <https://arxiv.org/abs/cond-mat/0305641>`_, 2004,
    eq. 9.
  """

  def terms(gap_x, gap_y, near):
    return tuple(
      digamma(jnp.sum(gap <= jnp.max(gap[near])).astype(gap.dtype)) for gap in (gap_x, gap_y)
    )

  term_x, term_y, n = _of_each_point(terms, x, y, neighbours, rows)
  k = jnp.asarray(neighbours, term_x.dtype)
  return digamma(k) - 1 / k + digamma(n) - jnp.mean(term_x + term_y)


def _of_each_point(terms, x, y, neighbours, rows):
  shapes = {"x": jnp.shape(x), "y": jnp.shape(y)}
  if any(len(shape) != 2 for shape in shapes.values()) or shapes["x"][0] != shapes["y"][0]:
    raise ValueError(f"expected x [n, dim_x] and y [n, dim_y], got {shapes}")
  n = len(x)
  if not 1 <= neighbours < n:
    raise ValueError(f"{n} points have no {neighbours} neighbours each; take 1 to {n - 1}")
  dtype = jnp.promote_types(at_least_float32(x).dtype, at_least_float32(y).dtype)
  x, y = jnp.asarray(x, dtype), jnp.asarray(y, dtype)

  def of_point(i):
    # A point is no neighbour of itself: infinitely far in both.
    own = jnp.arange(n) == i
    gaps = [jnp.where(own, jnp.inf, jnp.max(jnp.abs(z - z[i][None]), 1)) for z in (x, y)]
    near = lax.top_k(-jnp.maximum(*gaps), neighbours)[1]
    return jnp.stack(terms(*gaps, near)).astype(dtype)

  found = lax.map(of_point, jnp.arange(n), batch_size=min(rows, n))
  return found[:, 0], found[:, 1], jnp.asarray(n, dtype)
