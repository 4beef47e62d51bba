"""CrossViT: patches of two sizes, whose class tokens read one another's patches."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32
from repjax.encoders.features import Features
from repjax.encoders.named import size_by_name
from repjax.encoders.positions import check_divisible, pair, patchify
from repjax.encoders.stages import check_image
from repjax.encoders.transformer import Attention, Block, Implementation, dense, gelu, norm

Branches = tuple[jax.Array, jax.Array]
Side = int | tuple[int, int]

_token_init = nn.initializers.truncated_normal(0.02)
# Strides of the convolutions that make a patch of so many pixels.
_STRIDES = {12: (4, 3, 1), 16: (4, 2, 2)}


class CrossViT(nn.Module):
  """Two vision transformers, of small and of large patches, that meet in their class tokens.

  A multi-scale block runs the blocks of each branch; then each class token, projected to the other
  branch's width, attends over the other's patches and comes back.

  Attributes:
    patch_size: side of a patch in pixels, of the small and the large branch, as all pairs below.
    dim: widths.
    depth: blocks of each branch in a multi-scale block.
    heads: attention heads; each divides its branch's width.
    fusions: number of multi-scale blocks.
    mlp_ratio: width of the feed-forward layers over that of the branch.
    image_size: side, or (height, width), that each branch has images resized to (bicubic); as
      they come if absent, and then always the same size.
    stem: ``patch``, one linear map a patch, or ``conv``, three convolutions (patches of 12 and 16).
    dtype: of the computation; parameters are float32.
    attention: ``xla``, ``cudnn``, or ``auto``, see `repjax.encoders.transformer.Attention`.

  References:
    Chen, Fan, Panda, `CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image
    Classification <https://arxiv.org/abs/2103.14899>`_, 2021, figures 2 and 4, eq. 4 to 6. The
    projections are a norm, GELU and a dense layer, as in the official code.
  """

  patch_size: tuple[int, int] = (12, 16)
  dim: tuple[int, int] = (192, 384)
  depth: tuple[int, int] = (1, 4)
  heads: tuple[int, int] = (6, 6)
  fusions: int = 3
  mlp_ratio: float = 4
  image_size: tuple[Side, Side] | None = None
  stem: Literal["patch", "conv"] = "patch"
  dtype: DTypeLike = jnp.float32
  attention: Implementation = "auto"

  @nn.compact
  def __call__(
    self,
    image: jax.Array,
    *,
    train: bool = False,
    tokens_in: Callable[[int, Branches], Branches] | None = None,
  ) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: without effect, since nothing here depends on it; every encoder takes it.
      tokens_in: ``(i, ([batch, n, dim], [batch, m, dim])) -> the same with other n, m``, called on
        both sequences before each multi-scale block. Class tokens come first and must stay.

    Returns:
      Features; ``pooled`` is both normed class tokens ``[batch, dim + dim]``, so that one linear
      layer on it is the paper's sum of two heads; ``tokens`` are the normed patch tokens of the
      large branch; ``layers`` alternates between small and large branch after each multi-scale
      block, class token first.

    Raises:
      ValueError: if sizes do not divide, or options contradict each other.
    """
    del train
    _check(self, image)
    branches = tuple(self._embed(i, image) for i in range(2))
    layers = []
    for i in range(self.fusions):
      branches = branches if tokens_in is None else tokens_in(i, branches)
      branches = _MultiScale(
        self.depth, self.heads, self.mlp_ratio, self.dtype, self.attention, name=f"block_{i}"
      )(branches)
      layers += branches
    small, large = (norm(self.dtype, f"norm_{i}")(x) for i, x in enumerate(branches))
    return Features(jnp.concatenate([small[:, 0], large[:, 0]], -1), large[:, 1:], tuple(layers))

  def _embed(self, i, image):
    """Class token and patches of one branch, with positions."""
    patch, dim = self.patch_size[i], self.dim[i]
    if self.image_size is not None:
      image = _resize(image, pair(self.image_size[i]))
    if self.stem == "patch":
      x = dense(dim, self.dtype, f"patch_{i}")(patchify(image, patch))
    else:
      x = _Convolutions(dim, _STRIDES[patch], self.dtype, name=f"stem_{i}")(image)
      x = x.reshape(len(x), -1, dim)
    if self.has_variable("params", f"positions_{i}"):
      stored = len(self.get_variable("params", f"positions_{i}")) - 1
      if stored != x.shape[1]:
        raise ValueError(
          f"positions were learned for {stored} patches of {patch} pixels and the image has "
          f"{x.shape[1]}; set image_size= to the sizes at init to have images resized"
        )
    token = self.param(f"class_token_{i}", _token_init, (1, dim)).astype(self.dtype)
    positions = self.param(f"positions_{i}", _token_init, (1 + x.shape[1], dim))
    x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, dim)), x], 1)
    return x + positions[None].astype(self.dtype)


class _MultiScale(nn.Module):
  """Blocks of both branches, then one round of cross-attention between them."""

  depth: tuple[int, int]
  heads: tuple[int, int]
  mlp_ratio: float
  dtype: DTypeLike
  attention: Implementation

  @nn.compact
  def __call__(self, branches: Branches) -> Branches:
    after = []
    for i, x in enumerate(branches):
      mlp_dim = int(self.mlp_ratio * x.shape[-1])
      for j in range(self.depth[i]):
        x = Block(self.heads[i], mlp_dim, self.dtype, self.attention, name=f"branch_{i}_block_{j}")(
          x
        )
      after.append(x)
    first, second = (
      _Cross(self.heads[1 - i], self.dtype, self.attention, name=f"cross_{i}") for i in range(2)
    )
    return first(*after), second(*reversed(after))


class _Cross(nn.Module):
  """Renews a branch's class token from the patches of the other."""

  heads: int
  dtype: DTypeLike
  attention: Implementation

  @nn.compact
  def __call__(self, own: jax.Array, other: jax.Array) -> jax.Array:
    def project(x, dim, name):
      return dense(dim, self.dtype, name)(gelu(norm(self.dtype, f"{name}_norm")(x)))

    token = project(own[:, :1], other.shape[-1], "project")
    x = norm(self.dtype, "norm")(jnp.concatenate([token, other[:, 1:]], 1))
    attention = Attention(self.heads, self.dtype, self.attention, name="attention")
    token = project(token + attention(x, x[:, :1]), own.shape[-1], "back")
    return jnp.concatenate([token, own[:, 1:]], 1)


class _Convolutions(nn.Module):
  """The stem of the models with a dagger."""

  dim: int
  strides: tuple[int, int, int]
  dtype: DTypeLike

  @nn.compact
  def __call__(self, image: jax.Array) -> jax.Array:
    x = image
    for i, stride in enumerate(self.strides):
      kernel = 3 if i else 7
      padding = 0 if stride == kernel else kernel // 2
      width = self.dim // 2 ** (2 - i)
      x = nn.Conv(
        width, (kernel, kernel), stride, padding, dtype=self.dtype, name=f"conv_{i}",
        kernel_init=nn.initializers.he_normal(),
      )(x)  # fmt: skip
      x = x if i == 2 else nn.relu(x)
    return x


def _resize(image: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Bicubic, not antialiased, in the variant that the official code uses (a = -3/4).

  JAX's has a = -1/2, which would shift the input of converted weights.
  """
  for axis, side in enumerate(size, 1):
    if image.shape[axis] != side:
      rows, weights = _taps(image.shape[axis], side)
      weights = weights.reshape(4, *(1,) * axis, side, *(1,) * (3 - axis))
      # One tap after another fuses into a loop; taken together they were a map four times as large.
      image = sum(
        jnp.take(at_least_float32(image), row, axis) * weight
        for row, weight in zip(rows, weights, strict=True)
      )
  return image


def _taps(before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
  """Which four samples make each new one, and their weights, ``[4, after]`` each."""
  place = (np.arange(after)[None] + 0.5) * before / after - 0.5
  rows = np.floor(place) + np.arange(-1, 3)[:, None]
  a, d = -0.75, np.abs(place - rows)
  near = ((a + 2) * d - (a + 3)) * d**2 + 1
  far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
  weights = np.where(d <= 1, near, np.where(d < 2, far, 0)).astype(np.float32)
  return np.clip(rows, 0, before - 1).astype(np.int32), weights


class Size(NamedTuple):
  """Shape of a CrossViT; pairs are of the small and the large branch."""

  dim: tuple[int, int]
  depth: tuple[int, int]
  heads: tuple[int, int]
  mlp_ratio: float
  stem: str = "patch"


#: Chen et al., 2021, table 1: three multi-scale blocks, patches of 12 and 16 pixels.
SIZES = {
  "crossvit_ti": Size((96, 192), (1, 4), (3, 3), 4),
  "crossvit_s": Size((192, 384), (1, 4), (6, 6), 4),
  "crossvit_b": Size((384, 768), (1, 4), (12, 12), 4),
  "crossvit_9": Size((128, 256), (1, 3), (4, 4), 3),
  "crossvit_15": Size((192, 384), (1, 5), (6, 6), 3),
  "crossvit_18": Size((224, 448), (1, 6), (7, 7), 3),
  "crossvit_9_dagger": Size((128, 256), (1, 3), (4, 4), 3, "conv"),
  "crossvit_15_dagger": Size((192, 384), (1, 5), (6, 6), 3, "conv"),
  "crossvit_18_dagger": Size((224, 448), (1, 6), (7, 7), 3, "conv"),
}


def crossvit(name: str, **overrides: Any) -> CrossViT:
  """A CrossViT by name, for images of any size, which it resizes.

  Args:
    name: a key of `SIZES`, such as ``crossvit_s``.
    **overrides: fields of `CrossViT` to set.

  Returns:
    The module.

  Raises:
    ValueError: if there is none of this name.
  """
  size = size_by_name(name, SIZES, "a CrossViT")
  return CrossViT(**({"image_size": (240, 224)} | size | overrides))


def _check(model: CrossViT, image: jax.Array) -> None:
  """Raises if sizes do not divide or options contradict each other."""
  check_image(image)
  if model.stem == "conv" and not set(model.patch_size) <= set(_STRIDES):
    raise ValueError(
      f"stem='conv' makes patches of {' and '.join(map(str, _STRIDES))} pixels, got patch_size="
      f"{model.patch_size}; choose among them or stem='patch'"
    )
  for i, (patch, dim, heads) in enumerate(
    zip(model.patch_size, model.dim, model.heads, strict=True)
  ):
    size = image.shape[1:3] if model.image_size is None else pair(model.image_size[i])
    check_divisible("image", size, pair(patch))
    if dim % heads:
      raise ValueError(
        f"heads={heads} does not divide dim={dim}; choose dim={math.ceil(dim / heads) * heads} or "
        "another number of heads"
      )
