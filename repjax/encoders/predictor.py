"""A transformer that says of some places what it gathers from tokens at others."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.encoders.positions import sincos_2d
from repjax.encoders.transformer import Block, Implementation, dense, norm


class TokenPredictor(nn.Module):
  """Narrow transformer over given tokens and over mask tokens at the places asked for.

  MAE's decoder, with pixels as ``out``; the predictor of I-JEPA, with the encoder's width; T-JEPA's
  with ``positions="learned"``, a place being a column of a table.

  Attributes:
    dim: its own width.
    depth: number of blocks.
    heads: attention heads; divides ``dim``.
    out: width of what is predicted.
    grid: rows and columns of places; ``(1, n)`` for a sequence or a table.
    mlp_ratio: width of the feed-forward layers over ``dim``.
    positions: ``sincos``, fixed, or ``learned``.
    dtype: of the computation.
    attention: implementation of the attention.

  References:
    He et al., `Masked Autoencoders Are Scalable Vision Learners
    <https://arxiv.org/abs/2111.06377>`_, 2021, section 3.
    Assran et al., `Self-Supervised Learning from Images with a Joint-Embedding Predictive
    Architecture <https://arxiv.org/abs/2301.08243>`_, 2023, section 3.
  """

  dim: int
  depth: int
  heads: int
  out: int
  grid: tuple[int, int]
  mlp_ratio: float = 4
  positions: Literal["sincos", "learned"] = "sincos"
  dtype: DTypeLike = jnp.float32
  attention: Implementation = "auto"

  @nn.compact
  def __call__(
    self, tokens: jax.Array, at: jax.Array, targets: jax.Array, *, train: bool = False
  ) -> jax.Array:
    """Predicts.

    Args:
      tokens: what is given, ``[batch, given, width]``.
      at: their places in the raveled grid, ``[batch, given]`` int32.
      targets: places asked for, ``[batch, asked]`` int32.
      train: without effect; every head takes it.

    Returns:
      ``[batch, asked, out]``.

    Raises:
      ValueError: if tokens and places differ in number.
    """
    del train
    if tokens.shape[:2] != at.shape:
      raise ValueError(f"{tokens.shape[:2]} tokens have {at.shape} places; give one place a token")
    init = nn.initializers.normal(0.02)
    if self.positions == "learned":
      table = self.param("positions", init, (self.grid[0] * self.grid[1], self.dim))
    else:
      table = jnp.asarray(sincos_2d(self.grid, self.dim))
    table = table.astype(self.dtype)
    mask_token = self.param("mask_token", init, (self.dim,)).astype(self.dtype)
    given = dense(self.dim, self.dtype, "embed")(tokens) + table[at]
    x = jnp.concatenate([given, mask_token[None, None] + table[targets]], 1)
    for i in range(self.depth):
      mlp_dim = int(self.mlp_ratio * self.dim)
      x = Block(self.heads, mlp_dim, self.dtype, self.attention, name=f"block_{i}")(x)
    x = norm(self.dtype, "norm")(x[:, at.shape[1] :])
    return dense(self.out, self.dtype, "out")(x)
