"""Augmentations that say what they did: ``(key, example) -> (example, parameters)``."""

import math

import jax
import jax.numpy as jnp

from repjax.augment.colour import adjust_hue
from repjax.augment.geometry import check_image, warp


def turn_and_tint(
  key: jax.Array, image: jax.Array, *, degrees: float = 180.0, hue: float = 0.5
) -> tuple[jax.Array, jax.Array]:
  """Turns the image about its centre and shifts its hue, each uniformly at random.

  Args:
    key: for one image.
    image: ``[h, w, c]``, floating; colour in [0, 1], or grey, whose hue does not change.
    degrees: greatest angle either way; a positive angle turns anticlockwise, as ``np.rot90``.
    hue: greatest shift either way, in turns of the colour circle.

  Returns:
    The image, same shape, black where it comes from outside; and ``[2]``, the angle in radians and
    the shift in turns.

  Raises:
    ValueError: if ``image`` is not one floating image.
  """
  check_image(image)
  drawn = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
  parameters = drawn * jnp.array([math.radians(degrees), hue])
  cos, sin = jnp.cos(parameters[0]), jnp.sin(parameters[0])
  turned = warp(image, jnp.array([[cos, sin, 0], [-sin, cos, 0]]))
  return adjust_hue(turned, parameters[1]), parameters


def turn_and_tint_between(parameters_1: jax.Array, parameters_2: jax.Array) -> jax.Array:
  """What leads from one view of `turn_and_tint` to another.

  Args:
    parameters_1: of the first view, ``[..., 2]``.
    parameters_2: of the second view, same shape.

  Returns:
    ``[..., 4]``: cosine and sine of the angle between the views, and of the angle on the colour
    circle between their hues.
  """
  angles = (parameters_2 - parameters_1) * jnp.array([1, 2 * math.pi])[
    (None,) * (parameters_1.ndim - 1)
  ]
  turn, tint = angles[..., 0], angles[..., 1]
  return jnp.stack([jnp.cos(turn), jnp.sin(turn), jnp.cos(tint), jnp.sin(tint)], -1)
