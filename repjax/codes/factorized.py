"""How many bits a latent takes under a learnt density of each channel."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


def add_unit_noise(key: jax.Array, latent: jax.Array) -> jax.Array:
  """Adds noise of unit width, which stands for rounding while a code is trained.

  Args:
    key: of the draw.
    latent: any shape, floating.

  Returns:
    ``latent + u`` with u uniform on (-1/2, 1/2), whose gradient is that of ``latent``.

  References:
    Ballé et al., `Variational image compression with a scale hyperprior
    <https://arxiv.org/abs/1802.01436>`_, 2018, equation 4.
  """
  return latent + jax.random.uniform(key, latent.shape, latent.dtype, -0.5, 0.5)


class FactorizedPrior(nn.Module):
  r"""Code lengths under a density without a form, one for each channel.

  .. math:: -\log_2 \big( c(y + \tfrac12) - c(y - \tfrac12) \big), \qquad
    c = \sigma \circ f_K \circ \dots \circ f_1, \qquad f_k(x) = g_k(H_k x + b_k), \qquad
    g_k(x) = x + a_k \odot \tanh(x)

  with :math:`H_k \ge 0` and :math:`\lvert a_k \rvert < 1`, so that the cumulative c rises
  everywhere; :math:`g_K` is the identity. Of a rounded latent this is the length that an ideal
  entropy coder comes to, of one with `add_unit_noise` its stand-in that has a gradient. Lengths are
  found in logarithms and need no floor. Latents are rounded to integers, as in the paper; later
  code rounds about the medians.

  Attributes:
    channels: of the latents.
    widths: :math:`r_1, \dots, r_{K-1}`, the sizes between; none for a logistic density.
    init_scale: width of the density at first; 10 in the authors' code.

  References:
    Ballé et al., `Variational image compression with a scale hyperprior
    <https://arxiv.org/abs/1802.01436>`_, 2018, equations 6 and 29 and appendix 6.1.
  """

  channels: int
  widths: Sequence[int] = (3, 3, 3)
  init_scale: float = 10.0

  def setup(self):
    """Makes the parameters of each layer."""
    sizes = (1, *self.widths, 1)
    scale = self.init_scale ** (1 / (len(sizes) - 1))
    layers = []
    for k, (size, out) in enumerate(itertools.pairwise(sizes)):
      level = nn.initializers.constant(np.log(np.expm1(1 / scale / out)))
      spread = lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -0.5, 0.5)
      factor = None
      if k < len(self.widths):
        factor = self.param(f"factor_{k}", nn.initializers.zeros_init(), (self.channels, out))
      layers.append(
        (
          self.param(f"kernel_{k}", level, (self.channels, out, size)),
          self.param(f"bias_{k}", spread, (self.channels, out)),
          factor,
        )
      )
    self.layers = layers

  def cumulative_logits(self, latent: jax.Array) -> jax.Array:
    """Logits of the cumulative distribution.

    Args:
      latent: ``[..., channels]``, floating.

    Returns:
      Same shape, float32: their sigmoid is the probability of what is smaller.

    Raises:
      ValueError: if the last axis is not that of the channels.
    """
    if latent.shape[-1:] != (self.channels,):
      raise ValueError(f"expected latents [..., {self.channels}], got {latent.shape}")
    shape = latent.shape
    x = latent.astype(jnp.float32).reshape(-1, self.channels, 1)
    for kernel, bias, factor in self.layers:
      x = jnp.einsum("nci,coi->nco", x, jax.nn.softplus(kernel)) + bias[None]
      if factor is not None:
        x = x + jnp.tanh(factor)[None] * jnp.tanh(x)
    return x.reshape(shape)

  def __call__(self, latent: jax.Array) -> jax.Array:
    """Length of each latent's code.

    Args:
      latent: ``[..., channels]``, rounded, or with noise in training.

    Returns:
      Bits, same shape, float32, above 0.

    Raises:
      ValueError: if the last axis is not that of the channels.
    """
    latent = latent.astype(jnp.float32)
    lower, upper = self.cumulative_logits(latent - 0.5), self.cumulative_logits(latent + 0.5)
    # In the upper tail both sigmoids are 1; those of the mirror image differ.
    mirrored = lower + upper > 0
    high, low = jnp.where(mirrored, -lower, upper), jnp.where(mirrored, -upper, lower)
    high, low = jax.nn.log_sigmoid(high), jax.nn.log_sigmoid(low)
    gap = jnp.maximum(high - low, 1e-30)
    return -(high + jnp.log(-jnp.expm1(-gap))) / np.float32(np.log(2))
