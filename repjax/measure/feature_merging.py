"""How many units of a layer differ, told from weights alone."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32


class Merged(NamedTuple):
  """A layer after merging.

  Attributes:
    incoming: ``[units, fan_in]`` weights into what is left, 0 for units that are gone.
    outgoing: ``[units, fan_out]`` weights out of what is left, 0 for units that are gone.
    sizes: ``[units]`` how many units each stands for; 0 where gone.
    distances: ``[units]`` at which each was merged into another; infinite where it stayed.
  """

  incoming: jax.Array
  outgoing: jax.Array
  sizes: jax.Array
  distances: jax.Array


def merge_features(
  incoming: jax.Array,
  outgoing: jax.Array,
  *,
  threshold: float | jax.Array,
  least: int | jax.Array = 1,
) -> Merged:
  r"""Iterative feature merging: the two units that are most alike become one, again and again.

  Two units of sizes a and b become one of incoming weights :math:`(a u + b v) / (a + b)` and of
  outgoing weights that are the sum of both, while the nearest two are no farther apart than

  .. math:: \frac{\lVert u - v \rVert}{\sqrt{(\lVert u \rVert^2 + \lVert v \rVert^2) / 2}}
    \leq \beta

  so that units with equal incoming weights merge without any change to what the network computes.
  The share of units that are left is the layer's feature complexity, :math:`\beta` being as large
  as accuracy allows. No data are needed.

  Args:
    incoming: ``[units, fan_in]``, rows of weights into each unit, its bias among them.
    outgoing: ``[units, fan_out]``, rows of weights out of it.
    threshold: :math:`\beta`, 0 to 2; infinite to merge down to ``least``.
    least: units that are left in any case.

  Returns:
    What is left. Takes memory ``[units, units]`` and at most ``units`` rounds of that time.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Chen et al., `Going Beyond Neural Network Feature Similarity: The Network Feature Complexity and
    Its Interpretation Using Category Theory <https://arxiv.org/abs/2310.06756>`_, 2023,
    algorithm 1. Its text was not at hand; the relative distance and the means by size are ours.
  """
  shapes = jnp.shape(incoming), jnp.shape(outgoing)
  if [len(s) for s in shapes] != [2, 2] or shapes[0][0] != shapes[1][0]:
    raise ValueError(f"expected [units, fan_in] and [units, fan_out], got {shapes[0]}, {shapes[1]}")
  units = shapes[0][0]
  w, v = at_least_float32(incoming), at_least_float32(outgoing)
  tiny = jnp.finfo(w.dtype).tiny

  def apart(row, w):
    length = jnp.sum(w * w, 1)
    half = (jnp.sum(row * row) + length) / 2
    return jnp.sum(jnp.square(w - row[None]), 1) / jnp.maximum(half, tiny)

  def more(carry):
    _, square = carry
    return (jnp.min(square) <= threshold**2) & (jnp.sum(jnp.isfinite(carry[0].distances)) < most)

  def merge(carry):
    state, square = carry
    first, second = jnp.unravel_index(jnp.argmin(square), square.shape)
    keep, gone = jnp.minimum(first, second), jnp.maximum(first, second)
    w, v, sizes, distances = state
    both = sizes[keep] + sizes[gone]
    row = (sizes[keep] * w[keep] + sizes[gone] * w[gone]) / both
    w = w.at[keep].set(row).at[gone].set(0)
    v = v.at[keep].add(v[gone]).at[gone].set(0)
    distances = distances.at[gone].set(jnp.sqrt(square[first, second]))
    sizes = sizes.at[keep].set(both).at[gone].set(0)
    gaps = jnp.where((sizes > 0) & (jnp.arange(units) != keep), apart(row, w), jnp.inf)
    square = square.at[gone].set(jnp.inf).at[:, gone].set(jnp.inf)
    square = square.at[keep].set(gaps).at[:, keep].set(gaps)
    return Merged(w, v, sizes, distances), square

  most = units - jnp.maximum(least, 1)
  square = lax.map(lambda row: apart(row, w), w)
  square = jnp.where(jnp.eye(units, dtype=bool), jnp.inf, square)
  start = Merged(w, v, jnp.ones(units, w.dtype), jnp.full(units, jnp.inf, w.dtype))
  return lax.while_loop(more, merge, (start, square))[0]
