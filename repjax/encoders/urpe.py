"""Universal relative positions: attention weights times a Toeplitz matrix."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32, check_mask, split_batch
from repjax.encoders.features import Features
from repjax.encoders.transformer import FeedForward, check_heads, dense, norm
from repjax.encoders.vit import TokensIn


class RelativeTransformer(nn.Module):
  r"""Pre-norm transformer over a sequence that knows relative positions alone, as URPE or as bias.

  .. math:: A = \mathrm{softmax}(Q K^\top / \sqrt{d} + B) \odot C, \quad
            B_{ij} = b_{i-j},\; C_{ij} = c_{i-j}

  Without C the rows of A sum to one, so that equal tokens stay equal whatever B and the depth:
  positions cannot be told. C takes that away. As in the official code, all layers share B and C,
  one for each head; here C starts at 1, where both are the same.

  Attributes:
    dim: width.
    depth: number of blocks.
    heads: attention heads; divides ``dim``.
    distance: longest distance with entries of its own, in tokens; farther ones share the last.
    universal: whether there is a C.
    causal: whether a token sees itself and earlier ones alone.
    mlp_ratio: width of the feed-forward layers over ``dim``.
    dtype: of the computation; parameters are float32.

  References:
    Luo et al., `Your Transformer May Not be as Powerful as You Expect
    <https://arxiv.org/abs/2205.13401>`_, 2022, proposition 2 and section 4.
  """

  dim: int
  depth: int
  heads: int
  distance: int = 128
  universal: bool = True
  causal: bool = False
  mlp_ratio: float = 4
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    sequence: jax.Array,
    *,
    train: bool = False,
    where: jax.Array | None = None,
    tokens_in: TokensIn | None = None,
  ) -> Features:
    """Encodes sequences.

    Args:
      sequence: ``[batch, n, any]``, floating.
      train: without effect; every encoder takes it.
      where: ``[batch, n]`` boolean, the tokens that are there; all if absent. Nobody attends to the
        others, and ``pooled`` leaves them out.
      tokens_in: ``(layer, [batch, n, dim]) -> [batch, n, dim]``, called before each block.

    Returns:
      Features; ``pooled`` is the mean of the tokens after the final norm.

    Raises:
      ValueError: if ``sequence`` is not rank 3, ``where`` does not fit it, or ``heads`` does not
        divide ``dim``.
    """
    del train
    if sequence.ndim != 3:
      raise ValueError(f"expected sequences [batch, n, any], got shape {sequence.shape}")
    check_heads(self.dim, self.heads)
    length = sequence.shape[1]
    there = jnp.ones((1, 1, 1, length), bool)
    if where is not None:
      check_mask(where, sequence.shape[:2])
      there = where[:, None, None]
    if self.causal:
      there = there & np.tri(length, dtype=bool)[None, None]
    entries = (self.heads, 2 * self.distance + 1)
    bias = toeplitz(self.param("bias", nn.initializers.zeros, entries), length)
    scale = None
    if self.universal:
      scale = toeplitz(self.param("scale", nn.initializers.ones, entries), length)

    x, layers = dense(self.dim, self.dtype, "embed")(sequence), []
    for i in range(self.depth):
      x = x if tokens_in is None else tokens_in(i, x)
      mlp_dim = int(self.mlp_ratio * self.dim)
      block = RelativeBlock(self.heads, mlp_dim, self.dtype, name=f"block_{i}")
      x = block(x, bias, scale, there)
      layers.append(x)
    tokens = norm(self.dtype, "norm")(x)
    if where is None:
      pooled = jnp.mean(tokens, 1)
    else:
      count = jnp.maximum(jnp.sum(where, 1, keepdims=True), 1).astype(self.dtype)
      pooled = jnp.sum(jnp.where(where[..., None], tokens, 0), 1) / count
    return Features(pooled, tokens, tuple(layers))


class RelativeBlock(nn.Module):
  """Pre-norm block whose attention is given its relative positions.

  Attributes:
    heads: number of attention heads.
    mlp_dim: width of the feed-forward layer.
    dtype: of the computation.
  """

  heads: int
  mlp_dim: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, x: jax.Array, bias: jax.Array, scale: jax.Array | None, there: jax.Array
  ) -> jax.Array:
    """Maps tokens.

    Args:
      x: ``[batch, n, dim]``.
      bias: ``[heads, n, n]``, added to scores.
      scale: ``[heads, n, n]``, times weights; 1 if absent.
      there: boolean, broadcast to ``[batch, heads, n, n]``: what each token may see.

    Returns:
      Same shape as ``x``.
    """
    x = split_batch(x)
    attention = RelativeAttention(self.heads, self.dtype, name="attention")
    x = x + attention(norm(self.dtype, "norm_1")(x), bias, scale, there)
    return x + FeedForward(self.mlp_dim, self.dtype, name="mlp")(norm(self.dtype, "norm_2")(x))


class RelativeAttention(nn.Module):
  """Multi-head attention with a bias on scores and a factor on weights.

  Attributes:
    heads: number of heads; divides the width.
    dtype: of the computation; scores and their softmax are float32.
  """

  heads: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, x: jax.Array, bias: jax.Array, scale: jax.Array | None, there: jax.Array
  ) -> jax.Array:
    """Attends; arguments are those of `RelativeBlock`."""
    dim = x.shape[-1]
    split = lambda y: y.reshape(*y.shape[:2], self.heads, dim // self.heads)
    query, key, value = (split(dense(dim, self.dtype, n)(x)) for n in ("query", "key", "value"))
    scores = jnp.einsum("bqhd,bkhd->bhqk", at_least_float32(query), key)
    scores = scores * query.shape[-1] ** -0.5 + bias[None]
    weights = jax.nn.softmax(scores, where=there)
    weights = weights if scale is None else weights * scale[None]
    found = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(self.dtype), value)
    return dense(dim, self.dtype, "out")(found.reshape(x.shape))


def toeplitz(entries: jax.Array, length: int) -> jax.Array:
  """Matrices that are constant along each diagonal.

  Args:
    entries: ``[heads, 2 * distance + 1]``, from i - j = -distance to distance.
    length: rows and columns; beyond ``distance`` the first and the last entry go on.

  Returns:
    ``[heads, length, length]``, entry i, j by i - j.
  """
  distance = entries.shape[1] // 2
  place = np.arange(length)
  return entries[:, np.clip(place[:, None] - place[None], -distance, distance) + distance]
