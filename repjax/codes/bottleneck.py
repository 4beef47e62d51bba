"""A learnt code in the middle of a net: analysis, rounding, synthesis, and what it costs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.codes.factorized import FactorizedPrior, add_unit_noise


class Coded(NamedTuple):
  """What comes out of a bottleneck.

  Attributes:
    decoded: what the receiver makes of the code.
    bits: ``[batch]`` float32, length of each example's code.
    latent: what was coded, rounded or with noise, ``[batch, ..., channels]``.
  """

  decoded: jax.Array
  bits: jax.Array
  latent: jax.Array


class Bottleneck(nn.Module):
  """Sends inputs through integers whose number of bits has a gradient.

  Attributes:
    analysis: ``[batch, ...] -> [batch, ..., channels]``, the sender's side.
    synthesis: ``[batch, ..., channels] -> [batch, ...]``, the receiver's.
    prior: of as many channels; both sides know it.

  References:
    Ballé et al., `Variational image compression with a scale hyperprior
    <https://arxiv.org/abs/1802.01436>`_, 2018, section 2 (the factorised prior).
  """

  analysis: nn.Module
  synthesis: nn.Module
  prior: FactorizedPrior

  def __call__(self, x: jax.Array, *, keys: jax.Array | None = None) -> Coded:
    """Codes and decodes.

    Args:
      x: ``[batch, ...]``.
      keys: ``[batch]``, with which noise stands for rounding; latents are rounded if absent, and no
        gradient reaches the sender through what is decoded.

    Returns:
      The result, its bits and the code.
    """
    latent = self.analysis(x)
    latent = jnp.round(latent) if keys is None else jax.vmap(add_unit_noise)(keys, latent)
    bits = jnp.sum(self.prior(latent).reshape(len(x), -1), 1)
    return Coded(self.synthesis(latent), bits, latent)
