"""Gabor texture branch: learnt filters of known form, and statistics of what they find."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32, safe_sqrt
from repjax.encoders.features import Features
from repjax.encoders.transformer import dense, norm


class Waves(NamedTuple):
  """Parameters of Gabor filters, ``[filters]`` each.

  Attributes:
    angle: direction in which the wave runs, in radians from the columns' axis downwards.
    wavelength: in pixels.
    spread: standard deviation of the envelope along that direction, in pixels.
    aspect: that deviation over the one across.
    phase: of the wave at the centre, in radians.
  """

  angle: jax.Array
  wavelength: jax.Array
  spread: jax.Array
  aspect: jax.Array
  phase: jax.Array


def gabor_kernels(waves: Waves, size: int) -> jax.Array:
  r"""Filters of the given waves.

  .. math:: g(x, y) = \exp\!\Big({-\frac{x'^2 + \gamma^2 y'^2}{2 \sigma^2}}\Big)
            \cos\!\Big(\frac{2 \pi x'}{\lambda} + \psi\Big), \quad
            x' = x \cos\theta + y \sin\theta, \; y' = y \cos\theta - x \sin\theta

  Args:
    waves: ``[filters]`` arrays.
    size: side of a filter in pixels; the origin is its centre.

  Returns:
    ``[size, size, filters]``, rows before columns.
  """
  places = np.arange(size, dtype=np.float32) - (size - 1) / 2
  y, x = (v[..., None] for v in np.meshgrid(places, places, indexing="ij"))
  angle, wavelength, spread, aspect, phase = (v[None, None] for v in waves)
  along = x * jnp.cos(angle) + y * jnp.sin(angle)
  across = y * jnp.cos(angle) - x * jnp.sin(angle)
  envelope = jnp.exp(-(along**2 + (aspect * across) ** 2) / (2 * spread**2))
  return envelope * jnp.cos(2 * math.pi * along / wavelength + phase)


class GaborBank(nn.Module):
  """Convolution of each channel with Gabor filters, of which the parameters are learnt.

  Wavelength, spread and aspect stay inside of their ranges, each a sigmoid of a free parameter;
  angles and phases come round by themselves. At first angles are spread evenly, each at wavelengths
  in geometric progression.

  Attributes:
    angles: how many at first.
    wavelengths: how many at first for each; their product is the number of filters.
    size: side of a filter in pixels, odd.
    wavelength_range: in pixels; below 2 a wave is none. Up to ``size`` if absent.
    spread_range: in pixels; from 1 to a third of ``size`` if absent.
    aspect_range: above 0.
    dtype: of the convolution; parameters and filters are float32.
  """

  angles: int = 4
  wavelengths: int = 3
  size: int = 7
  wavelength_range: tuple[float, float] | None = None
  spread_range: tuple[float, float] | None = None
  aspect_range: tuple[float, float] = (0.3, 1.0)
  dtype: DTypeLike = jnp.float32

  def setup(self):
    count = self.angles * self.wavelengths
    at = (np.arange(self.wavelengths) + 0.5) / self.wavelengths
    low, high = self._wavelengths()
    share = (low * (high / low) ** at - low) / (high - low)  # of the way up, for even octaves
    start = {
      "angle": np.repeat(np.arange(self.angles) * math.pi / self.angles, self.wavelengths),
      "wavelength": np.tile(np.log(share / (1 - share)), self.angles),
      "spread": np.zeros(count),
      "aspect": np.zeros(count),
      "phase": np.zeros(count),
    }
    given = lambda value: lambda key: jnp.asarray(value, jnp.float32)
    self.free = {name: self.param(name, given(value)) for name, value in start.items()}

  def waves(self) -> Waves:
    """Parameters of the filters, inside of their ranges."""
    inside = lambda name, low, high: low + (high - low) * jax.nn.sigmoid(self.free[name])
    return Waves(
      self.free["angle"],
      inside("wavelength", *self._wavelengths()),
      inside("spread", *(self.spread_range or (1.0, max(self.size / 3, 1.5)))),
      inside("aspect", *self.aspect_range),
      self.free["phase"],
    )

  def __call__(self, image: jax.Array) -> jax.Array:
    """Filters images.

    Args:
      image: ``[batch, height, width, channels]``, floating.

    Returns:
      ``[batch, height, width, channels * filters]``, a channel's responses side by side.

    Raises:
      ValueError: if ``size`` is even or a range is empty.
    """
    channels, (low, high) = image.shape[-1], self._wavelengths()
    if self.size % 2 == 0 or not 2 <= low < high:
      raise ValueError(
        f"expected an odd size and a wavelength_range from 2 up, got size={self.size}, "
        f"{(low, high)}; choose size={self.size // 2 * 2 + 1} or more"
      )
    kernel = jnp.tile(gabor_kernels(self.waves(), self.size), (1, 1, channels))[:, :, None]
    return lax.conv_general_dilated(
      image.astype(self.dtype),
      kernel.astype(self.dtype),
      (1, 1),
      "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=channels,
    )

  def _wavelengths(self):
    return self.wavelength_range or (2.0, float(max(self.size, 3)))


def texture_statistics(responses: jax.Array, *, levels: int = 8) -> jax.Array:
  """What maps hold, whatever the order of their places.

  Args:
    responses: ``[..., height, width, maps]``.
    levels: of the histogram.

  Returns:
    ``[..., maps, levels + 3]`` float32: mean, standard deviation, mean absolute value, and the
    shares of places near each of ``levels`` values from the map's lowest to its highest, where a
    place between two counts for both by its distance, as in a linear interpolation.

  References:
    Zhu et al., `Learning Statistical Texture for Semantic Segmentation
    <https://arxiv.org/abs/2103.04133>`_, 2021, section 3.2, for the histogram.
  """
  x = at_least_float32(responses)
  x = jnp.moveaxis(x.reshape(*x.shape[:-3], -1, x.shape[-1]), -1, -2)
  low, high = jnp.min(x, -1, keepdims=True), jnp.max(x, -1, keepdims=True)
  place = (x - low) / jnp.maximum(high - low, 1e-6) * (levels - 1)
  distance = jnp.abs(place[..., None] - jnp.arange(levels).reshape((1,) * x.ndim + (levels,)))
  shares = jnp.mean(jnp.maximum(1 - distance, 0), -2)
  moments = jnp.stack([jnp.mean(x, -1), safe_sqrt(jnp.var(x, -1)), jnp.mean(jnp.abs(x), -1)], -1)
  return jnp.concatenate([moments, shares], -1)


class GaborTexture(nn.Module):
  """An encoder, to whose feature the textures of chosen regions are added.

  A gate reads the encoder's last map, averaged over each region, and lets the best regions through;
  the filters see no others. A region's statistics go through a small net whose output counts by the
  gate's word. Regions are the fields of a grid, where the paper has proposals of several sizes.

  Attributes:
    encoder: images to `Features` whose last layer is a map ``[batch, h, w, dim]``.
    bank: the filters, such as `GaborBank`: ``[b, h, w, c] -> [b, h, w, maps]``.
    grid: regions along each side; divides image and map.
    keep: how many of them the filters see.
    hidden: width in the middle of the net.
    levels: of the histogram.
    dtype: of the computation.

  References:
    Zhu et al., `Learning Gabor Texture Features for Fine-Grained Recognition
    <https://arxiv.org/abs/2308.05396>`_, 2023, figure 1. Ranges, statistics and the gate's form are
    ours: the authors have published no code.
  """

  encoder: nn.Module
  bank: nn.Module
  grid: int = 2
  keep: int = 2
  hidden: int = 64
  levels: int = 8
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: for the encoder.

    Returns:
      Features of the encoder, with the textures added to ``pooled``.

    Raises:
      ValueError: if the grid does not divide image and map, or has too few regions.
    """
    features = self.encoder(image, train=train)
    seen, fields = features.layers[-1], self.grid**2
    sides = (*image.shape[1:3], *seen.shape[1:3])
    if any(side % self.grid for side in sides) or not 1 <= self.keep <= fields:
      raise ValueError(
        f"grid={self.grid} and keep={self.keep} do not fit an image of {sides[0]}x{sides[1]} and a "
        f"map of {sides[2]}x{sides[3]}; choose a grid that divides both and keep in 1..{fields}"
      )
    score = dense(1, self.dtype, "gate")(jnp.mean(_regions(seen, self.grid), (2, 3)))[..., 0]
    score, chosen = lax.top_k(at_least_float32(score), self.keep)
    windows = _regions(image, self.grid)
    windows = jnp.take_along_axis(windows, chosen[:, :, None, None, None], 1)
    responses = self.bank(windows.reshape(-1, *windows.shape[2:]))
    found = texture_statistics(responses, levels=self.levels)
    found = norm(self.dtype, "norm")(found.reshape(*chosen.shape, -1))
    found = nn.relu(dense(self.hidden, self.dtype, "up")(found))
    found = dense(features.pooled.shape[-1], self.dtype, "down")(found)
    texture = jnp.sum(found * jax.nn.sigmoid(score)[..., None].astype(found.dtype), 1)
    return features._replace(pooled=features.pooled + texture)


def _regions(x, grid):
  """Fields of a grid: ``[batch, grid * grid, height / grid, width / grid, channels]``."""
  batch, height, width, channels = x.shape
  x = x.reshape(batch, grid, height // grid, grid, width // grid, channels).swapaxes(2, 3)
  return x.reshape(batch, grid * grid, height // grid, width // grid, channels)
