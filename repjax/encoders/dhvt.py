"""DHVT: a vision transformer with the habits of a convolutional net, for little data."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.arrays import split_batch
from repjax.encoders.batch_norm import batch_norm
from repjax.encoders.convolution import depthwise
from repjax.encoders.features import Features
from repjax.encoders.named import size_by_name
from repjax.encoders.positions import check_divisible
from repjax.encoders.stages import check_image
from repjax.encoders.transformer import Attention, Implementation, dense, gelu, norm

_token_init = nn.initializers.truncated_normal(0.02)


class DHVT(nn.Module):
  """Dynamic hybrid vision transformer: convolutions embed and mix patches, heads exchange tokens.

  There are no positions; zeros around the convolutions tell them. The class token gathers by
  attention and is rescaled, channel by channel, by what the patches are on average.

  Attributes:
    patch_size: side of a patch in pixels, a power of 2, for as many strided convolutions.
    dim: width; ``heads`` and 4 divide it.
    depth: number of blocks.
    heads: attention heads, and so many head tokens.
    mlp_ratio: width of the feed-forward layers over ``dim``.
    drop_path: chance that an example skips the last residual branch in training; it rises linearly
      from 0 over the blocks, and draws from the collection ``dropout``.
    momentum: share of the running statistics of batch norms kept at each step of training.
    axis_name: mapped axis that holds the other shards of a batch, if any.
    dtype: of the computation; parameters and statistics are float32.
    attention: ``xla``, ``cudnn``, or ``auto``, see `repjax.encoders.transformer.Attention`.

  References:
    Lu et al., `Bridging the Gap Between Vision Transformers and Convolutional Neural Networks on
    Small Datasets <https://arxiv.org/abs/2210.05958>`_, 2022, figures 1 to 3, eq. 1 to 7. The
    official code is followed where it differs: GELU stands between the convolutions of the
    embedding, or after a single one (eq. 3 has it after each), batch norms follow those of the
    feed-forward layer, and head tokens are normed before their GELU (eq. 6 has no norm).
  """

  patch_size: int
  dim: int
  depth: int
  heads: int
  mlp_ratio: float = 4
  drop_path: float = 0.0
  momentum: float = 0.9
  axis_name: str | None = None
  dtype: DTypeLike = jnp.float32
  attention: Implementation = "auto"

  @nn.compact
  def __call__(
    self,
    image: jax.Array,
    *,
    train: bool = False,
    tokens_in: Callable[[int, jax.Array], jax.Array] | None = None,
  ) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: whether batch norms use the batch's statistics, and update the running ones in the
        collection ``batch_stats``, and whether residual branches are dropped.
      tokens_in: ``(layer, [batch, 1 + patches, dim]) -> same shape``, called before each block.
        Patches lie on a grid for the convolutions, so that none may go and none be added.

    Returns:
      Features; ``pooled`` is the class token and ``tokens`` the patches after the final norm,
      ``layers`` the sequence after each block, before it.

    Raises:
      ValueError: if sizes do not divide, or a hook changes the number of tokens.
    """
    _check(self, image)
    normed = batch_norm(self, train)
    x = _Embedding(self.dim, self.patch_size, normed, self.dtype, name="patch")(image)
    grid = x.shape[1:3]
    class_token = self.param("class_token", _token_init, (1, self.dim)).astype(self.dtype)
    class_token = jnp.broadcast_to(class_token, (len(x), 1, self.dim))
    x = jnp.concatenate([class_token, x.reshape(len(x), -1, self.dim)], 1)

    layers = []
    for i, rate in enumerate(np.linspace(0, self.drop_path, self.depth).tolist()):
      shape = x.shape
      x = x if tokens_in is None else tokens_in(i, x)
      if x.shape != shape:
        raise ValueError(
          f"tokens_in returned shape {x.shape} for {shape}; the convolutions of DHVT need all "
          "patches on their grid, so change values alone"
        )
      x = split_batch(x)
      norm_1, norm_2 = (norm(self.dtype, f"block_{i}_norm_{j}") for j in (1, 2))
      drop = nn.Dropout(rate, (1, 2), deterministic=not train)
      attention = HeadInteraction(
        self.heads, self.dtype, self.attention, name=f"block_{i}_interaction"
      )
      mlp = _Aggregation(
        int(self.mlp_ratio * self.dim), grid, normed, self.dtype, name=f"block_{i}_mlp"
      )
      x = x + drop(attention(norm_1(x)))
      x = x + drop(mlp(norm_2(x)))
      layers.append(x)
    x = norm(self.dtype, "norm")(x)
    return Features(x[:, 0], x[:, 1:], tuple(layers))


class HeadInteraction(nn.Module):
  """Multi-head self-attention in which each head's channels speak to the others (HI-MHSA).

  Each head's share of the mean token is projected to the full width; these head tokens attend
  along with all others, and their mean is added to the class token in the end.

  Attributes:
    heads: number of heads, and of head tokens.
    dtype: of the computation.
    implementation: of the attention.

  References:
    Lu et al., 2022 (https://arxiv.org/abs/2210.05958), section 3.3.
  """

  heads: int
  dtype: DTypeLike = jnp.float32
  implementation: Implementation = "auto"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, 1 + patches, dim]``, class token first, to the same shape."""
    batch, count, dim = x.shape
    shares = jnp.mean(x, 1).reshape(batch, self.heads, -1)
    heads = dense(dim, self.dtype, "head_tokens")(shares).reshape(batch, self.heads, self.heads, -1)
    heads = gelu(norm(self.dtype, "head_norm", epsilon=1e-5)(heads)).reshape(batch, -1, dim)
    positions = self.param("head_positions", _token_init, (self.heads, dim))
    x = jnp.concatenate([x, heads + positions[None].astype(self.dtype)], 1)
    x = Attention(self.heads, self.dtype, self.implementation, name="attention")(x)
    class_token = x[:, :1] + jnp.mean(x[:, count:], 1, keepdims=True)
    return jnp.concatenate([class_token, x[:, 1:count]], 1)


class _Aggregation(nn.Module):
  """Feed-forward layer with a convolution, whose mean output rescales the class token (DAFF)."""

  hidden: int
  grid: tuple[int, int]
  norm: Callable[..., nn.Module]
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dim = x.shape[-1]
    class_token, patches = x[:, :1], x[:, 1:].reshape(len(x), *self.grid, dim)
    up = gelu(self.norm(name="norm_1")(dense(self.hidden, self.dtype, "up")(patches)))
    shape = (3, 3, 1, self.hidden)
    kernel = self.param("depthwise_kernel", nn.initializers.lecun_normal(), shape)
    bias = self.param("depthwise_bias", nn.initializers.zeros, (self.hidden,))
    mixed = depthwise(up, kernel.astype(self.dtype))
    mixed = mixed + bias[None, None, None].astype(self.dtype)
    mixed = up + gelu(self.norm(name="norm_2")(mixed))
    patches = self.norm(name="norm_3")(dense(dim, self.dtype, "down")(mixed))
    # Eq. 4 and 5; nothing holds the scale between 0 and 1 here.
    scale = gelu(dense(dim // 4, self.dtype, "squeeze")(jnp.mean(patches, (1, 2))))
    class_token = class_token * dense(dim, self.dtype, "excite")(scale)[:, None]
    return jnp.concatenate([class_token, patches.reshape(len(x), -1, dim)], 1)


class _Embedding(nn.Module):
  """Overlapping patches by strided convolutions between two affine maps (SOPE)."""

  dim: int
  patch_size: int
  norm: Callable[..., nn.Module]
  dtype: DTypeLike

  @nn.compact
  def __call__(self, image: jax.Array) -> jax.Array:
    count = self.patch_size.bit_length() - 1
    x = self._affine("before", image.astype(self.dtype))
    for i in range(count):
      width = self.dim // 2 ** (count - 1 - i)
      x = nn.Conv(
        width, (3, 3), 2, 1, use_bias=False, dtype=self.dtype, name=f"conv_{i}",
        kernel_init=nn.initializers.he_normal(),
      )(x)  # fmt: skip
      x = self.norm(name=f"norm_{i}")(x)
      x = gelu(x) if i < count - 1 or count == 1 else x
    return self._affine("after", x)

  def _affine(self, name, x):
    scale = self.param(f"{name}_scale", nn.initializers.ones, (x.shape[-1],))
    bias = self.param(f"{name}_bias", nn.initializers.zeros, (x.shape[-1],))
    scale, bias = (y[None, None, None].astype(self.dtype) for y in (scale, bias))
    return x * scale + bias


class Size(NamedTuple):
  """Shape of a DHVT."""

  patch_size: int
  dim: int
  heads: int
  depth: int = 12


#: Lu et al., 2022, section 4.1: for images of 32 pixels (two patch sizes, table 4), and of 224.
SIZES = {
  "dhvt_t_4": Size(4, 192, 4),
  "dhvt_s_4": Size(4, 384, 8),
  "dhvt_t_2": Size(2, 192, 4),
  "dhvt_s_2": Size(2, 384, 8),
  "dhvt_t_16": Size(16, 192, 3),
  "dhvt_s_16": Size(16, 384, 6),
}


def dhvt(name: str, **overrides: Any) -> DHVT:
  """A DHVT by name.

  Args:
    name: a key of `SIZES`, size and patch, such as ``dhvt_t_4``.
    **overrides: fields of `DHVT` to set.

  Returns:
    The module.

  Raises:
    ValueError: if there is none of this name.
  """
  return DHVT(**(size_by_name(name, SIZES, "a DHVT") | overrides))


def _check(model: DHVT, image: jax.Array) -> None:
  """Raises if sizes do not divide."""
  check_image(image)
  patch = model.patch_size
  if patch < 2 or patch & (patch - 1):
    raise ValueError(
      f"every convolution halves the image, so patch_size is 2, 4, 8, 16, ..., got {patch}; "
      "choose one of those"
    )
  check_divisible("image", image.shape[1:3], (patch, patch))
  if model.dim % model.heads or model.dim % 4:
    raise ValueError(
      f"heads={model.heads} and 4 do not both divide dim={model.dim}; choose another width or "
      "number of heads"
    )
