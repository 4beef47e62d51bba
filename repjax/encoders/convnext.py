"""ConvNeXt: a convolutional net with the proportions of a vision transformer, versions 1 and 2."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32, safe_sqrt, split_batch
from repjax.encoders.convolution import convolve
from repjax.encoders.features import Features
from repjax.encoders.named import size_by_name
from repjax.encoders.stages import check_image, drop_rates
from repjax.encoders.transformer import dense, gelu, norm


class ConvNeXt(nn.Module):
  """Stages of depthwise 7x7 convolutions and pointwise layers, normalised over channels.

  Pointwise layers start as in `transformer.dense`, where the papers draw from a normal of 0.02.

  Attributes:
    depths: blocks of each stage.
    dim: channels of the first stage; each stage has twice those before.
    grn: version 2, global response normalisation in place of layer scale.
    layer_scale: start of version 1's factor on each block's channels.
    patch_size: side in pixels of what the stem makes one location; 4 in the papers.
    drop_path: odds that training leaves out the last block's branch, the first's being 0
      (`drop_rates`); draws from the collection ``dropout``.
    dtype: of the computation; parameters are float32.

  References:
    Liu et al., `A ConvNet for the 2020s <https://arxiv.org/abs/2201.03545>`_, 2022, figure 4 and
    table 9.
    Woo et al., `ConvNeXt V2 <https://arxiv.org/abs/2301.00808>`_, 2023, section 3.2.
  """

  depths: tuple[int, ...]
  dim: int
  grn: bool = False
  layer_scale: float = 1e-6
  patch_size: int = 4
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
      Features; ``pooled`` is the normed mean over the last map, ``tokens`` that map in raster order
      (before the norm, which follows the mean), ``layers`` the map after each stage.

    Raises:
      ValueError: if ``image`` is not rank 4 or its sides do not divide.
    """
    check_image(image, self.patch_size * 2 ** (len(self.depths) - 1))
    x = _patches(self.dim, self.patch_size, self.dtype, "stem_conv")(image)
    x = norm(self.dtype, "stem_norm")(x)
    layers = []
    for i, rates in enumerate(drop_rates(self.drop_path, self.depths)):
      if i:
        x = norm(self.dtype, f"stage_{i}_norm")(x)
        x = _patches(self.dim * 2**i, 2, self.dtype, f"stage_{i}_conv")(x)
      for j, rate in enumerate(rates):
        scale = None if self.grn else self.layer_scale
        x = _Block(scale, rate, self.dtype, name=f"stage_{i}_block_{j}")(x, train)
      layers.append(x)
    pooled = norm(self.dtype, "norm")(jnp.mean(x, (1, 2)))
    return Features(pooled, x.reshape(len(x), -1, x.shape[-1]), tuple(layers))


class _Block(nn.Module):
  """Mixes over space, then over channels; with a layer scale, or global response normalisation."""

  layer_scale: float | None
  drop_path: float
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    dim = x.shape[-1]
    x = split_batch(x)
    y = nn.Conv(
      dim, (7, 7), padding=3, feature_group_count=dim, dtype=self.dtype, name="conv",
      kernel_init=nn.initializers.normal(0.02), conv_general_dilated=convolve,
    )(x)  # fmt: skip
    y = gelu(dense(4 * dim, self.dtype, "up")(norm(self.dtype, "norm")(y)))
    if self.layer_scale is None:
      y = GlobalResponseNorm(self.dtype, name="grn")(y)
    y = dense(dim, self.dtype, "down")(y)
    if self.layer_scale is not None:
      init = nn.initializers.constant(self.layer_scale)
      y = y * self.param("layer_scale", init, (dim,)).astype(self.dtype)[None, None, None]
    return x + nn.Dropout(self.drop_path, (1, 2, 3), deterministic=not train)(y)


class GlobalResponseNorm(nn.Module):
  """Sharpens channels against each other by their norms over the whole map.

  The identity at the start. The official code's 1e-6 beside the mean norm is kept.

  Attributes:
    dtype: of the result.

  References:
    Woo et al., `ConvNeXt V2 <https://arxiv.org/abs/2301.00808>`_, 2023, equations 1 to 3 and
    algorithm 1.
  """

  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, height, width, dim]`` to the same shape."""
    scale, bias = (
      self.param(name, nn.initializers.zeros, x.shape[-1:])[None, None, None]
      for name in ("scale", "bias")
    )
    wide = at_least_float32(x)
    response = safe_sqrt(jnp.sum(wide * wide, (1, 2), keepdims=True))
    response = response / (jnp.mean(response, -1, keepdims=True) + 1e-6)
    return (wide + scale * wide * response + bias).astype(self.dtype)


def _patches(features: int, side: int, dtype: DTypeLike, name: str) -> nn.Conv:
  init = nn.initializers.normal(0.02)
  return nn.Conv(
    features, (side, side), side, "VALID", dtype=dtype, kernel_init=init, name=name,
    conv_general_dilated=convolve,
  )  # fmt: skip


class Size(NamedTuple):
  """Blocks of each stage, channels of the first, and whether it is version 2."""

  depths: tuple[int, ...]
  dim: int
  grn: bool = False


#: Liu et al., 2022, section 3 and table 12 (xl); Woo et al., 2023, appendix A.1.
SIZES = {
  "convnext_t": Size((3, 3, 9, 3), 96),
  "convnext_s": Size((3, 3, 27, 3), 96),
  "convnext_b": Size((3, 3, 27, 3), 128),
  "convnext_l": Size((3, 3, 27, 3), 192),
  "convnext_xl": Size((3, 3, 27, 3), 256),
  "convnextv2_a": Size((2, 2, 6, 2), 40, True),
  "convnextv2_f": Size((2, 2, 6, 2), 48, True),
  "convnextv2_p": Size((2, 2, 6, 2), 64, True),
  "convnextv2_n": Size((2, 2, 8, 2), 80, True),
  "convnextv2_t": Size((3, 3, 9, 3), 96, True),
  "convnextv2_b": Size((3, 3, 27, 3), 128, True),
  "convnextv2_l": Size((3, 3, 27, 3), 192, True),
  "convnextv2_h": Size((3, 3, 27, 3), 352, True),
}


def convnext(name: str, **overrides: Any) -> ConvNeXt:
  """A ConvNeXt by name.

  Args:
    name: a key of ``SIZES``, such as ``convnext_t`` or ``convnextv2_t``.
    **overrides: fields of `ConvNeXt` to set.

  Returns:
    The module.

  Raises:
    ValueError: if there is none of this name.
  """
  return ConvNeXt(**(size_by_name(name, SIZES, "a ConvNeXt") | overrides))
