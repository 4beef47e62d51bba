"""GLMix: convolutions on the grid beside attention among a few slots that the grid is grouped into.

GLNet is the encoder that the paper builds of it.
"""

import functools
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32, l2_normalize, split_batch
from repjax.encoders.batch_norm import batch_norm
from repjax.encoders.convolution import convolve
from repjax.encoders.features import Features
from repjax.encoders.named import size_by_name
from repjax.encoders.stages import check_image, drop_rates
from repjax.encoders.transformer import Attention, dense, gelu, norm

Mixing = Literal["glmix", "attention", "both"]


class GLMix(nn.Module):
  """Convolutions on the grid plus attention among slots.

  Each slot gathers locations by a softmax over them, each location what its slots say by a softmax
  over slots; both are of one matrix of scaled cosines.

  Attributes:
    heads: attention heads of the slots; divides the width.
    kernel: side of the depthwise convolution.
    dtype: of the computation.

  References:
    Zhu et al., `Revisiting the Integration of Convolution and Attention for Vision Backbone
    <https://arxiv.org/abs/2411.14429>`_, 2024, section 3. The scale is learned from ``dim ** -0.5``
    as in the official code, github.com/rayleizhu/GLMix, which is followed throughout.
  """

  heads: int
  kernel: int = 5
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, start: jax.Array) -> jax.Array:
    """Mixes.

    Args:
      x: ``[batch, height, width, dim]``.
      start: ``[batch, slots, dim]``, what each slot looks for.

    Returns:
      Same shape as ``x``.
    """
    dim = x.shape[-1]
    grid = x.reshape(len(x), -1, dim)
    scale = self.param("slot_scale", nn.initializers.constant(dim**-0.5), ())
    unit = lambda y: l2_normalize(at_least_float32(y))
    likeness = scale * jnp.einsum("bsd,bld->bsl", unit(start), unit(grid))
    gather, dispatch = (jax.nn.softmax(likeness, axis).astype(self.dtype) for axis in (2, 1))
    slots = jnp.einsum("bsl,bld->bsd", gather, grid)
    slots = Attention(self.heads, self.dtype, name="attention")(slots)
    whole = jnp.einsum("bsl,bsd->bld", dispatch, slots).reshape(x.shape)
    # As if one location were a head of attention: a value, a mixture of neighbours', an output.
    near = dense(dim, self.dtype, "conv_value")(x)
    near = _depthwise(near, self.kernel, self.dtype, "conv")
    return whole + dense(dim, self.dtype, "conv_out")(near)


def pool_slots(x: jax.Array, slots: int) -> jax.Array:
  """Means over a square grid of regions, which overlap where their number does not divide the map.

  Args:
    x: ``[batch, height, width, dim]``.
    slots: number of regions, a square number.

  Returns:
    ``[batch, slots, dim]``: what slots start from.
  """
  side = math.isqrt(slots)
  rows, columns = (_regions(size, side).astype(x.dtype) for size in x.shape[1:3])
  return jnp.einsum("bhwd,ih,jw->bijd", x, rows, columns).reshape(len(x), slots, -1)


def _regions(size: int, count: int) -> np.ndarray:
  """Means over ``count`` stretches of ``size`` places, ``[count, size]``; cut as PyTorch does."""
  place, i = np.arange(size)[None], np.arange(count)[:, None]
  inside = (place >= i * size // count) & (place < -(-(i + 1) * size // count))
  return inside / inside.sum(1, keepdims=True)


class GLNet(nn.Module):
  """Stages of blocks that mix by `GLMix`, by attention among all locations, or by both in turns.

  Norms are of the batch between stages and at the end, of the channels inside of blocks.

  Attributes:
    depths: blocks of each stage.
    dim: width of the first stage; each stage has twice that before.
    mixing: what the blocks of each stage mix by; ``both`` starts with ``glmix``.
    mlp_ratio: width of the feed-forward layers over that of the stage.
    slots: number of slots, a square number.
    head_dim: width of an attention head.
    kernel: side of the depthwise convolution of `GLMix`.
    overlap: whether the grid is reduced by 3x3 convolutions, or by cutting it into patches.
    local: whether blocks begin with a 3x3 depthwise convolution, for positions, and have another
      inside of the feed-forward layer.
    layer_scale: start of a learned factor on each branch's channels; none if absent.
    patch_size: side in pixels of one location of the first stage: 4, or 1 or 2 for small images.
    drop_path: odds that training leaves out the last block's branches, the first's being 0
      (`drop_rates`); draws from the collection ``dropout``.
    momentum: share of batch norm's running statistics kept at each step of training.
    axis_name: mapped axis that holds the other shards of a batch, if any.
    dtype: of the computation; parameters and statistics are float32.

  References:
    Zhu et al., `Revisiting the Integration of Convolution and Attention for Vision Backbone
    <https://arxiv.org/abs/2411.14429>`_, 2024, section 3; details are from the official code.
  """

  depths: tuple[int, ...]
  dim: int
  mixing: tuple[Mixing, ...] = ("glmix", "glmix", "both", "attention")
  mlp_ratio: float = 3
  slots: int = 64
  head_dim: int = 32
  kernel: int = 5
  overlap: bool = True
  local: bool = True
  layer_scale: float | None = None
  patch_size: int = 4
  drop_path: float = 0.0
  momentum: float = 0.9
  axis_name: str | None = None
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating; sides divisible by
        ``patch_size * 2 ** (stages - 1)``.
      train: whether batch norm uses the batch's statistics, and updates the running ones in the
        collection ``batch_stats``; and whether ``drop_path`` is at work.

    Returns:
      Features; ``pooled`` is the mean of ``tokens``, which are the last map after the final norm,
      in raster order; ``layers`` the map after each stage.

    Raises:
      ValueError: if ``image`` is not rank 4, or sides, heads or slots do not fit.
    """
    _check(self, image)
    normed = batch_norm(self, train)
    conv = functools.partial(_conv, dtype=self.dtype)
    x, layers = image, []
    for i, rates in enumerate(drop_rates(self.drop_path, self.depths)):
      dim = self.dim * 2**i
      if not i and self.overlap:
        first = 1 if self.patch_size == 1 else 2
        x = normed(name="stem_norm_0")(conv(dim // 2, 3, first, name="stem_conv_0")(x))
        x = conv(dim, 3, self.patch_size // first, name="stem_conv_1")(gelu(x))
        x = normed(name="stem_norm_1")(x)
      elif not i:
        x = conv(dim, self.patch_size, self.patch_size, name="stem_conv_0")(x)
        x = normed(name="stem_norm_0")(x)
      elif self.overlap:
        x = normed(name=f"stage_{i}_norm")(conv(dim, 3, 2, name=f"stage_{i}_conv")(x))
      else:
        x = conv(dim, 2, 2, name=f"stage_{i}_conv")(normed(name=f"stage_{i}_norm")(x))
      for j, rate in enumerate(rates):
        mixing = ("glmix", "attention")[j % 2] if self.mixing[i] == "both" else self.mixing[i]
        x = _Block(
          slots=self.slots if mixing == "glmix" else None,
          heads=dim // self.head_dim,
          hidden=int(self.mlp_ratio * dim),
          kernel=self.kernel,
          local=self.local,
          layer_scale=self.layer_scale,
          drop_path=rate,
          dtype=self.dtype,
          name=f"stage_{i}_block_{j}",
        )(x, train)
      layers.append(x)
    tokens = normed(name="norm")(x).reshape(len(x), -1, x.shape[-1])
    return Features(jnp.mean(tokens, 1), tokens, tuple(layers))


class _Block(nn.Module):
  """Positions by convolution, mixing over space, a feed-forward layer with a convolution inside."""

  slots: int | None
  heads: int
  hidden: int
  kernel: int
  local: bool
  layer_scale: float | None
  drop_path: float
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    drop = nn.Dropout(self.drop_path, (1, 2, 3), deterministic=not train)
    x = split_batch(x)
    # Slots start from the grid as it comes in, before positions and norm.
    start = None if self.slots is None else pool_slots(x, self.slots)
    if self.local:
      x = x + _depthwise(x, 3, self.dtype, "position")
    y = norm(self.dtype, "norm_1")(x)
    if start is not None:
      y = GLMix(self.heads, self.kernel, self.dtype, name="mix")(y, start)
    else:
      attention = Attention(self.heads, self.dtype, name="attention")
      y = attention(y.reshape(len(y), -1, y.shape[-1])).reshape(y.shape)
    x = x + drop(self._scaled(y, "scale_1"))
    y = dense(self.hidden, self.dtype, "up")(norm(self.dtype, "norm_2")(x))
    if self.local:
      y = y + _depthwise(y, 3, self.dtype, "conv")
    y = dense(x.shape[-1], self.dtype, "down")(gelu(y))
    return x + drop(self._scaled(y, "scale_2"))

  def _scaled(self, x: jax.Array, name: str) -> jax.Array:
    if self.layer_scale is None:
      return x
    init = nn.initializers.constant(self.layer_scale)
    return x * self.param(name, init, x.shape[-1:]).astype(x.dtype)[None, None, None]


def _conv(features: int, side: int, stride: int, *, dtype: DTypeLike, name: str) -> nn.Conv:
  # Patches, whose side is the stride, need no padding.
  padding = 0 if side == stride else side // 2
  return nn.Conv(
    features, (side, side), stride, padding, dtype=dtype, name=name, conv_general_dilated=convolve
  )


def _depthwise(x: jax.Array, side: int, dtype: DTypeLike, name: str) -> jax.Array:
  """A convolution of each channel by itself, which keeps the size of the map."""
  dim = x.shape[-1]
  return nn.Conv(
    dim, (side, side), padding=side // 2, feature_group_count=dim, dtype=dtype, name=name,
    conv_general_dilated=convolve,
  )(x)  # fmt: skip


def _check(net: GLNet, image: jax.Array) -> None:
  """Raises unless sides, heads and slots fit."""
  if net.patch_size not in (1, 2, 4) and net.overlap:
    raise ValueError(
      f"overlap=True halves the image twice at most, so patch_size is 1, 2 or 4, got "
      f"{net.patch_size}; choose one of those or overlap=False"
    )
  if len(net.mixing) != len(net.depths):
    raise ValueError(
      f"mixing={net.mixing} is not one a stage of depths={net.depths}; make them equally long"
    )
  if unknown := set(net.mixing) - {"glmix", "attention", "both"}:
    raise ValueError(f"mixing={unknown.pop()!r} is not 'glmix', 'attention' or 'both'")
  if net.dim % net.head_dim:
    raise ValueError(
      f"head_dim={net.head_dim} does not divide dim={net.dim}; "
      f"choose dim={-(-net.dim // net.head_dim) * net.head_dim} or another head_dim"
    )
  if math.isqrt(net.slots) ** 2 != net.slots:
    raise ValueError(
      f"slots={net.slots} is not a square number; choose {math.isqrt(net.slots) ** 2} "
      f"or {(math.isqrt(net.slots) + 1) ** 2}"
    )
  check_image(image, net.patch_size * 2 ** (len(net.depths) - 1))


class Size(NamedTuple):
  """Fields of `GLNet` in which the named ones differ."""

  depths: tuple[int, ...]
  dim: int
  layer_scale: float | None = None
  mixing: tuple[Mixing, ...] = ("glmix", "glmix", "both", "attention")
  mlp_ratio: float = 3
  overlap: bool = True
  local: bool = True


#: The official code's; stl has the layout of Swin-T, for ablations.
SIZES = {
  "glnet_stl": Size(
    (2, 2, 6, 2), 96, None, ("glmix", "glmix", "glmix", "attention"), 4, False, False
  ),
  "glnet_4g": Size((4, 4, 18, 4), 64),
  "glnet_9g": Size((4, 4, 18, 4), 96),
  "glnet_16g": Size((4, 4, 18, 4), 128, 1e-4),
}


def glnet(name: str, **overrides: Any) -> GLNet:
  """A GLNet by name.

  Args:
    name: a key of ``SIZES``, such as ``glnet_4g``.
    **overrides: fields of `GLNet` to set.

  Returns:
    The module.

  Raises:
    ValueError: if there is none of this name.
  """
  return GLNet(**(size_by_name(name, SIZES, "a GLNet") | overrides))
