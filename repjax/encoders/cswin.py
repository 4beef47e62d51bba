"""CSWin: attention in a cross of stripes, on maps that shrink from stage to stage."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.arrays import split_batch
from repjax.encoders.attend import attend
from repjax.encoders.convolution import depthwise
from repjax.encoders.features import Features
from repjax.encoders.named import size_by_name
from repjax.encoders.positions import check_divisible, patchify, unpatchify
from repjax.encoders.stages import check_image, drop_rates
from repjax.encoders.transformer import FeedForward, dense, norm

_EPSILON = 1e-5


class CSWin(nn.Module):
  """Hierarchical transformer whose attention runs in stripes, half of the heads down, half across.

  Convolutions embed the image at a quarter of its size and halve the map between stages, where the
  width doubles. Images may have any size that the stripes divide.

  Attributes:
    dim: width of the first stage.
    depth: blocks of each stage.
    stripe: width of the stripes of each stage, in tokens; absent, the whole map is one.
    heads: attention heads of each stage; even where there are stripes.
    mlp_ratio: width of the feed-forward layers over that of the stage.
    drop_path: chance that an example skips the last residual branch in training; it rises linearly
      from 0 over the blocks, and draws from the collection ``dropout``.
    dtype: of the computation; parameters are float32.

  References:
    Dong et al., `CSWin Transformer: A General Vision Transformer Backbone with Cross-Shaped Windows
    <https://arxiv.org/abs/2107.00652>`_, 2021, figure 2, eq. 3 to 8. The official code is followed
    where the paper is silent: the first half of the heads has the upright stripes.
  """

  dim: int
  depth: tuple[int, ...]
  stripe: tuple[int | None, ...]
  heads: tuple[int, ...]
  mlp_ratio: float = 4
  drop_path: float = 0.0
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: whether residual branches are dropped.

    Returns:
      Features; ``pooled`` is the mean of the normed last map, ``tokens`` that map in raster order,
      and ``layers`` the map after each stage.

    Raises:
      ValueError: if sizes do not divide.
    """
    _check(self, image)
    x, layers = image, []
    stages = zip(drop_rates(self.drop_path, self.depth), self.stripe, self.heads, strict=True)
    for i, (rates, stripe, heads) in enumerate(stages):
      kernel, stride, padding = (3, 2, 1) if i else (7, 4, 2)
      dim = self.dim * 2**i
      x = nn.Conv(dim, (kernel, kernel), stride, padding, dtype=self.dtype, name=f"stage_{i}_conv")(
        x
      )
      x = norm(self.dtype, f"stage_{i}_norm", epsilon=_EPSILON)(x)
      for j, rate in enumerate(rates):
        mlp_dim = int(self.mlp_ratio * dim)
        x = CSWinBlock(heads, stripe, mlp_dim, rate, self.dtype, name=f"stage_{i}_block_{j}")(
          x, train=train
        )
      layers.append(x)
    tokens = norm(self.dtype, "norm", epsilon=_EPSILON)(x).reshape(len(x), -1, x.shape[-1])
    return Features(jnp.mean(tokens, 1), tokens, tuple(layers))


class CSWinBlock(nn.Module):
  """Pre-norm block with cross-shaped window attention.

  Attributes:
    heads: number of attention heads.
    stripe: width of the stripes in tokens; absent, the whole map is one.
    mlp_dim: width of the feed-forward layer.
    drop_path: chance that an example skips a residual branch in training.
    dtype: of the computation.
  """

  heads: int
  stripe: int | None
  mlp_dim: int
  drop_path: float = 0.0
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
    """Maps ``[batch, height, width, dim]`` to the same shape."""
    x = split_batch(x)
    norm_1, norm_2 = (norm(self.dtype, f"norm_{i}", epsilon=_EPSILON) for i in (1, 2))
    drop = nn.Dropout(self.drop_path, (1, 2, 3), deterministic=not train)
    attention = StripeAttention(self.heads, self.stripe, self.dtype, name="attention")
    x = x + drop(attention(norm_1(x)))
    return x + drop(FeedForward(self.mlp_dim, self.dtype, name="mlp")(norm_2(x)))


class StripeAttention(nn.Module):
  """Self-attention in upright stripes (half of the heads) and in level ones (the other half).

  Where tokens are is told by a depthwise 3x3 convolution of the values, LePE, which is added to
  what the attention gives. As in the official code, it does not look beyond a stripe.

  Attributes:
    heads: number of heads, even if there are stripes.
    stripe: width of the stripes in tokens; absent, the whole map is one.
    dtype: of the computation.
  """

  heads: int
  stripe: int | None
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, height, width, dim]`` to the same shape."""
    batch, height, width, dim = x.shape
    windows = [(height, width)]
    if self.stripe is not None:
      windows = [(height, self.stripe), (self.stripe, width)]
    share = dim // len(windows)
    heads = self.heads // len(windows)

    def cut(name):
      y = jnp.split(dense(dim, self.dtype, name)(x), len(windows), -1)
      return [patchify(y, w).reshape(-1, *w, share) for y, w in zip(y, windows, strict=True)]

    query, key, value = cut("query"), cut("key"), cut("value")
    places = _Depthwise(self.dtype, name="lepe")(value)
    parts = []
    for q, k, v, place, window in zip(query, key, value, places, windows, strict=True):
      flat = lambda y: y.reshape(len(y), -1, heads, share // heads)
      y = attend(flat(q), flat(k), flat(v)).reshape(place.shape) + place
      parts.append(unpatchify(y.reshape(batch, -1), (height, width, share), window))
    return dense(dim, self.dtype, "out")(jnp.concatenate(parts, -1))


class _Depthwise(nn.Module):
  """A 3x3 convolution of each channel, where groups of channels are on maps of unequal shapes."""

  dtype: DTypeLike

  @nn.compact
  def __call__(self, maps: list[jax.Array]) -> list[jax.Array]:
    dim = sum(x.shape[-1] for x in maps)
    kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, 1, dim))
    bias = self.param("bias", nn.initializers.zeros, (dim,))
    outputs = []
    for i, x in enumerate(maps):
      own = slice(i * x.shape[-1], (i + 1) * x.shape[-1])
      y = depthwise(x, kernel[..., own].astype(self.dtype))
      outputs.append(y + bias[None, None, None, own].astype(self.dtype))
    return outputs


class Size(NamedTuple):
  """Shape of a CSWin transformer."""

  dim: int
  depth: tuple[int, int, int, int]
  heads: tuple[int, int, int, int]
  stripe: tuple[int, int, int, None]


#: Dong et al., 2021, table 1; stripes are those of images of 224 pixels, or of 384.
SIZES = {
  "cswin_t": Size(64, (1, 2, 21, 1), (2, 4, 8, 16), (1, 2, 7, None)),
  "cswin_s": Size(64, (2, 4, 32, 2), (2, 4, 8, 16), (1, 2, 7, None)),
  "cswin_b": Size(96, (2, 4, 32, 2), (4, 8, 16, 32), (1, 2, 7, None)),
  "cswin_l": Size(144, (2, 4, 32, 2), (6, 12, 24, 24), (1, 2, 7, None)),
  "cswin_b_384": Size(96, (2, 4, 32, 2), (4, 8, 16, 32), (1, 2, 12, None)),
  "cswin_l_384": Size(144, (2, 4, 32, 2), (6, 12, 24, 24), (1, 2, 12, None)),
}


def cswin(name: str, **overrides: Any) -> CSWin:
  """A CSWin transformer by name.

  Args:
    name: a key of `SIZES`, such as ``cswin_t``.
    **overrides: fields of `CSWin` to set.

  Returns:
    The module.

  Raises:
    ValueError: if there is none of this name.
  """
  return CSWin(**(size_by_name(name, SIZES, "a CSWin") | overrides))


def _check(model: CSWin, image: jax.Array) -> None:
  """Raises if sizes do not divide."""
  check_image(image)
  check_divisible("image", image.shape[1:3], (4, 4))
  size = [side // 4 for side in image.shape[1:3]]
  for i, (stripe, heads) in enumerate(zip(model.stripe, model.heads, strict=True)):
    if stripe is not None and any(side % stripe for side in size):
      raise ValueError(
        f"stripe={stripe} does not divide the map of stage {i}, {size[0]}x{size[1]}; choose a "
        "divisor, None for one stripe, or an image of another size"
      )
    if stripe is not None and heads % 2:
      raise ValueError(
        f"heads={heads} of stage {i} are odd, and half of them have upright stripes; choose "
        f"{heads + 1} or stripe=None"
      )
    dim = model.dim * 2**i
    if dim % heads:
      raise ValueError(
        f"heads={heads} does not divide dim={dim} of stage {i}; choose another number of heads"
      )
    size = [-(-side // 2) for side in size]
