"""Set Transformer: attention over a set through a few induced points, and pooling by attention."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32, split_batch
from repjax.encoders.deep_sets import check_set
from repjax.encoders.features import Features
from repjax.encoders.transformer import check_heads, dense, norm


class SetAttention(nn.Module):
  """Multi-head attention block of one set over another, MAB.

  The paper adds the queries to what they find; its code, followed here, adds the projected queries,
  has no projection of the heads' output, and divides scores by the root of the whole width.

  Attributes:
    dim: width of the result.
    heads: number of heads; divides ``dim``.
    layer_norm: whether both sums are normalised.
    dtype: of the computation; scores and their softmax are float32.

  References:
    Lee et al., `Set Transformer <https://arxiv.org/abs/1810.00825>`_, 2018, equations 6 and 7, and
    the official code, ``MAB``.
  """

  dim: int
  heads: int
  layer_norm: bool = False
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, queries: jax.Array, elements: jax.Array, where: jax.Array | None = None
  ) -> jax.Array:
    """Attends.

    Args:
      queries: ``[batch, m, any]``.
      elements: ``[batch, n, any]``.
      where: ``[batch, n]`` boolean, the elements that are there; all if absent.

    Returns:
      ``[batch, m, dim]``. Queries that have nothing to attend over find 0.
    """
    split = lambda x: x.reshape(*x.shape[:2], self.heads, self.dim // self.heads)
    query = dense(self.dim, self.dtype, "query")(queries)
    key = dense(self.dim, self.dtype, "key")(elements)
    value = dense(self.dim, self.dtype, "value")(elements)
    scores = jnp.einsum("bqhd,bkhd->bhqk", at_least_float32(split(query)), split(key))
    there = None if where is None else where[:, None, None]
    weights = jax.nn.softmax(scores * self.dim**-0.5, where=there)
    found = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(self.dtype), split(value))
    x = query + found.reshape(query.shape)
    x = norm(self.dtype, "norm_1")(x) if self.layer_norm else x
    x = x + nn.relu(dense(self.dim, self.dtype, "out")(x))
    return norm(self.dtype, "norm_2")(x) if self.layer_norm else x


class InducedAttention(nn.Module):
  """A set attends over what a few learned points found in it, ISAB: linear in the set's size.

  Attributes:
    dim: width of the result.
    heads: number of heads.
    points: number of induced points.
    layer_norm: whether sums are normalised.
    dtype: of the computation.

  References:
    Lee et al., 2018, equations 9 and 10.
  """

  dim: int
  heads: int
  points: int
  layer_norm: bool = False
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, elements: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Maps ``[batch, n, any]`` to ``[batch, n, dim]``; ``where [batch, n]``: what is there."""
    shape = (self.dim, self.heads, self.layer_norm, self.dtype)
    points = learned_set(self, "points", self.points, self.dim, len(elements))
    seen = SetAttention(*shape, name="gather")(points, elements, where)
    return SetAttention(*shape, name="spread")(elements, seen)


class SetTransformer(nn.Module):
  """Induced attention over a set, pooling by learned seeds, and attention among these.

  Attributes:
    dim: width.
    depth: induced attention blocks over the elements.
    heads: attention heads; divides ``dim``.
    points: induced points of each block; 0 for attention of all elements to all (SAB).
    seeds: vectors that the set is pooled to.
    pooled_depth: attention blocks among the seeds.
    layer_norm: whether blocks are normalised; the paper's clustering does without.
    dtype: of the computation; parameters are float32.

  References:
    Lee et al., `Set Transformer: A Framework for Attention-based Permutation-Invariant Neural
    Networks <https://arxiv.org/abs/1810.00825>`_, 2018, section 3.
    As the official code does, pooling leaves out the feed-forward layer over the elements.
  """

  dim: int = 128
  depth: int = 2
  heads: int = 4
  points: int = 32
  seeds: int = 1
  pooled_depth: int = 2
  layer_norm: bool = False
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, elements: jax.Array, *, train: bool = False, where: jax.Array | None = None
  ) -> Features:
    """Encodes sets.

    Args:
      elements: ``[batch, n, any]``, floating.
      train: without effect; every encoder takes it.
      where: ``[batch, n]`` boolean, the elements that are there, for sets of unequal size; all if
        absent. The others change nothing but their own tokens.

    Returns:
      Features. ``tokens [batch, n, dim]`` are the elements after the last block over them,
      ``pooled [batch, seeds * dim]`` the seeds side by side; ``layers`` are the elements after each
      block, then the seeds ``[batch, seeds, dim]`` after pooling and after each block.

    Raises:
      ValueError: if ``elements`` is not rank 3, ``where`` does not fit it, or ``heads`` does not
        divide ``dim``.
    """
    check_set(elements, where)
    check_heads(self.dim, self.heads)
    shape = (self.dim, self.heads, self.layer_norm, self.dtype)
    x, layers = elements.astype(self.dtype), []
    for i in range(self.depth):
      x = split_batch(x)
      if self.points:
        block = InducedAttention(*shape[:2], self.points, *shape[2:], name=f"block_{i}")
        x = block(x, where)
      else:
        x = SetAttention(*shape, name=f"block_{i}")(x, x, where)
      layers.append(x)
    tokens = x
    seeds = learned_set(self, "seeds", self.seeds, self.dim, len(x))
    x = SetAttention(*shape, name="pool")(seeds, x, where)
    layers.append(x)
    for i in range(self.pooled_depth):
      x = SetAttention(*shape, name=f"pooled_block_{i}")(x, x)
      layers.append(x)
    return Features(x.reshape(len(x), -1), tokens, tuple(layers))


def learned_set(module: nn.Module, name: str, count: int, dim: int, batch: int) -> jax.Array:
  """A learned set, the same for every example; to be called inside a compact module.

  Args:
    module: whose parameter it is, with a ``dtype``.
    name: of the parameter.
    count: elements.
    dim: width.
    batch: examples.

  Returns:
    ``[batch, count, dim]``.
  """
  table = module.param(name, nn.initializers.xavier_uniform(), (count, dim)).astype(module.dtype)
  return jnp.broadcast_to(table, (batch, count, dim))
