"""Transformer in transformer: words inside of patches, patches as sentences."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.encoders.features import Features
from repjax.encoders.named import size_by_name
from repjax.encoders.positions import check_divisible, interpolate, pair, patchify
from repjax.encoders.stages import check_image
from repjax.encoders.transformer import Block, Implementation, dense, norm

Levels = tuple[jax.Array, jax.Array]

_token_init = nn.initializers.truncated_normal(0.02)
_EPSILON = 1e-5


class TNT(nn.Module):
  """Transformer over patches, each of which is read by a small transformer over its pixels.

  In every block an inner transformer runs over the words of each patch; they are then folded into
  one vector, which is added to the patch's token before the outer transformer.

  Attributes:
    patch_size: side of a patch (a sentence) in pixels, or (height, width).
    dim: width of the outer transformer.
    depth: number of blocks.
    heads: attention heads of the outer transformer; divides ``dim``.
    inner_dim: width of the inner transformer.
    inner_heads: attention heads of the inner transformer; divides ``inner_dim``.
    word_size: side of a word in pixels; divides ``patch_size``.
    mlp_ratio: width of the feed-forward layers over that of their transformer.
    image_size: side, or (height, width), that positions are stored for; images of another size
      get them interpolated. If absent, that of the image, and other sizes are refused.
    dtype: of the computation; parameters are float32.
    attention: ``xla``, ``cudnn``, or ``auto``, see `repjax.encoders.transformer.Attention`.

  References:
    Han et al., `Transformer in Transformer <https://arxiv.org/abs/2103.00112>`_, 2021, eq. 5 to 9.
    Words are made by a 7x7 convolution that stays inside of the patch, and are folded between two
    norms, as in the official code; the paper writes one linear layer for each.
  """

  patch_size: int | tuple[int, int] = 16
  dim: int = 384
  depth: int = 12
  heads: int = 6
  inner_dim: int = 24
  inner_heads: int = 4
  word_size: int = 4
  mlp_ratio: float = 4
  image_size: int | tuple[int, int] | None = None
  dtype: DTypeLike = jnp.float32
  attention: Implementation = "auto"

  @nn.compact
  def __call__(
    self,
    image: jax.Array,
    *,
    train: bool = False,
    tokens_in: Callable[[int, Levels], Levels] | None = None,
  ) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: without effect, since nothing here depends on it; every encoder takes it.
      tokens_in: ``(layer, (words [batch, patches, words, inner_dim], [batch, n, dim])) -> both``,
        called before each block. The last tokens are those of the patches, which may be dropped
        from both; what comes before them, the class token first, has no words.

    Returns:
      Features; ``pooled`` is the class token and ``tokens`` the patches after the final norm,
      ``layers`` the outer sequence after each block, before it.

    Raises:
      ValueError: if sizes do not divide, or the image has another size than at init.
    """
    del train
    _check(self, image)
    patch = pair(self.patch_size)
    grid = (image.shape[1] // patch[0], image.shape[2] // patch[1])

    words = self._words(image, patch)
    x = _Fold(self.dim, True, self.dtype, name="fold")(words)
    class_token = self.param("class_token", _token_init, (1, self.dim)).astype(self.dtype)
    x = jnp.concatenate([jnp.broadcast_to(class_token, (len(x), 1, self.dim)), x], 1)
    x = x + self._positions(grid)[None].astype(self.dtype)

    layers = []
    for i in range(self.depth):
      words, x = (words, x) if tokens_in is None else tokens_in(i, (words, x))
      words, x = _Block(
        self.heads, self.inner_heads, self.mlp_ratio, self.dtype, self.attention, name=f"block_{i}"
      )(words, x)
      layers.append(x)
    x = norm(self.dtype, "norm", epsilon=_EPSILON)(x)
    return Features(x[:, 0], x[:, x.shape[1] - words.shape[1] :], tuple(layers))

  def _words(self, image, patch):
    """Pixels as words, with positions that all patches share: ``[batch, patches, words, dim]``."""
    x = patchify(image, patch)
    size = x.shape[:2]
    stride = (self.word_size, self.word_size)
    convolution = nn.Conv(self.inner_dim, (7, 7), stride, 3, dtype=self.dtype, name="words")
    x = convolution(x.reshape(-1, *patch, image.shape[-1]))
    x = x.reshape(*size, -1, self.inner_dim)
    positions = self.param("word_positions", _token_init, x.shape[2:])
    return x + positions[None, None].astype(self.dtype)

  def _positions(self, grid):
    """Positions of the class token and of the patches, ``[1 + patches, dim]``."""
    native = grid
    if self.image_size is not None:
      sides = zip(pair(self.image_size), pair(self.patch_size), strict=True)
      native = tuple(side // patch for side, patch in sides)
    elif self.has_variable("params", "positions"):
      stored = len(self.get_variable("params", "positions")) - 1
      if stored != grid[0] * grid[1]:
        raise ValueError(
          f"positions were learned for {stored} patches and the image has {grid[0] * grid[1]}; "
          "set image_size= to the size at init to have them interpolated"
        )
    table = self.param("positions", _token_init, (1 + native[0] * native[1], self.dim))
    return jnp.concatenate([table[:1], interpolate(table[1:], native, grid)])


class _Fold(nn.Module):
  """The words of each patch as one vector."""

  dim: int
  bias: bool
  dtype: DTypeLike

  @nn.compact
  def __call__(self, words: jax.Array) -> jax.Array:
    x = norm(self.dtype, "norm_1", epsilon=_EPSILON)(words.reshape(*words.shape[:2], -1))
    x = dense(self.dim, self.dtype, "words", bias=self.bias)(x)
    return norm(self.dtype, "norm_2", epsilon=_EPSILON)(x)


class _Block(nn.Module):
  """Inner transformer, fold, outer transformer."""

  heads: int
  inner_heads: int
  mlp_ratio: float
  dtype: DTypeLike
  attention: Implementation

  @nn.compact
  def __call__(self, words: jax.Array, x: jax.Array) -> Levels:
    def block(heads, dim, name):
      mlp_dim = int(self.mlp_ratio * dim)
      return Block(heads, mlp_dim, self.dtype, self.attention, False, _EPSILON, name=name)

    batch, patches, count, inner_dim = words.shape
    # Patches are further examples to the inner transformer.
    inner = block(self.inner_heads, inner_dim, "inner")(words.reshape(-1, count, inner_dim))
    words = inner.reshape(batch, patches, count, inner_dim)
    sentences = _Fold(x.shape[-1], False, self.dtype, name="fold")(words)
    first = x.shape[1] - patches
    x = jnp.concatenate([x[:, :first], x[:, first:] + sentences], 1)
    return words, block(self.heads, x.shape[-1], "outer")(x)


class Size(NamedTuple):
  """Shape of a TNT: outer width and heads, inner width and heads."""

  dim: int
  heads: int
  inner_dim: int
  inner_heads: int


#: Han et al., 2021, table 1: 12 blocks, patches of 16 pixels, words of 4.
SIZES = {
  "tnt_ti": Size(192, 3, 12, 2),
  "tnt_s": Size(384, 6, 24, 4),
  "tnt_b": Size(640, 10, 40, 4),
}


def tnt(name: str, **overrides: Any) -> TNT:
  """A transformer in transformer by name.

  Args:
    name: a key of `SIZES`, such as ``tnt_s``.
    **overrides: fields of `TNT` to set.

  Returns:
    The module.

  Raises:
    ValueError: if there is none of this name.
  """
  return TNT(**(size_by_name(name, SIZES, "a TNT") | overrides))


def _check(model: TNT, image: jax.Array) -> None:
  """Raises if sizes do not divide."""
  check_image(image)
  patch = pair(model.patch_size)
  check_divisible("image", image.shape[1:3], patch)
  if model.image_size is not None:
    check_divisible("image_size", pair(model.image_size), patch)
  for side in patch:
    if side % model.word_size:
      raise ValueError(
        f"word_size={model.word_size} does not divide patch_size={model.patch_size}; choose a "
        "divisor"
      )
  for dim, heads, kind in (
    (model.dim, model.heads, ""),
    (model.inner_dim, model.inner_heads, "inner_"),
  ):
    if dim % heads:
      raise ValueError(
        f"{kind}heads={heads} does not divide {kind}dim={dim}; choose {kind}dim="
        f"{-(-dim // heads) * heads} or another number of heads"
      )
