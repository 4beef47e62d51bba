"""Parts of a pre-norm transformer: attention, feed-forward layer, block, attention pooling."""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32, platform, split_batch

Implementation = Literal["auto", "xla", "cudnn"]


def dense(features: int, dtype: DTypeLike, name: str) -> Callable[[jax.Array], jax.Array]:
  """A dense layer over the last axis, as one matrix product over all the others.

  Args:
    features: width of the result.
    dtype: of the computation.
    name: of the layer among its module's parameters.

  Returns:
    ``[..., dim] -> [..., features]``; to be called inside a compact module.
  """
  init = nn.initializers.xavier_uniform()
  layer = nn.Dense(features, dtype=dtype, kernel_init=init, name=name)
  # Left unmerged, batch and token axes cost XLA's CPU backend a sixth of the training step.
  return lambda x: layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], features)


def norm(dtype: DTypeLike, name: str, *, epsilon: float = 1e-6) -> nn.LayerNorm:
  """Layer norm with the epsilon that most vision transformers share, 1e-6.

  Its backward pass starts from the input again. Otherwise XLA keeps float32 arrays of the input's
  size for it and reads them back, which costs a GPU more than the work (benchmarks/NOTES.md).

  Args:
    dtype: of the computation.
    name: of the layer among its module's parameters.
    epsilon: added to the variance; 1e-5 where a paper's code leaves PyTorch's default.

  Returns:
    The layer.
  """
  return nn.remat(nn.LayerNorm)(epsilon, dtype=dtype, name=name)


@jax.checkpoint
def gelu(x: jax.Array) -> jax.Array:
  """Exact GELU, whose backward pass starts from the input again.

  By the error function, not its complement as in `jax.nn.gelu`, which takes twice the instructions
  and differs by less than float32's rounding of 1.

  Args:
    x: any shape, floating.

  Returns:
    Same shape and dtype as ``x``.
  """
  y = at_least_float32(x)
  return (0.5 * y * (1 + lax.erf(y * math.sqrt(0.5)))).astype(x.dtype)


class Attention(nn.Module):
  """Multi-head attention of queries over a sequence.

  Attributes:
    heads: number of heads; divides the width.
    dtype: of the computation.
    implementation: ``xla`` (`attend`), ``cudnn``, or ``auto``: cuDNN where it can be, for
      attention of a sequence to itself.
  """

  heads: int
  dtype: DTypeLike = jnp.float32
  implementation: Implementation = "auto"

  @nn.compact
  def __call__(
    self, x: jax.Array, queries: jax.Array | None = None, where: jax.Array | None = None
  ) -> jax.Array:
    """Attends.

    Args:
      x: ``[batch, tokens, dim]``.
      queries: ``[batch, queries, dim]``; ``x`` itself if absent.
      where: boolean, broadcast to ``[batch, heads, queries, tokens]``: what each query may see; all
        if absent. Not for cuDNN.

    Returns:
      ``[batch, queries, dim]``.

    Raises:
      ValueError: if there is a ``where`` and the implementation is ``cudnn``.
    """
    if where is not None and self.implementation == "cudnn":
      raise ValueError("where= needs attention 'xla' or 'auto', got 'cudnn'; choose one of those")
    batch, tokens, dim = x.shape
    head_dim = dim // self.heads
    implementation = self.implementation
    if implementation == "auto":
      # cuDNN's fused kernel takes 16-bit types and heads of at most 128, in eights.
      fused = jnp.dtype(self.dtype).itemsize == 2 and head_dim <= 128 and head_dim % 8 == 0
      fused = fused and queries is None and where is None and platform() == "gpu"
      implementation = "cudnn" if fused else "xla"
    count = tokens if queries is None else queries.shape[1]
    lengths = {}
    if implementation == "cudnn" and (tokens % 2 or count % 2):
      # With cuDNN's kernel JAX, up to 0.11, trains even lengths alone; 196 patches and a class
      # token are odd. Padded here, the copy is part of the norm before and of the sum after.
      x, queries = _even(x), None if queries is None else _even(queries)
      lengths = {"key_value_seq_lengths": jnp.full(batch, tokens, jnp.int32)}
    split = lambda y: y.reshape(*y.shape[:2], self.heads, head_dim)
    query = split(dense(dim, self.dtype, "query")(x if queries is None else queries))
    key = split(dense(dim, self.dtype, "key")(x))
    value = split(dense(dim, self.dtype, "value")(x))
    if implementation == "cudnn":
      y = jax.nn.dot_product_attention(query, key, value, implementation="cudnn", **lengths)
    else:
      y = attend(query, key, value, where)
    return dense(dim, self.dtype, "out")(y.reshape(*y.shape[:2], dim))[:, :count]


def _even(x: jax.Array) -> jax.Array:
  return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0)))


def attend(
  query: jax.Array, key: jax.Array, value: jax.Array, where: jax.Array | None = None
) -> jax.Array:
  """Softmax attention in plain products, for XLA to fuse.

  The backward pass reads the weights, in the dtype of the inputs, and nothing else of their size;
  that of `jax.nn.dot_product_attention` without cuDNN also reads float32 exponentials, and
  multiplies float32 gradients of the scores. Either can be differentiated forwards.

  Args:
    query: ``[batch, queries, heads, head_dim]``.
    key: ``[batch, keys, heads, head_dim]``.
    value: same shape as ``key``.
    where: boolean, broadcast to ``[batch, heads, queries, keys]``: what each query may see; all if
      absent. Queries that may see nothing find 0.

  Returns:
    Same shape as ``query``.
  """
  scale = query.shape[-1] ** -0.5
  weights = _weights(query * jnp.asarray(scale, query.dtype), key, where)
  return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


@jax.custom_jvp
def _weights(query: jax.Array, key: jax.Array, where: jax.Array | None) -> jax.Array:
  dtype = jnp.promote_types(query.dtype, jnp.float32)
  scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=dtype)
  return jax.nn.softmax(scores, where=where).astype(query.dtype)


@_weights.defjvp
def _weights_jvp(primals, tangents):
  (query, key, where), (d_query, d_key, _) = primals, tangents
  weights = _weights(query, key, where)
  product = lambda *args: jnp.einsum("bqhd,bkhd->bhqk", *args)
  # Products give what they take, so that gradients of scores, too, are multiplied as such.
  return weights, _softmax_change(weights, product(d_query, key) + product(query, d_key))


@jax.checkpoint  # keeps the weights as they are, not as they are computed with
def _softmax_change(weights, change):
  wide, change = at_least_float32(weights), at_least_float32(change)
  return (wide * (change - jnp.sum(wide * change, -1, keepdims=True))).astype(weights.dtype)


class FeedForward(nn.Module):
  """Two dense layers with an exact GELU between, or another activation.

  Attributes:
    hidden: width in the middle.
    dtype: of the computation.
    activation: between the layers.
  """

  hidden: int
  dtype: DTypeLike = jnp.float32
  activation: Callable[[jax.Array], jax.Array] = gelu

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[..., dim]`` to ``[..., dim]``."""
    y = self.activation(dense(self.hidden, self.dtype, "up")(x))
    return dense(x.shape[-1], self.dtype, "down")(y)


class Block(nn.Module):
  """Pre-norm transformer block.

  Attributes:
    heads: number of attention heads.
    mlp_dim: width of the feed-forward layer.
    dtype: of the computation.
    attention: implementation of the attention.
  """

  heads: int
  mlp_dim: int
  dtype: DTypeLike = jnp.float32
  attention: Implementation = "auto"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, tokens, dim]`` to the same shape."""
    x = split_batch(x)
    attention = Attention(self.heads, self.dtype, self.attention, name="attention")
    x = x + attention(norm(self.dtype, "norm_1")(x))
    return x + FeedForward(self.mlp_dim, self.dtype, name="mlp")(norm(self.dtype, "norm_2")(x))


class AttentionPool(nn.Module):
  """A learned probe that attends over the tokens, then a feed-forward layer.

  Attributes:
    heads: number of attention heads.
    mlp_dim: width of the feed-forward layer.
    dtype: of the computation.
    attention: implementation of the attention.

  References:
    Zhai et al., `Scaling Vision Transformers <https://arxiv.org/abs/2106.04560>`_, 2021,
    section 3.2; the feed-forward part is from the official code, big_vision.
  """

  heads: int
  mlp_dim: int
  dtype: DTypeLike = jnp.float32
  attention: Implementation = "auto"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, tokens, dim]`` to ``[batch, dim]``."""
    batch, _, dim = x.shape
    probe = self.param("probe", nn.initializers.xavier_uniform(), (1, dim))
    queries = jnp.broadcast_to(probe.astype(x.dtype), (batch, 1, dim))
    x = Attention(self.heads, self.dtype, self.attention, name="attention")(x, queries)
    x = x + FeedForward(self.mlp_dim, self.dtype, name="mlp")(norm(self.dtype, "norm")(x))
    return x[:, 0]
