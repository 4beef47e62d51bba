"""Dynamic Perceiver: a convolutional branch, and a latent code that alone says when to stop."""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32, split_batch
from repjax.encoders.batch_norm import batch_norm
from repjax.encoders.convolution import convolve
from repjax.encoders.features import Features
from repjax.encoders.named import size_by_name
from repjax.encoders.perceiver import Look
from repjax.encoders.resnet import ResidualBlock, conv
from repjax.encoders.stages import check_image
from repjax.encoders.transformer import dense, norm


class DynPerceiver(nn.Module):
  """A residual net and a latent code, each of which looks at the other before every stage.

  The code is halved in length and grows in width with the maps. Classifiers sit on the mean of the
  code after some stages, then on the last map, then on both; each but the map's is told what the
  code's last one said. Those of the code need no stage of the residual net but those before.

  Attributes:
    stages: residual blocks at each resolution.
    bottleneck: three convolutions a block rather than two.
    width: channels of the first stage.
    stem: ``imagenet`` or ``cifar``, as of `ResNet`.
    latents: length of the code at first; divisible by 2 at every stage but the first.
    latent_depths: self-attention blocks of the code at each stage.
    heads: of these, at each stage.
    mlp_ratio: of these.
    grid: side that maps are averaged to before the code looks at them; smaller maps stay.
    classes: of the classifiers; if 0 there are none.
    exits: stages, counted from 0, after whose latents there is a classifier.
    momentum: share of the running statistics kept at each step of training.
    axis_name: mapped axis that holds the other shards of a batch, if any.
    dtype: of the computation; parameters and statistics are float32.

  References:
    Han et al., `Dynamic Perceiver for Efficient Visual Recognition
    <https://arxiv.org/abs/2306.11248>`_, 2023, sections 3.2 and 3.3; order and widths are those of
    ``models/dyn_perceiver_resnet.py`` in https://github.com/LeapLabTHU/Dynamic_Perceiver.
  """

  stages: tuple[int, ...] = (2, 2, 2, 2)
  bottleneck: bool = False
  width: int = 64
  stem: Literal["imagenet", "cifar"] = "imagenet"
  latents: int = 128
  latent_depths: tuple[int, ...] = (3, 3, 9, 9)
  heads: tuple[int, ...] = (1, 2, 4, 8)
  mlp_ratio: float = 4
  grid: int = 7
  classes: int = 0
  exits: tuple[int, ...] = (2, 3)
  momentum: float = 0.9
  axis_name: str | None = None
  dtype: DTypeLike = jnp.float32

  def __call__(self, image: jax.Array, *, train: bool = False) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: whether batch norm uses the batch's statistics, and updates the running ones in the
        collection ``batch_stats``.

    Returns:
      Features; ``pooled`` is the mean of the last map and, behind it, of the code; ``tokens`` the
      last map in raster order, ``layers`` the map after each stage, after the code was looked at.

    Raises:
      ValueError: if ``image`` is not rank 4, the stem is unknown, or settings do not fit.
    """
    return self._run(image, train, None)[0]

  def classify(
    self, image: jax.Array, *, train: bool = False, until: int | None = None
  ) -> tuple[jax.Array, ...]:
    """What the classifiers say, the cheapest first.

    Args:
      image: as above.
      train: as above.
      until: how many of them; all if absent. Nothing that only later ones need is computed, so that
        `repjax.train.flops.count_flops` of this call is what an image costs that stops there.

    Returns:
      ``[batch, classes]`` logits of each: one for every stage in ``exits``, the map's, both's.

    Raises:
      ValueError: if there are no classifiers, or not so many.
    """
    count = len(self.exits) + 2
    if not self.classes or not 1 <= (until or count) <= count:
      raise ValueError(
        f"classes={self.classes} and exits={self.exits} do not give until={until} classifiers; "
        f"set classes, and until in 1..{count}"
      )
    return self._run(image, train, until)[1]

  @nn.compact
  def _run(self, image, train, until):
    _check(self, image)
    normed = batch_norm(self, train)
    say = functools.partial(_classify, self.classes, normed, self.dtype)
    block = functools.partial(Look, mlp_ratio=self.mlp_ratio, dtype=self.dtype)

    x, z, layers, logits = self._stem(image, normed), None, [], []
    for i, blocks in enumerate(self.stages):
      if z is None:
        z = self.param("latents", nn.initializers.normal(0.02), (self.latents, x.shape[-1]))
        z = jnp.broadcast_to(z[None].astype(self.dtype), (len(x), *z.shape))
      else:
        z = _shorten(z, x.shape[-1], self.dtype, f"stage_{i}")
        x = _look_at_code(x, z, self.dtype, f"stage_{i}_code_to_map")
        layers.append(x)
      z = _look_at_map(z, x, self.grid, self.dtype, f"stage_{i}")
      for j in range(self.latent_depths[i]):
        z = block(self.heads[i], name=f"stage_{i}_code_{j}")(z)
      if self.classes and i in self.exits:
        logits.append(say(jnp.mean(z, 1), logits[-1:], f"stage_{i}"))
        if len(logits) == until:
          return None, tuple(logits)
      for j in range(blocks):
        stride, out = 2 if i and not j else 1, self.width * 2**i
        name = f"stage_{i}_block_{j}"
        x = ResidualBlock(out, stride, self.bottleneck, True, normed, self.dtype, name=name)(x)
    heard = logits[-1:]
    if self.classes:
      logits.append(say(jnp.mean(x, (1, 2)), [], "map"))
      if len(logits) == until:
        return None, tuple(logits)
    x = _look_at_code(x, z, self.dtype, "last_code_to_map")
    layers.append(x)
    pooled = jnp.concatenate([jnp.mean(x, (1, 2)), jnp.mean(z, 1)], -1)
    if self.classes:
      logits.append(say(pooled, heard, "both", width=z.shape[-1], norm_first=True))
    return Features(pooled, x.reshape(len(x), -1, x.shape[-1]), tuple(layers)), tuple(logits)

  def _stem(self, image, normed):
    kernel, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
    x = conv(self.width, kernel, stride, self.dtype, "stem_conv")(image)
    x = nn.relu(normed(name="stem_norm")(x))
    return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))) if self.stem == "imagenet" else x


def exit_early(logits: jax.Array, thresholds: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Takes each example's first classifier that is sure enough.

  Args:
    logits: ``[classifiers, batch, classes]``, the cheapest first.
    thresholds: ``[classifiers - 1]``, the highest class probability at which each but the last says
      what it thinks, in [0, 1]; above 1 it never does.

  Returns:
    ``[batch, classes]`` logits and ``[batch]`` int32, which classifier they are from.

  Raises:
    ValueError: if there is not one threshold for each classifier but the last.
  """
  if thresholds.shape != (len(logits) - 1,):
    raise ValueError(
      f"{len(logits)} classifiers need {len(logits) - 1} thresholds, got shape {thresholds.shape}"
    )
  sure = jnp.max(jax.nn.softmax(at_least_float32(logits[:-1])), -1) >= thresholds[:, None]
  sure = jnp.concatenate([sure, jnp.ones((1, logits.shape[1]), bool)])
  chosen = jnp.argmax(sure, 0).astype(jnp.int32)
  return jnp.take_along_axis(logits, chosen[None, :, None], 0)[0], chosen


def exit_thresholds(logits: jax.Array, shares: jax.Array) -> jax.Array:
  """Thresholds at which given shares of a batch leave at each classifier.

  Args:
    logits: ``[classifiers, batch, classes]`` of examples like those to come.
    shares: ``[classifiers]``, >= 0, of which the sum is 1.

  Returns:
    ``[classifiers - 1]`` for `exit_early`; 2 where nobody is to leave.

  References:
    Huang et al., `Multi-Scale Dense Networks for Resource Efficient Image Classification
    <https://arxiv.org/abs/1703.09844>`_, 2017, section 4, budgeted batch classification.
  """
  confidence = jnp.max(jax.nn.softmax(at_least_float32(logits)), -1)
  batch = logits.shape[1]

  def one(here, at):
    sure, share = at
    order = jnp.sort(jnp.where(here, sure, -1))[::-1]
    count = jnp.minimum(jnp.floor(batch * share + 1e-4).astype(jnp.int32), jnp.sum(here))
    threshold = jnp.where(count > 0, order[jnp.maximum(count - 1, 0)], 2)
    return here & (sure < threshold), threshold

  here = jnp.ones(batch, bool)
  return jax.lax.scan(one, here, (confidence[:-1], jnp.asarray(shares)[:-1]))[1]


def _classify(classes, normed, dtype, features, heard, name, *, width=None, norm_first=False):
  """Logits; ``heard`` holds those of the classifier before, or nothing."""
  if heard:
    told = dense(width or features.shape[-1], dtype, f"hear_{name}")(heard[0])
    told = nn.relu(normed(name=f"hear_{name}_norm")(told))
    features = jnp.concatenate([features, told], -1)
  if norm_first:
    features = normed(name=f"exit_{name}_norm")(features)
  return dense(classes, dtype, f"exit_{name}")(features)


def _shorten(z, channels, dtype, name):
  """Half as many latents, each mixed from all, as wide as the map."""
  z = norm(dtype, f"{name}_mix_norm")(z.swapaxes(1, 2))
  z = dense(z.shape[-1] // 2, dtype, f"{name}_mix")(z).swapaxes(1, 2)
  return dense(channels, dtype, f"{name}_widen")(norm(dtype, f"{name}_widen_norm")(z))


def _look_at_map(z, x, grid, dtype, name):
  """Latents attend to a map that was smeared and shrunk."""
  batch, height, width, channels = x.shape
  smear = nn.Conv(
    channels, (7, 7), padding=3, feature_group_count=channels, dtype=dtype, name=f"{name}_smear",
    conv_general_dilated=convolve,
  )  # fmt: skip
  x = x + smear(x)
  rows, columns = (min(grid, n) for n in (height, width))
  if height % rows or width % columns:
    raise ValueError(
      f"a map of {height}x{width} cannot be averaged to grid={grid}; choose a grid that divides it"
    )
  x = x.reshape(batch, rows, height // rows, columns, width // columns, channels).mean((2, 4))
  look = Look(1, positions=True, dtype=dtype, name=f"{name}_map_to_code")
  return look(z, x.reshape(batch, rows * columns, channels))


def _look_at_code(x, z, dtype, name):
  """Places of a map attend to the latents, in an eighth of its width."""
  look = Look(1, max(x.shape[-1] // 8, 1), dtype=dtype, name=name)
  return look(split_batch(x).reshape(len(x), -1, x.shape[-1]), z).reshape(x.shape)


def _check(net: DynPerceiver, image: jax.Array) -> None:
  check_image(image)
  if net.stem not in ("imagenet", "cifar"):
    raise ValueError(f"stem={net.stem!r} is not a stem; choose 'imagenet' or 'cifar'")
  count = len(net.stages)
  if not count == len(net.latent_depths) == len(net.heads):
    raise ValueError(
      f"{count} stages need as many latent_depths and heads, got {net.latent_depths}, {net.heads}"
    )
  if net.latents % 2 ** (count - 1) or not all(0 <= i < count for i in net.exits):
    raise ValueError(
      f"latents={net.latents} and exits={net.exits} do not fit {count} stages; choose a multiple "
      f"of {2 ** (count - 1)} and stages below {count}"
    )


class Size(NamedTuple):
  """Residual blocks at each resolution, whether they are bottlenecks, latents, their depths."""

  stages: tuple[int, ...]
  bottleneck: bool
  latents: int
  latent_depths: tuple[int, ...]


#: The authors' code, with its default depths.
SIZES = {
  "resnet18_t128": Size((2, 2, 2, 2), False, 128, (3, 3, 9, 9)),
  "resnet34_t128": Size((3, 4, 6, 3), False, 128, (3, 3, 9, 9)),
  "resnet50_t128": Size((3, 4, 6, 3), True, 128, (3, 3, 9, 9)),
}


def dyn_perceiver(name: str, **overrides: Any) -> DynPerceiver:
  """A Dynamic Perceiver by name.

  Args:
    name: a key of `SIZES`, such as ``resnet50_t128``.
    **overrides: fields of `DynPerceiver` to set.

  Returns:
    The module.

  Raises:
    ValueError: if there is none of this name.
  """
  return DynPerceiver(**(size_by_name(name, SIZES, "a Dynamic Perceiver") | overrides))
