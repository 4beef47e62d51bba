"""Codes of the parts of an input, and what a causal net makes of those so far."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.encoders.features import Features
from repjax.encoders.mlp import MLP
from repjax.encoders.positions import patchify


class PatchMLP(nn.Module):
  """Each patch by itself through dense layers: rows of an image with ``(1, width)``.

  Attributes:
    patch_size: side of a patch in pixels, or (height, width).
    dims: widths of the layers.
    dtype: of the computation.
  """

  patch_size: int | tuple[int, int]
  dims: Sequence[int]
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: without effect; every encoder takes it.

    Returns:
      Features; ``tokens`` in raster order, ``pooled`` their mean.
    """
    tokens = MLP(self.dims, dtype=self.dtype, name="mlp")(patchify(image, self.patch_size))
    return Features(jnp.mean(tokens, 1), tokens, (tokens,))


class GRU(nn.Module):
  """A gated recurrent net over a sequence, from its first element on.

  Attributes:
    dim: width of its state.

  References:
    Cho et al., `Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
    Translation <https://arxiv.org/abs/1406.1078>`_, 2014, section 2.3.
  """

  dim: int

  @nn.compact
  def __call__(self, tokens: jax.Array, *, train: bool = False) -> jax.Array:
    """Maps ``[batch, tokens, in]`` to its states ``[batch, tokens, dim]``."""
    del train
    return nn.RNN(nn.GRUCell(self.dim), name="rnn")(tokens)
