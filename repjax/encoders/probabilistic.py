"""The two halves of a probabilistic autoencoder."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.encoders.mlp import MLP


class Gaussian(NamedTuple):
  """A distribution of codes with independent coordinates.

  Attributes:
    mean: ``[batch, dim]``.
    log_std: ``[batch, dim]``.
  """

  mean: jax.Array
  log_std: jax.Array


class Decoded(NamedTuple):
  """What a decoder makes of codes.

  Attributes:
    output: parameters of the distribution of inputs, in the shape of an input.
    hidden: ``[batch, places, dim]``, the states that the output is read from.
  """

  output: jax.Array
  hidden: jax.Array


class GaussianEncoder(nn.Module):
  """Dense layers from an input to the distribution of its code.

  Attributes:
    dims: widths of the hidden layers.
    latent: width of the code.
  """

  dims: Sequence[int]
  latent: int

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> Gaussian:
    """Maps ``[batch, ...]`` to a distribution of ``[batch, latent]``."""
    x = x.reshape(len(x), -1)
    y = MLP((*self.dims, 2 * self.latent), activation=nn.gelu, name="mlp")(x, train=train)
    mean, log_std = jnp.split(y, 2, -1)
    # Neither certain beyond float32 nor wider than any prior.
    return Gaussian(mean, jnp.clip(log_std, -6, 2))


class DenseDecoder(nn.Module):
  """Dense layers from a code to an input.

  Attributes:
    dims: widths of the hidden layers.
    shape: of an input.
  """

  dims: Sequence[int]
  shape: Sequence[int]

  @nn.compact
  def __call__(self, code: jax.Array, *, train: bool = False) -> Decoded:
    """Maps ``[batch, latent]`` to inputs and to the last hidden layer, at one place."""
    hidden = nn.gelu(MLP(self.dims, activation=nn.gelu, name="mlp")(code, train=train))
    size = 1
    for side in self.shape:
      size *= side
    output = nn.Dense(size, name="out")(hidden)
    return Decoded(output.reshape(-1, *self.shape), hidden[:, None])
