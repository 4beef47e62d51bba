"""Places on a sphere: harmonics and Fourier features of them, and a net of sines."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32
from repjax.encoders.features import Features


class LocationEncoder(nn.Module):
  """Features of a place, and a net over them; the paper's is `spherical_harmonics` and `SirenNet`.

  Attributes:
    encoding: ``[batch, 2] -> [batch, any]``, without parameters, such as
      ``functools.partial(spherical_harmonics, degrees=10)``.
    net: ``[batch, any] -> [batch, dim]``, called with ``train=``, such as `SirenNet` or `MLP`.

  References:
    Rußwurm et al., `Geographic Location Encoding with Spherical Harmonics and Sinusoidal
    Representation Networks <https://arxiv.org/abs/2310.06743>`_, 2023, section 2.
  """

  encoding: Callable[[jax.Array], jax.Array]
  net: nn.Module

  def __call__(self, location: jax.Array, *, train: bool = False) -> Features:
    """Encodes places.

    Args:
      location: ``[batch, 2]``, longitude and latitude in degrees.
      train: handed on.

    Returns:
      Features, whose one token is the pooled vector; ``layers`` are the encoding and that vector.

    Raises:
      ValueError: if ``location`` is not ``[batch, 2]``.
    """
    _check(location)
    encoded = self.encoding(location)
    pooled = self.net(encoded, train=train)
    return Features(pooled, pooled[:, None], (encoded[:, None], pooled[:, None]))


def spherical_harmonics(location: jax.Array, *, degrees: int) -> jax.Array:
  r"""Real orthonormal spherical harmonics, by recursion over the degree.

  .. math:: Y_l^m = \bar P_l^{|m|}(\sin\phi)\,
            \{\sqrt2 \sin(|m|\lambda),\; 1,\; \sqrt2 \cos(m\lambda)\}
            \quad\text{for } m < 0,\; m = 0,\; m > 0

  with :math:`\int Y_l^m Y_{l'}^{m'} = \delta\delta` over the unit sphere and no Condon-Shortley
  phase. The official code evaluates one polynomial an entry, to degree 50 at most, of longitude and
  latitude turned by half and quarter circles: the same up to signs.

  Args:
    location: ``[..., 2]``, longitude and latitude in degrees.
    degrees: how many degrees l, from 0; the paper calls it L.

  Returns:
    ``[..., degrees**2]``, degree by degree, m from -l to l; at least float32.

  References:
    Rußwurm et al., 2023, section 2. Holmes and Featherstone, `A unified approach to the
    Clenshaw summation and the recursive computation of very high degree and order normalised
    associated Legendre functions <https://doi.org/10.1007/s00190-002-0216-2>`_, 2002, equations 11
    to 13, forward columns.
  """
  longitude, latitude = jnp.moveaxis(jnp.radians(at_least_float32(location)), -1, 0)
  order = np.arange(degrees)
  degree, m = order[:, None].astype(float), order[None].astype(float)
  with np.errstate(divide="ignore", invalid="ignore"):
    rise = np.sqrt((4 * degree**2 - 1) / (degree**2 - m**2))
    fall = np.sqrt(((degree - 1) ** 2 - m**2) / (4 * (degree - 1) ** 2 - 1))
  rise, fall = np.where(m < degree, rise, 0), np.where(m < degree - 1, fall, 0)
  # Where m is the degree: powers of cos(latitude), scaled.
  growth = np.sqrt((2 * order[1:] + 1) / (2 * order[1:]))
  sine, cosine = jnp.sin(latitude)[..., None], jnp.cos(latitude)[..., None]
  start = jnp.full_like(cosine, math.sqrt(1 / (4 * math.pi)))
  factors = _lift(growth, cosine) * cosine
  sectoral = jnp.cumprod(jnp.concatenate([start, factors], -1), -1)

  def step(previous, coefficients):
    once, twice = previous
    rise, fall, own = (_lift(x, sine) for x in coefficients)
    now = rise * (sine * once - fall * twice) + own * sectoral
    return (now, once), now

  dtype = sectoral.dtype
  table = [jnp.asarray(x, dtype) for x in (rise, fall, np.eye(degrees))]
  nothing = jnp.zeros_like(sectoral)
  _, legendre = lax.scan(step, (nothing, nothing), table)

  angles = longitude[..., None] * _lift(jnp.asarray(order, dtype), sine)
  waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1) * math.sqrt(2)
  waves = waves.at[..., degrees].set(1)
  row = np.repeat(order, 2 * order + 1)
  signed = np.concatenate([np.arange(-k, k + 1) for k in order])
  wave = np.where(signed < 0, -signed, degrees + signed)
  return jnp.moveaxis(legendre, 0, -2)[..., row, np.abs(signed)] * waves[..., wave]


def _lift(x: jax.Array, like: jax.Array) -> jax.Array:
  """A vector along the last axis of an array."""
  return jnp.asarray(x, like.dtype).reshape(*[1] * (like.ndim - 1), -1)


def grid_waves(location: jax.Array, *, count: int, smallest: float = 1.0, largest: float = 360.0):
  """Sines and cosines of longitude and latitude at several scales.

  As in the official code, a scale is a wavelength over 2 pi in degrees, so that most wavelengths
  do not close around the sphere.

  Args:
    location: ``[..., 2]``, longitude and latitude in degrees.
    count: number of scales, in geometric progression.
    smallest: scale, in degrees.
    largest: scale, in degrees.

  Returns:
    ``[..., 4 * count]``.

  References:
    Mai et al., `Sphere2Vec <https://arxiv.org/abs/2201.10489>`_, 2022, equation 3.
  """
  return jnp.concatenate(_waves(location, count, smallest, largest), -1)


def theory_waves(location: jax.Array, *, count: int, smallest: float = 1.0, largest: float = 360.0):
  """Sines and cosines along three directions, 120 degrees apart, at several scales.

  Args:
    location: ``[..., 2]``, longitude and latitude in degrees.
    count: number of scales.
    smallest: scale, in degrees.
    largest: scale, in degrees.

  Returns:
    ``[..., 6 * count]``.

  References:
    Mai et al., `Multi-Scale Representation Learning for Spatial Feature Distributions using Grid
    Cells <https://arxiv.org/abs/2003.00824>`_, 2020, section 4.1.
  """
  turn = 2 * np.pi / 3 * np.arange(3)
  directions = jnp.asarray(np.stack([np.cos(turn), np.sin(turn)]), location.dtype)
  return jnp.concatenate(_waves(location @ directions, count, smallest, largest), -1)


def double_fourier_sphere(
  location: jax.Array, *, count: int, smallest: float = 1.0, largest: float = 360.0
):
  """`grid_waves`, and all products of a wave of longitude with a wave of latitude.

  Args:
    location: ``[..., 2]``, longitude and latitude in degrees.
    count: number of scales.
    smallest: scale, in degrees.
    largest: scale, in degrees.

  Returns:
    ``[..., 4 * count + 4 * count**2]``.

  References:
    Rußwurm et al., 2023, section 2. Mai et al., 2022 (`grid_waves`).
  """
  longitude, latitude = _waves(location, count, smallest, largest)
  products = longitude[..., :, None] * latitude[..., None, :]
  products = products.reshape(*location.shape[:-1], -1)
  return jnp.concatenate([longitude, latitude, products], -1)


def _waves(x, count, smallest, largest):
  """Sines, then cosines, ``[..., 2 * count]`` of each coordinate."""
  scale = smallest * (largest / smallest) ** (np.arange(count) / max(count - 1, 1))
  angles = [x[..., i, None] * _lift(1 / scale, x) for i in range(x.shape[-1])]
  return [jnp.concatenate([jnp.sin(a), jnp.cos(a)], -1) for a in angles]


class SirenNet(nn.Module):
  """Dense layers followed by sines, and a last one that is not.

  Attributes:
    dims: widths of the layers; the last is that of the output.
    frequency_first: what the first layer's output is multiplied by before the sine.
    frequency: the same for the others.
    dtype: of the computation; parameters are float32.

  References:
    Sitzmann et al., `Implicit Neural Representations with Periodic Activation Functions
    <https://arxiv.org/abs/2006.09661>`_, 2020, section 3.2. Frequencies of 30 and 1, and biases
    drawn as weights are, come from the location encoder's official code.
  """

  dims: Sequence[int]
  frequency_first: float = 30.0
  frequency: float = 1.0
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
    """Maps ``[..., dim]`` to ``[..., dims[-1]]``; ``train`` is without effect."""
    del train
    for i, width in enumerate(self.dims):
      frequency = self.frequency if i else self.frequency_first
      bound = math.sqrt(6 / x.shape[-1]) / frequency if i else 1 / x.shape[-1]
      draw = lambda key, shape, dtype, bound=bound: jax.random.uniform(
        key, shape, dtype, -bound, bound
      )
      x = nn.Dense(width, dtype=self.dtype, kernel_init=draw, bias_init=draw, name=f"dense_{i}")(x)
      if i < len(self.dims) - 1:
        # In float32: 16 bits know no phase of an angle of many turns.
        x = jnp.sin(frequency * at_least_float32(x)).astype(self.dtype)
    return x


def _check(location):
  if location.ndim != 2 or location.shape[1] != 2:
    raise ValueError(
      f"expected locations [batch, 2], longitude and latitude in degrees, got {location.shape}"
    )
