"""Parts of a pre-norm transformer: attention, feed-forward layer, block, attention pooling."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32, platform, split_batch
from repjax.encoders.attend import attend
from repjax.encoders.positions import Grid, Rotation, relative_offsets, rotate
from repjax.encoders.products import product

Implementation = Literal["auto", "xla", "cudnn"]
Activation = Callable[[jax.Array], jax.Array]


class Between(NamedTuple):
  """What a block shows between its attention and its feed-forward layer, for fewer tokens.

  Attributes:
    tokens: ``[batch, tokens, dim]``.
    query: ``[batch, tokens, heads, head_dim]`` of the attention, as scores have them.
    key: same shape.
    sizes: ``[batch, tokens]``, for how many tokens each stands to those that attend to it; all
      alike if absent.
    trace: what the blocks before told of where tokens went; nothing if absent.
  """

  tokens: jax.Array
  query: jax.Array
  key: jax.Array
  sizes: jax.Array | None
  trace: Any


def dense(
  features: int, dtype: DTypeLike, name: str, *, bias: bool = True
) -> Callable[[jax.Array], jax.Array]:
  """A dense layer over the last axis, as one matrix product over all the others.

  Args:
    features: width of the result.
    dtype: of the computation.
    name: of the layer among its module's parameters.
    bias: whether it has one.

  Returns:
    ``[..., dim] -> [..., features]``; to be called inside a compact module.
  """
  init = nn.initializers.xavier_uniform()
  multiply = lambda x, kernel, *_, **__: product(x, kernel)  # the axes of any dense layer
  layer = nn.Dense(features, bias, dtype, kernel_init=init, dot_general=multiply, name=name)
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


@jax.checkpoint
def gelu_tanh(x: jax.Array) -> jax.Array:
  """GELU by the hyperbolic tangent, as SigLIP has it.

  Args:
    x: any shape, floating.

  Returns:
    Same shape and dtype as ``x``.
  """
  return jax.nn.gelu(x, approximate=True)


@jax.checkpoint
def quick_gelu(x: jax.Array) -> jax.Array:
  """GELU by the logistic function, ``x * sigmoid(1.702 x)``, as OpenAI's CLIP has it.

  Args:
    x: any shape, floating.

  Returns:
    Same shape and dtype as ``x``.
  """
  return x * jax.nn.sigmoid(1.702 * x)


def check_heads(dim: int, heads: int) -> None:
  """Raises unless heads divide a width.

  Args:
    dim: width.
    heads: number of heads.

  Raises:
    ValueError: naming both and the nearest width that works.
  """
  if dim % heads:
    raise ValueError(
      f"heads={heads} does not divide dim={dim}; choose dim={-(-dim // heads) * heads} or another "
      "number of heads"
    )


class Attention(nn.Module):
  """Multi-head attention of queries over a sequence.

  Attributes:
    heads: number of heads; divides the width.
    dtype: of the computation.
    implementation: ``xla`` (`attend`), ``cudnn``, or ``auto``: cuDNN where it can be, for
      attention of a sequence to itself.
    qkv_bias: whether queries, keys and values have one.
    grid: rows and columns of the last tokens, whose scores get a learned bias for each offset
      (`relative_offsets`); none if absent.
    inner_norm: epsilon of a norm of what the heads found, before the last layer; none if absent.
  """

  heads: int
  dtype: DTypeLike = jnp.float32
  implementation: Implementation = "auto"
  qkv_bias: bool = True
  grid: Grid | None = None
  inner_norm: float | None = None

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    queries: jax.Array | None = None,
    *,
    where: jax.Array | None = None,
    bias: jax.Array | None = None,
    rotation: Rotation | None = None,
    show: bool = False,
  ) -> Any:
    """Attends.

    Args:
      x: ``[batch, tokens, dim]``.
      queries: ``[batch, queries, dim]``; ``x`` itself if absent.
      where: boolean, broadcast to ``[batch, heads, queries, tokens]``: what each query may see; all
        if absent. Not for cuDNN.
      bias: ``[batch or 1, heads or 1, queries, tokens]``, added to the scores.
      rotation: turns queries and keys, of a sequence that attends to itself.
      show: whether to return queries and keys too.

    Returns:
      ``[batch, queries, dim]``; with ``show`` also queries and keys, ``[batch, queries or tokens,
      heads, head_dim]``.

    Raises:
      ValueError: if there is a ``where`` and the implementation is ``cudnn``.
    """
    if where is not None and self.implementation == "cudnn":
      raise ValueError("where= needs attention 'xla' or 'auto', got 'cudnn'; choose one of those")
    batch, tokens, dim = x.shape
    head_dim = dim // self.heads
    if self.grid is not None:
      offsets = relative_offsets(self.grid, tokens - math.prod(self.grid))
      table = self.param("relative", nn.initializers.zeros, (offsets.max() + 1, self.heads))
      bias = jnp.moveaxis(table[offsets], -1, 0)[None] + (0 if bias is None else bias)
    implementation = self.implementation
    if implementation == "auto":
      # cuDNN's fused kernel takes 16-bit types and heads of at most 128, in eights.
      fused = jnp.dtype(self.dtype).itemsize == 2 and head_dim <= 128 and head_dim % 8 == 0
      fused = fused and all(given is None for given in (queries, where, bias))
      fused = fused and platform() == "gpu"
      implementation = "cudnn" if fused else "xla"
    count = tokens if queries is None else queries.shape[1]
    lengths = {}
    if implementation == "cudnn" and (tokens % 2 or count % 2):
      # With cuDNN's kernel JAX, up to 0.11, trains even lengths alone; 196 patches and a class
      # token are odd. Padded here, the copy is part of the norm before and of the sum after.
      x, queries = _even(x), None if queries is None else _even(queries)
      if rotation is not None:
        odd = lambda table: ((0, 0), (0, tokens % 2), *[(0, 0)] * (table.ndim - 2))
        rotation = Rotation(*(jnp.pad(table, odd(table)) for table in rotation))
      if bias is not None:
        bias = jnp.pad(bias, ((0, 0), (0, 0), (0, count % 2), (0, tokens % 2)))
      lengths = {"key_value_seq_lengths": jnp.full(batch, tokens, jnp.int32)}
    split = lambda y: y.reshape(*y.shape[:2], self.heads, head_dim)
    project = lambda y, name: split(dense(dim, self.dtype, name, bias=self.qkv_bias)(y))
    query = project(x if queries is None else queries, "query")
    key, value = project(x, "key"), project(x, "value")
    if rotation is not None:
      query, key = rotate(query, rotation), rotate(key, rotation)
    if implementation == "cudnn":
      y = jax.nn.dot_product_attention(
        query, key, value, bias=bias, implementation="cudnn", **lengths
      )
    else:
      y = attend(query, key, value, where=where, bias=bias)
    y = y.reshape(*y.shape[:2], dim)
    if self.inner_norm is not None:
      y = norm(self.dtype, "norm", epsilon=self.inner_norm)(y)
    y = dense(dim, self.dtype, "out")(y)[:, :count]
    return (y, query[:, :count], key[:, :tokens]) if show else y


def _even(x: jax.Array) -> jax.Array:
  return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0)))


class FeedForward(nn.Module):
  """Two dense layers with an activation between, or three with a gate.

  Attributes:
    hidden: width in the middle.
    dtype: of the computation.
    activation: between the layers, or of the gate.
    gated: multiply by an activated third layer in place of the activation (SwiGLU with
      `jax.nn.silu`).
    inner_norm: epsilon of a norm before the last layer; none if absent.

  References:
    Shazeer, `GLU Variants Improve Transformer <https://arxiv.org/abs/2002.05202>`_, 2020, eq. 6
    (``gated``).
  """

  hidden: int
  dtype: DTypeLike = jnp.float32
  activation: Activation = gelu
  gated: bool = False
  inner_norm: float | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[..., dim]`` to ``[..., dim]``."""
    y = dense(self.hidden, self.dtype, "up")(x)
    if self.gated:
      y = y * self.activation(dense(self.hidden, self.dtype, "gate")(x))
    else:
      y = self.activation(y)
    if self.inner_norm is not None:
      y = norm(self.dtype, "norm", epsilon=self.inner_norm)(y)
    return dense(x.shape[-1], self.dtype, "down")(y)


class Block(nn.Module):
  """Transformer block that normalises what goes into its parts, or the sums that come out.

  Attributes:
    heads: number of attention heads.
    mlp_dim: width of the feed-forward layer.
    dtype: of the computation.
    attention: implementation of the attention.
    qkv_bias: whether queries, keys and values have one.
    epsilon: of the norms.
    activation: of the feed-forward layer.
    gated: whether the feed-forward layer is.
    layer_scale: what learned scales of both residual branches start from; none if absent.
    grid: see `Attention`.
    norm_first: whether norms come first, or after the sums as in BERT.
    attention_norm: whether there is a norm before the attention's last layer.
    mlp_norm: whether there is one before the feed-forward layer's last.
    reduce: makes fewer tokens between attention and feed-forward layer; none if absent.

  References:
    Touvron et al., `Going Deeper with Image Transformers <https://arxiv.org/abs/2103.17239>`_,
    2021, eq. 4 (``layer_scale``).
    Fang et al., `EVA-02: A Visual Representation for Neon Genesis
    <https://arxiv.org/abs/2303.11331>`_, 2023, section 2.1 (``mlp_norm``, sub-LN).
  """

  heads: int
  mlp_dim: int
  dtype: DTypeLike = jnp.float32
  attention: Implementation = "auto"
  qkv_bias: bool = True
  epsilon: float = 1e-6
  activation: Activation = gelu
  gated: bool = False
  layer_scale: float | None = None
  grid: Grid | None = None
  norm_first: bool = True
  attention_norm: bool = False
  mlp_norm: bool = False
  reduce: Callable[[Between], Between] | None = None

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    where: jax.Array | None = None,
    bias: jax.Array | None = None,
    rotation: Rotation | None = None,
    sizes: jax.Array | None = None,
    trace: Any = None,
  ) -> Any:
    """Maps ``[batch, tokens, dim]`` to the same shape, or to fewer tokens with ``reduce``.

    Args:
      x: the sequence.
      where: boolean, broadcast to ``[batch, heads, tokens, tokens]``: what each token may see.
      bias: of the attention's scores, ``[batch or 1, heads or 1, tokens, tokens]``.
      rotation: of queries and keys.
      sizes: ``[batch, tokens]``, for how many tokens each stands; their logarithm is added to the
        scores. All alike if absent.
      trace: for ``reduce``.

    Returns:
      What the next block sees; with ``reduce`` a tuple of that, its sizes and its trace.
    """
    x = split_batch(x)
    norm_1, norm_2 = (norm(self.dtype, f"norm_{i}", epsilon=self.epsilon) for i in (1, 2))
    inner = lambda there: self.epsilon if there else None
    options = {"qkv_bias": self.qkv_bias, "grid": self.grid, "name": "attention"}
    options["inner_norm"] = inner(self.attention_norm)
    attention = Attention(self.heads, self.dtype, self.attention, **options)
    options = {"inner_norm": inner(self.mlp_norm), "name": "mlp"}
    mlp = FeedForward(self.mlp_dim, self.dtype, self.activation, self.gated, **options)
    if sizes is not None:
      shape = (len(x), 1, x.shape[1], x.shape[1])
      own = jnp.broadcast_to(jnp.log(sizes)[:, None, None], shape)
      bias = own if bias is None else own + bias
    seen = {"where": where, "bias": bias, "rotation": rotation}
    y = attention(norm_1(x) if self.norm_first else x, show=self.reduce is not None, **seen)
    y, *shown = y if self.reduce is not None else (y,)
    x = x + self._scaled(y, "scale_1")
    x = x if self.norm_first else norm_1(x)
    if self.reduce is not None:
      x, _, _, sizes, trace = self.reduce(Between(x, *shown, sizes, trace))
    x = x + self._scaled(mlp(norm_2(x) if self.norm_first else x), "scale_2")
    x = x if self.norm_first else norm_2(x)
    return x if self.reduce is None else (x, sizes, trace)

  def _scaled(self, x: jax.Array, name: str) -> jax.Array:
    if self.layer_scale is None:
      return x
    init = nn.initializers.constant(self.layer_scale)
    return x * self.param(name, init, (x.shape[-1],)).astype(x.dtype)[None, None]


class AttentionPool(nn.Module):
  """A learned probe that attends over the tokens, then a feed-forward layer.

  Attributes:
    heads: number of attention heads.
    mlp_dim: width of the feed-forward layer.
    dtype: of the computation.
    attention: implementation of the attention.
    activation: of the feed-forward layer.
    epsilon: of the norm.

  References:
    Zhai et al., `Scaling Vision Transformers <https://arxiv.org/abs/2106.04560>`_, 2021,
    section 3.2; the feed-forward part is from the official code, big_vision.
  """

  heads: int
  mlp_dim: int
  dtype: DTypeLike = jnp.float32
  attention: Implementation = "auto"
  activation: Activation = gelu
  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x: jax.Array, *, bias: jax.Array | None = None) -> jax.Array:
    """Maps ``[batch, tokens, dim]`` to ``[batch, dim]``.

    Args:
      x: the tokens.
      bias: of the probe's scores, ``[batch or 1, heads or 1, 1, tokens]``.

    Returns:
      What the probe finds.
    """
    batch, _, dim = x.shape
    probe = self.param("probe", nn.initializers.xavier_uniform(), (1, dim))
    queries = jnp.broadcast_to(probe.astype(x.dtype), (batch, 1, dim))
    x = Attention(self.heads, self.dtype, self.attention, name="attention")(x, queries, bias=bias)
    mlp = FeedForward(self.mlp_dim, self.dtype, self.activation, name="mlp")
    return (x + mlp(norm(self.dtype, "norm", epsilon=self.epsilon)(x)))[:, 0]
