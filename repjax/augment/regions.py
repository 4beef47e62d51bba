"""Regions of one image that stand out: what is written on a page, and its letters."""

import jax
import jax.numpy as jnp
from jax import lax


def smaller_cluster(image: jax.Array, *, iterations: int = 10) -> jax.Array:
  """Tells the pixels of the smaller of two clusters of brightness, which is what is written.

  Two means, which start at the least and the greatest brightness.

  Args:
    image: ``[h, w, c]``, floating; brightness is the mean over channels.
    iterations: of Lloyd's algorithm.

  Returns:
    ``[h, w]`` bool.
  """
  light = jnp.mean(image, -1)

  def step(_, means):
    upper = jnp.abs(light - means[1]) < jnp.abs(light - means[0])
    mean = lambda where: jnp.sum(jnp.where(where, light, 0)) / jnp.maximum(jnp.sum(where), 1)
    return jnp.stack([mean(~upper), mean(upper)])

  means = lax.fori_loop(0, iterations, step, jnp.stack([jnp.min(light), jnp.max(light)]))
  upper = jnp.abs(light - means[1]) < jnp.abs(light - means[0])
  return jnp.where(2 * jnp.sum(upper) > light.size, ~upper, upper)


def connected_regions(mask: jax.Array, count: int, *, least: int = 1) -> jax.Array:
  """Parts of a mask that hang together, by sides or corners, from left to right.

  Args:
    mask: ``[h, w]`` bool.
    count: how many are returned; the leftmost, if there are more.
    least: smaller ones, in pixels, are left out.

  Returns:
    ``[count, h, w]`` bool, ordered by the mean of their columns; empty ones at the end if there
    are fewer.
  """
  height, width = mask.shape
  size = height * width
  start = jnp.where(mask, 1 + jnp.arange(size, dtype=jnp.int32).reshape(height, width), 0)

  def spread(state):
    before, _ = state
    window = {"window_dimensions": (3, 3), "window_strides": (1, 1), "padding": "SAME"}
    near = lax.reduce_window(before, jnp.int32(0), lax.max, **window)
    # The label of the pixel that a label names: paths of any length take few steps.
    far = jnp.append(jnp.zeros(1, jnp.int32), near.ravel())[near]
    after = jnp.where(mask, jnp.maximum(near, far), 0)
    return after, jnp.any(after != before)

  labels = lax.while_loop(lambda state: state[1], spread, (start, jnp.any(mask)))[0].ravel()
  ones = jnp.ones(size, jnp.int32)
  pixels = jax.ops.segment_sum(ones, labels, size + 1)
  columns = jax.ops.segment_sum(jnp.arange(size, dtype=jnp.int32) % width, labels, size + 1)
  kept = (pixels >= max(least, 1)).at[0].set(False)
  place = jnp.where(kept, columns / jnp.maximum(pixels, 1), jnp.inf)
  order = jnp.argsort(place)[:count]
  found = (labels[None] == order[:, None]) & kept[order][:, None]
  return found.reshape(count, height, width)
