"""MobileNets of the first and second version, in which ULSAM may stand for blocks."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.arrays import split_batch
from repjax.encoders.batch_norm import batch_norm
from repjax.encoders.convolution import convolve
from repjax.encoders.features import Features
from repjax.encoders.named import size_by_name
from repjax.encoders.stages import check_image
from repjax.encoders.ulsam import SubspaceAttention


class Row(NamedTuple):
  """Blocks of one width: how far they widen inside, channels, how many, stride of the first."""

  expand: int
  width: int
  repeats: int
  stride: int


class MobileNet(nn.Module):
  """Depthwise-separable convolutions: plain ones (V1) or inverted residuals (V2).

  Attributes:
    rows: the blocks.
    inverted: whether a block's last convolution is linear and a shortcut leads around blocks that
      keep the shape, as in V2.
    last: channels of a 1x1 convolution behind the blocks, if any.
    multiplier: of all widths, which are rounded to eights; of ``last`` only above 1.
    stem_stride: of the first convolution; 1 for images of few pixels.
    attention: blocks that `SubspaceAttention` stands for, counted from 0; they must keep the shape.
    subspaces: number of its groups.
    momentum: share of the running statistics kept at each step of training.
    axis_name: mapped axis that holds the other shards of a batch, if any.
    dtype: of the computation; parameters and statistics are float32.

  References:
    Howard et al., `MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
    Applications <https://arxiv.org/abs/1704.04861>`_, 2017, table 1 (with V2's ReLU6, as timm).
    Sandler et al., `MobileNetV2: Inverted Residuals and Linear Bottlenecks
    <https://arxiv.org/abs/1801.04381>`_, 2018, table 2.
    Saini et al., `ULSAM <https://arxiv.org/abs/2006.15102>`_, 2020, section 4.
  """

  rows: tuple[Row, ...]
  inverted: bool
  last: int = 0
  multiplier: float = 1.0
  stem_stride: int = 2
  attention: tuple[int, ...] = ()
  subspaces: int = 4
  momentum: float = 0.9
  axis_name: str | None = None
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: whether batch norm uses the batch's statistics, and updates the running ones in the
        collection ``batch_stats``.

    Returns:
      Features; ``pooled`` is the mean over the last map, ``tokens`` that map in raster order, and
      ``layers`` the map after each row of blocks.

    Raises:
      ValueError: if ``image`` is not rank 4, or attention is to stand for what changes the shape.
    """
    check_image(image)
    norm = batch_norm(self, train)
    conv = functools.partial(_conv, norm, self.dtype)
    x = nn.relu6(conv(image, _eights(32 * self.multiplier), 3, "stem", stride=self.stem_stride))
    layers, index = [], 0
    for row in self.rows:
      width = _eights(row.width * self.multiplier)
      for i in range(row.repeats):
        stride = 1 if i else row.stride
        if index not in self.attention:
          x = _block(conv, split_batch(x), row.expand, width, stride, self.inverted, index)
        elif stride > 1 or x.shape[-1] != width:
          raise ValueError(
            f"attention cannot stand for block {index}, which makes {width} channels at stride "
            f"{stride} of {x.shape[-1]}; choose a block that keeps the shape"
          )
        else:
          x = SubspaceAttention(
            self.subspaces,
            self.momentum,
            self.axis_name,
            self.dtype,
            name=f"block_{index}_attention",
          )(x, train=train)
        index += 1
      layers.append(x)
    if self.last:
      x = nn.relu6(conv(x, _eights(self.last * max(self.multiplier, 1)), 1, "last"))
    return Features(jnp.mean(x, (1, 2)), x.reshape(len(x), -1, x.shape[-1]), tuple(layers))


def _block(conv, x, expand, width, stride, inverted, index):
  y, wide = x, x.shape[-1] * expand
  if expand > 1:
    y = nn.relu6(conv(y, wide, 1, f"block_{index}_expand"))
  y = nn.relu6(conv(y, wide, 3, f"block_{index}_depthwise", stride=stride, groups=wide))
  y = conv(y, width, 1, f"block_{index}_project")
  if not inverted:
    return nn.relu6(y)
  return x + y if x.shape == y.shape else y


def _conv(norm, dtype, x, features, kernel, name, *, stride=1, groups=1):
  # Padding as in PyTorch: the same on both sides, also where the stride is 2.
  layer = nn.Conv(
    features,
    (kernel, kernel),
    (stride, stride),
    kernel // 2,
    feature_group_count=groups,
    use_bias=False,
    dtype=dtype,
    kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal"),
    conv_general_dilated=convolve,
    name=name,
  )
  return norm(name=f"{name}_norm")(layer(x))


def _eights(width: float) -> int:
  """The nearest multiple of 8, but not a tenth below."""
  rounded = max(8, int(width + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * width else rounded


class Size(NamedTuple):
  """Blocks, their kind, and the channels of the last convolution."""

  rows: tuple[Row, ...]
  inverted: bool
  last: int


_V1 = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
_V2 = (
  (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
  (6, 320, 1, 1),
)  # fmt: skip

#: Howard et al., 2017, table 1; Sandler et al., 2018, table 2.
MOBILENETS = {
  "mobilenet_v1": Size(tuple(Row(1, *row) for row in _V1), False, 0),
  "mobilenet_v2": Size(tuple(Row(*row) for row in _V2), True, 1280),
}


def mobilenet(name: str, **overrides: Any) -> MobileNet:
  """A MobileNet by name.

  Args:
    name: a key of `MOBILENETS`, such as ``mobilenet_v2``.
    **overrides: fields of `MobileNet` to set, such as ``attention=(8, 9)``.

  Returns:
    The module.

  Raises:
    ValueError: if there is none of this name.
  """
  return MobileNet(**(size_by_name(name, MOBILENETS, "a MobileNet") | overrides))
