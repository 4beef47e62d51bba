"""Shortcuts: whether a model prefers the feature that is easy to the one that is right."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32


class Conflict(NamedTuple):
  """Inputs that two latent features describe.

  Attributes:
    inputs: ``[n, dim]``.
    labels: ``[n]`` int32, 0 or 1.
    latents: ``[n, 2]``, the shortcut's value and the core's; positive speaks for label 1.
  """

  inputs: jax.Array
  labels: jax.Array
  latents: jax.Array


def two_features(
  key: jax.Array,
  *,
  size: int,
  predictivity: jax.Array,
  availability: jax.Array,
  dim: int,
  noise: float = 0.0,
) -> Conflict:
  r"""Draws a data set of a shortcut and a core feature of given predictivity and availability.

  .. math:: z_i \sim N(\pm \Phi^{-1}(\rho_i), 1), \qquad
    x = \alpha_s z_s w_s + \alpha_c z_c w_c + \epsilon

  by the sign of the label, which is even. :math:`\rho_i` is how often the sign of :math:`z_i` is
  right; :math:`\alpha_i` by how much it is amplified along its direction :math:`w_i`, one of two
  drawn orthogonal ones. `embed` puts other latents along the same two, given the same key.

  Args:
    key: of everything.
    size: n.
    predictivity: ``[2]``, of shortcut and core, between 0.5 and 1.
    availability: ``[2]``, of shortcut and core, > 0.
    dim: of the inputs, two or more.
    noise: standard deviation of :math:`\epsilon` in each dimension.

  Returns:
    The inputs, float32.

  References:
    Hermann et al., `On the Foundations of Shortcut Learning <https://arxiv.org/abs/2310.16228>`_,
    2023, section 2. Its numbers were not at hand; nesting, its second kind of availability, is
    left out.
  """
  k_label, k_latent, k_noise = jax.random.split(jax.random.fold_in(key, 1), 3)
  labels = jax.random.bernoulli(k_label, shape=(size,)).astype(jnp.int32)
  centre = separation(predictivity)
  latents = (2 * labels - 1)[:, None] * centre[None] + jax.random.normal(k_latent, (size, 2))
  inputs = embed(key, latents, availability=availability, dim=dim)
  inputs = inputs + noise * jax.random.normal(k_noise, inputs.shape)
  return Conflict(inputs, labels, latents)


def separation(predictivity: jax.Array) -> jax.Array:
  """Mean of a unit Gaussian whose sign is right that often.

  Args:
    predictivity: any shape, between 0 and 1.

  Returns:
    Same shape, float32.
  """
  return jax.scipy.special.ndtri(at_least_float32(jnp.asarray(predictivity)))


def embed(key: jax.Array, latents: jax.Array, *, availability: jax.Array, dim: int) -> jax.Array:
  """Puts latent values along the directions that `two_features` draws from the same key.

  Args:
    key: that of `two_features`.
    latents: ``[n, 2]``.
    availability: ``[2]``.
    dim: of the inputs.

  Returns:
    ``[n, dim]`` float32.

  Raises:
    ValueError: if ``dim`` has no room for two directions.
  """
  if dim < 2:
    raise ValueError(f"{dim=} has no room for two directions; give 2 or more")
  directions = jax.random.orthogonal(jax.random.fold_in(key, 0), dim)[:2]
  scaled = latents * at_least_float32(jnp.asarray(availability))[None]
  return jnp.matmul(scaled, directions, precision="highest")


def reliance(decisions: jax.Array, latents: jax.Array) -> jax.Array:
  r"""How much more often decisions follow the first feature than the second where these conflict.

  Args:
    decisions: ``[n]``, positive for label 1: logits, or signs.
    latents: ``[n, 2]``; rows whose two signs agree say nothing and are left out.

  Returns:
    Scalar float32 between -1, the second alone, and 1, the first alone; undefined without conflict.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Hermann et al., `On the Foundations of Shortcut Learning <https://arxiv.org/abs/2310.16228>`_,
    2023, section 2.
  """
  shapes = jnp.shape(decisions), jnp.shape(latents)
  if len(shapes[0]) != 1 or shapes[1] != (*shapes[0], 2):
    raise ValueError(f"expected decisions [n] and latents [n, 2], got {shapes[0]} and {shapes[1]}")
  signs = jnp.sign(latents)
  conflict = signs[:, 0] * signs[:, 1] < 0
  follows = jnp.sign(at_least_float32(decisions)) * signs[:, 0]
  return jnp.mean(follows, where=conflict)


def shortcut_bias(
  decisions: jax.Array, latents: jax.Array, *, predictivity: jax.Array
) -> jax.Array:
  r"""Reliance on the shortcut beyond what the best classifier has.

  The best one decides by the sign of :math:`\sum_i \Phi^{-1}(\rho_i) z_i`, whatever the
  availability.

  Args:
    decisions: ``[n]``, positive for label 1.
    latents: ``[n, 2]``, shortcut and core, such as a grid of probes.
    predictivity: ``[2]``, of the data that the model was trained on.

  Returns:
    Scalar float32 between -2 and 2; 0 for the best classifier, positive for a bias to the shortcut.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Hermann et al., `On the Foundations of Shortcut Learning <https://arxiv.org/abs/2310.16228>`_,
    2023, section 2.
  """
  best = jnp.sum(latents * separation(predictivity)[None], 1)
  return reliance(decisions, latents) - reliance(best, latents)
