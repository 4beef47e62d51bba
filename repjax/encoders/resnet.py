"""Residual networks of 18 to 152 layers, with ImageNet and CIFAR stems."""

import functools
from typing import Any, Literal, NamedTuple

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


class ResNet(nn.Module):
  """Residual network with batch norm; strides sit in the 3x3 convolutions (v1.5).

  Attributes:
    stages: number of blocks at each resolution.
    bottleneck: three convolutions a block, the last four times as wide, rather than two.
    width: channels of the first stage.
    stem: ``imagenet``, a 7x7 convolution of stride 2 and a max pool, or ``cifar``, a 3x3 of
      stride 1 and no pool.
    zero_init: whether each block starts as the identity, its last norm's scale at 0.
    momentum: share of the running statistics kept at each step of training.
    axis_name: mapped axis that holds the other shards of a batch, if any.
    dtype: of the computation; parameters and statistics are float32.

  References:
    He et al., `Deep Residual Learning for Image Recognition <https://arxiv.org/abs/1512.03385>`_,
    2015, table 1 and section 4.2.
    Goyal et al., `Accurate, Large Minibatch SGD <https://arxiv.org/abs/1706.02677>`_, 2017,
    section 5.1 (``zero_init``).
  """

  stages: tuple[int, ...]
  bottleneck: bool
  width: int = 64
  stem: Literal["imagenet", "cifar"] = "imagenet"
  zero_init: bool = True
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
      ``layers`` the map after each stage.

    Raises:
      ValueError: if ``image`` is not rank 4 or the stem is unknown.
    """
    check_image(image)
    if self.stem not in ("imagenet", "cifar"):
      raise ValueError(f"stem={self.stem!r} is not a stem; choose 'imagenet' or 'cifar'")
    norm = batch_norm(self, train)
    kernel, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
    x = conv(self.width, kernel, stride, self.dtype, "stem_conv")(image)
    x = nn.relu(norm(name="stem_norm")(x))
    if self.stem == "imagenet":
      x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    layers = []
    for i, blocks in enumerate(self.stages):
      for j in range(blocks):
        x = ResidualBlock(
          self.width * 2**i,
          2 if i and not j else 1,
          self.bottleneck,
          self.zero_init,
          norm,
          self.dtype,
          name=f"stage_{i}_block_{j}",
        )(x)
      layers.append(x)
    return Features(jnp.mean(x, (1, 2)), x.reshape(len(x), -1, x.shape[-1]), tuple(layers))


class ResidualBlock(nn.Module):
  """Convolutions around a shortcut, which is projected where the shape changes.

  Attributes:
    width: channels, a quarter of those of the result with ``bottleneck``.
    stride: of the 3x3 convolution.
    bottleneck: three convolutions rather than two.
    zero_init: whether the block starts as the identity.
    norm: makes the norms, by ``name=`` and ``scale_init=``.
    dtype: of the computation.
  """

  width: int
  stride: int
  bottleneck: bool
  zero_init: bool
  norm: functools.partial
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, height, width, channels]`` to as much over ``stride``, ``width`` wide."""
    out = self.width * (4 if self.bottleneck else 1)
    # (width, kernel, stride) of each convolution.
    plan = [(self.width, 3, self.stride), (out, 3, 1)]
    if self.bottleneck:
      plan = [(self.width, 1, 1), (self.width, 3, self.stride), (out, 1, 1)]
    last = nn.initializers.zeros if self.zero_init else nn.initializers.ones
    x = y = split_batch(x)
    for i, (width, kernel, stride) in enumerate(plan):
      y = conv(width, kernel, stride, self.dtype, f"conv_{i}")(y)
      if i < len(plan) - 1:
        y = nn.relu(self.norm(name=f"norm_{i}")(y))
    y = self.norm(name=f"norm_{len(plan) - 1}", scale_init=last)(y)
    if x.shape != y.shape:
      x = conv(out, 1, self.stride, self.dtype, "shortcut_conv")(x)
      x = self.norm(name="shortcut_norm")(x)
    return nn.relu(x + y)


def conv(width: int, kernel: int, stride: int, dtype: DTypeLike, name: str) -> nn.Conv:
  """A convolution without bias, padded as in PyTorch: alike on both sides, at stride 2 too.

  Args:
    width: channels of the result.
    kernel: side.
    stride: in pixels.
    dtype: of the computation.
    name: of the layer among its module's parameters.

  Returns:
    The layer.
  """
  return nn.Conv(
    width,
    (kernel, kernel),
    (stride, stride),
    kernel // 2,
    use_bias=False,
    dtype=dtype,
    kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal"),
    conv_general_dilated=convolve,
    name=name,
  )


class Depth(NamedTuple):
  """Blocks at each resolution, and whether they are bottlenecks."""

  stages: tuple[int, ...]
  bottleneck: bool


#: He et al., 2015, table 1.
DEPTHS = {
  "resnet18": Depth((2, 2, 2, 2), False),
  "resnet34": Depth((3, 4, 6, 3), False),
  "resnet50": Depth((3, 4, 6, 3), True),
  "resnet101": Depth((3, 4, 23, 3), True),
  "resnet152": Depth((3, 8, 36, 3), True),
}


def resnet(name: str, **overrides: Any) -> ResNet:
  """A residual network by name.

  Args:
    name: a key of `DEPTHS`, such as ``resnet18``.
    **overrides: fields of `ResNet` to set.

  Returns:
    The module.

  Raises:
    ValueError: if there is none of this name.
  """
  return ResNet(**(size_by_name(name, DEPTHS, "a ResNet") | overrides))
