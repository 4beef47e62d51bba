"""A transformer over the columns of a table's row."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.encoders.features import Features
from repjax.encoders.transformer import Block, Implementation, norm


class TableTransformer(nn.Module):
  """One token a column, then pre-norm blocks.

  A numeric column's token is its value times a learned vector, plus another; a categorical one's is
  learned for each category. Where a table has both kinds, each has a vector that its columns share.

  Attributes:
    categories: for each column how many categories it has, 0 where it is numeric.
    dim: width.
    depth: number of blocks.
    heads: attention heads; divides ``dim``.
    mlp_ratio: width of the feed-forward layers over ``dim``.
    registers: learned tokens beside the columns, T-JEPA's regularisation tokens: attended over,
      left out of what comes back.
    pool: ``mean`` of the tokens, or ``flat``, all in a row, as T-JEPA's probes take them.
    dtype: of the computation.
    attention: implementation of the attention.

  References:
    Gorishniy et al., `Revisiting Deep Learning Models for Tabular Data
    <https://arxiv.org/abs/2106.11959>`_, 2021, section 3.3.
    Thimonier et al., `T-JEPA: Augmentation-Free Self-Supervised Learning for Tabular Data
    <https://arxiv.org/abs/2410.05016>`_, 2024, section 3.
  """

  categories: Sequence[int]
  dim: int
  depth: int
  heads: int
  mlp_ratio: float = 4
  registers: int = 0
  pool: Literal["mean", "flat"] = "mean"
  dtype: DTypeLike = jnp.float32
  attention: Implementation = "auto"

  @nn.compact
  def __call__(
    self, row: jax.Array, *, train: bool = False, keep: jax.Array | None = None
  ) -> Features:
    """Encodes rows.

    Args:
      row: ``[batch, columns]``, floating; categories by their number, from 0.
      train: without effect; every encoder takes it.
      keep: ``[batch, kept]`` int32, the columns that go in; all if absent.

    Returns:
      Features; ``tokens`` are those of the columns, in the order of ``keep``.

    Raises:
      ValueError: if the columns are not as many as ``categories`` has.
    """
    del train
    columns = len(self.categories)
    if row.ndim != 2 or row.shape[1] != columns:
      raise ValueError(f"expected rows [batch, {columns}] as categories has them, got {row.shape}")
    x = self._tokens(row)
    if keep is not None:
      x = jnp.take_along_axis(x, keep[..., None], 1)
    if self.registers:
      table = self.param(
        "registers", nn.initializers.normal(0.02), (self.registers, self.dim)
      ).astype(self.dtype)
      x = jnp.concatenate([jnp.broadcast_to(table, (len(x), *table.shape)), x], 1)
    layers = []
    for i in range(self.depth):
      mlp_dim = int(self.mlp_ratio * self.dim)
      x = Block(self.heads, mlp_dim, self.dtype, self.attention, name=f"block_{i}")(x)
      layers.append(x)
    tokens = norm(self.dtype, "norm")(x)[:, self.registers :]
    pooled = jnp.mean(tokens, 1) if self.pool == "mean" else tokens.reshape(len(tokens), -1)
    return Features(pooled, tokens, tuple(layers))

  def _tokens(self, row) -> jax.Array:
    sizes = np.asarray(self.categories)
    # As wide as the tokens of FT-Transformer, whose bound is one over the root of the width.
    init = nn.initializers.uniform(2 * self.dim**-0.5)
    centred = lambda *args: init(*args) - self.dim**-0.5
    shape = (len(sizes), self.dim)
    weight, bias = (self.param(name, centred, shape) for name in ("weight", "bias"))
    x = row[..., None] * weight[None] + bias[None]
    if sizes.any():
      codes = self.param("codes", centred, (int(sizes.sum()), self.dim))
      first = np.cumsum(sizes) - sizes
      code = jnp.clip(row.astype(jnp.int32), 0, np.maximum(sizes - 1, 0)[None]) + first[None]
      categorical = sizes > 0
      code = jnp.where(categorical[None], code, 0)
      x = jnp.where(categorical[None, :, None], codes[code] + bias[None], x)
      if not categorical.all():
        kinds = self.param("kinds", nn.initializers.normal(0.02), (2, self.dim))
        x = x + kinds[categorical.astype(int)][None]
    return x.astype(self.dtype)
