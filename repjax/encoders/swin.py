"""Swin transformer: attention within windows of a grid, which move by half a window in turns."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.arrays import split_batch
from repjax.encoders.attend import attend
from repjax.encoders.features import Features
from repjax.encoders.named import size_by_name
from repjax.encoders.positions import Grid, patchify, relative_offsets, unpatchify
from repjax.encoders.stages import check_image, drop_rates
from repjax.encoders.transformer import FeedForward, check_heads, dense, norm

_EPSILON = 1e-5  # the official code leaves PyTorch's default


class Swin(nn.Module):
  """Stages of window attention, plain and shifted in turns, with 2x2 patches merged in between.

  A window no smaller than the map along an axis is cut down to it, and not shifted along it. Other
  windows have to divide the map: an error, as in the official classifier (its detector pads). The
  tables of biases are as large as the windows, so that an image size that cuts them down needs
  parameters of its own. Dense layers start as in `transformer.dense`, where the official code draws
  from a normal of 0.02.

  Attributes:
    depths: blocks of each stage.
    dim: width of the first stage; each stage has twice that before.
    heads: attention heads of the first stage; twice those before in each stage.
    window: side of a window in locations.
    patch_size: side in pixels of what becomes one location; 4 in the paper.
    mlp_ratio: width of the feed-forward layers over that of the stage.
    drop_path: odds that training leaves out the last block's branches, the first's being 0
      (`drop_rates`); draws from the collection ``dropout``.
    dtype: of the computation; parameters are float32.

  References:
    Liu et al., `Swin Transformer <https://arxiv.org/abs/2103.14030>`_, 2021, figure 3 and
    equations 3 and 4.
  """

  depths: tuple[int, ...]
  dim: int
  heads: int
  window: int = 7
  patch_size: int = 4
  mlp_ratio: float = 4
  drop_path: float = 0.0
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating; sides divisible by
        ``patch_size * 2 ** (stages - 1)``.
      train: whether ``drop_path`` is at work.

    Returns:
      Features; ``pooled`` is the mean of ``tokens``, which are the last map after the final norm,
      in raster order; ``layers`` the map after each stage, before patches are merged.

    Raises:
      ValueError: if ``image`` is not rank 4, or sides, windows or heads do not divide.
    """
    _check(self, image)
    grid = tuple(side // self.patch_size for side in image.shape[1:3])
    x = dense(self.dim, self.dtype, "patch")(patchify(image, self.patch_size))
    x = norm(self.dtype, "patch_norm", epsilon=_EPSILON)(x).reshape(len(x), *grid, self.dim)
    layers = []
    for i, rates in enumerate(drop_rates(self.drop_path, self.depths)):
      x = PatchMerging(self.dtype, name=f"stage_{i}_merge")(x) if i else x
      for j, rate in enumerate(rates):
        shape = (self.heads * 2**i, self.window, bool(j % 2), self.mlp_ratio, rate, self.dtype)
        x = _Block(*shape, name=f"stage_{i}_block_{j}")(x, train)
      layers.append(x)
    tokens = norm(self.dtype, "norm", epsilon=_EPSILON)(x.reshape(len(x), -1, x.shape[-1]))
    return Features(jnp.mean(tokens, 1), tokens, tuple(layers))


class PatchMerging(nn.Module):
  """Puts the four locations of each 2x2 square side by side, and halves their joint width.

  Attributes:
    dtype: of the computation.

  References:
    Liu et al., `Swin Transformer <https://arxiv.org/abs/2103.14030>`_, 2021, section 3.1.
  """

  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, height, width, dim]`` to ``[batch, height / 2, width / 2, 2 * dim]``."""
    batch, height, width, dim = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, dim)
    # Down a column of the square first, as the official weights have it.
    x = x.transpose(0, 1, 3, 4, 2, 5).reshape(batch, height // 2, width // 2, 4 * dim)
    init = nn.initializers.xavier_uniform()
    layer = nn.Dense(2 * dim, False, dtype=self.dtype, kernel_init=init, name="out")
    return layer(norm(self.dtype, "norm", epsilon=_EPSILON)(x))


class _Block(nn.Module):
  """Window attention and a feed-forward layer, each normed before and added."""

  heads: int
  window: int
  shifted: bool
  mlp_ratio: float
  drop_path: float
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    grid, dim = x.shape[1:3], x.shape[-1]
    window = tuple(min(self.window, side) for side in grid)
    shift = tuple(
      w // 2 if self.shifted and side > w else 0 for w, side in zip(window, grid, strict=True)
    )
    drop = nn.Dropout(self.drop_path, (1, 2, 3), deterministic=not train)

    x = split_batch(x)
    y = jnp.roll(norm(self.dtype, "norm_1", epsilon=_EPSILON)(x), (-shift[0], -shift[1]), (1, 2))
    y = patchify(y, window).reshape(len(x), -1, math.prod(window), dim)
    attention = WindowAttention(self.heads, window, self.dtype, name="attention")
    y = attention(y, _together(grid, window, shift) if any(shift) else None)
    y = unpatchify(y.reshape(*y.shape[:2], -1), (*grid, dim), window)
    x = x + drop(jnp.roll(y, shift, (1, 2)))
    mlp = FeedForward(int(self.mlp_ratio * dim), self.dtype, name="mlp")
    return x + drop(mlp(norm(self.dtype, "norm_2", epsilon=_EPSILON)(x)))


class WindowAttention(nn.Module):
  """Multi-head attention within windows, with a bias for each offset between two locations.

  Attributes:
    heads: number of heads; divides the width.
    window: rows and columns of a window.
    dtype: of the computation.

  References:
    Liu et al., `Swin Transformer <https://arxiv.org/abs/2103.14030>`_, 2021, equation 4.
  """

  heads: int
  window: Grid
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, together: np.ndarray | None = None) -> jax.Array:
    """Attends.

    Args:
      x: ``[batch, windows, locations, dim]``, the locations of a window in raster order.
      together: ``[windows, locations, locations]`` boolean, which may see each other; all if
        absent.

    Returns:
      Same shape as ``x``.
    """
    dim = x.shape[-1]
    split = lambda y: y.reshape(*y.shape[:-1], self.heads, dim // self.heads)
    query, key, value = (split(dense(dim, self.dtype, n)(x)) for n in ("query", "key", "value"))
    offsets = math.prod(2 * side - 1 for side in self.window)
    table = self.param("position_bias", nn.initializers.normal(0.02), (offsets, self.heads))
    bias = jnp.moveaxis(table[relative_offsets(self.window)], -1, 0)[None, None]
    where = None if together is None else jnp.asarray(together)[None, :, None]
    y = attend(query, key, value, where=where, bias=bias)
    return dense(dim, self.dtype, "out")(y.reshape(x.shape))


def _together(grid: Grid, window: Grid, shift: Grid) -> np.ndarray:
  """Which locations of a window are neighbours in the image, not brought together by the roll.

  Returns:
    ``[windows, locations, locations]`` boolean.
  """
  row, column = (np.arange(side) >= side - s for side, s in zip(grid, shift, strict=True))
  part = 2 * row[:, None] + column[None]
  part = part.reshape(grid[0] // window[0], window[0], grid[1] // window[1], window[1])
  part = part.swapaxes(1, 2).reshape(-1, math.prod(window))
  return part[:, :, None] == part[:, None]


def _check(swin: Swin, image: jax.Array) -> None:
  """Raises unless sides, windows and heads divide."""
  check_image(image, swin.patch_size * 2 ** (len(swin.depths) - 1))
  check_heads(swin.dim, swin.heads)
  for i in range(len(swin.depths)):
    grid = tuple(side // (swin.patch_size * 2**i) for side in image.shape[1:3])
    if any(side > swin.window and side % swin.window for side in grid):
      raise ValueError(
        f"window={swin.window} does not divide the {grid[0]}x{grid[1]} map of stage {i}; resize "
        f"the image of {image.shape[1]}x{image.shape[2]} or choose a window that divides its maps"
      )


class Size(NamedTuple):
  """Blocks of each stage, width and heads of the first."""

  depths: tuple[int, ...]
  dim: int
  heads: int


#: Liu et al., 2021, section 3.3. All have windows of 7 at 224 pixels; those of 384 have 12.
SIZES = {
  "swin_t": Size((2, 2, 6, 2), 96, 3),
  "swin_s": Size((2, 2, 18, 2), 96, 3),
  "swin_b": Size((2, 2, 18, 2), 128, 4),
  "swin_l": Size((2, 2, 18, 2), 192, 6),
}


def swin(name: str, **overrides: Any) -> Swin:
  """A Swin transformer by name.

  Args:
    name: a key of ``SIZES``, such as ``swin_t``.
    **overrides: fields of `Swin` to set.

  Returns:
    The module.

  Raises:
    ValueError: if there is none of this name.
  """
  return Swin(**(size_by_name(name, SIZES, "a Swin transformer") | overrides))
