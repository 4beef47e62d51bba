"""Perceiver: a small latent code that looks at all pixels, then at itself, again and again."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.arrays import split_batch
from repjax.encoders.attend import attend
from repjax.encoders.features import Features
from repjax.encoders.stages import check_image
from repjax.encoders.transformer import FeedForward, norm

_latent_init = nn.initializers.normal(0.02)


class Look(nn.Module):
  """Pre-norm attention of one sequence to another or to itself, then a feed-forward layer.

  Queries, keys and values have no bias.

  Attributes:
    heads: number of heads; divides ``inner``.
    inner: width of queries, keys and values; that of the queries' sequence if absent.
    mlp_ratio: width of the feed-forward layer over that of the queries' sequence.
    positions: whether keys get learned positions, for a sequence of fixed length.
    dtype: of the computation.
  """

  heads: int
  inner: int | None = None
  mlp_ratio: float = 1
  positions: bool = False
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, context: jax.Array | None = None) -> jax.Array:
    """Attends.

    Args:
      x: ``[batch, queries, dim]``.
      context: ``[batch, keys, any]``; ``x`` itself if absent.

    Returns:
      Same shape as ``x``.
    """
    dim, inner = x.shape[-1], self.inner or x.shape[-1]
    if inner % self.heads:
      raise ValueError(f"heads={self.heads} do not divide a width of {inner}; choose a divisor")
    product = lambda name: nn.Dense(inner, use_bias=False, dtype=self.dtype, name=name)
    split = lambda y: y.reshape(*y.shape[:2], self.heads, inner // self.heads)
    queries = norm(self.dtype, "norm_1")(x)
    context = queries if context is None else norm(self.dtype, "norm_context")(context)
    key = product("key")(context)
    if self.positions:
      table = self.param("positions", nn.initializers.zeros, key.shape[1:])
      key += table[None].astype(key.dtype)
    y = attend(split(product("query")(queries)), split(key), split(product("value")(context)))
    x = x + nn.Dense(dim, dtype=self.dtype, name="out")(y.reshape(*y.shape[:2], inner))
    mlp = FeedForward(int(dim * self.mlp_ratio), self.dtype, name="mlp")
    return x + mlp(norm(self.dtype, "norm_2")(x))


class Perceiver(nn.Module):
  """Perceiver over pixels with Fourier positions.

  Attributes:
    latents: number of latent vectors.
    dim: their width.
    rounds: how often they look at the pixels.
    depth: self-attention blocks after each look.
    heads: of the self-attention; divides ``dim``. Looks at pixels have one.
    bands: frequencies of the positions in each direction.
    share: whether all rounds share the self-attention blocks, and all but the first the look.
    dtype: of the computation.

  References:
    Jaegle et al., `Perceiver: General Perception with Iterative Attention
    <https://arxiv.org/abs/2103.03206>`_, 2021, section 3; one queries' and keys' width in a look,
    that of the pixels, as in ``perceiver/perceiver.py`` of
    https://github.com/google-deepmind/deepmind-research.
  """

  latents: int = 512
  dim: int = 1024
  rounds: int = 8
  depth: int = 6
  heads: int = 8
  bands: int = 64
  share: bool = True
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    image: jax.Array,
    *,
    train: bool = False,
    tokens_in: Callable[[int, jax.Array], jax.Array] | None = None,
  ) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: without effect; every encoder takes it.
      tokens_in: ``(block, latents) -> latents``, called before each self-attention block.

    Returns:
      Features; ``tokens`` are the latents, ``pooled`` their mean, and ``layers`` the latents after
      each self-attention block.

    Raises:
      ValueError: if ``image`` is not rank 4.
    """
    del train
    check_image(image)
    batch, height, width, channels = image.shape
    where = jnp.asarray(fourier_positions((height, width), self.bands), self.dtype)
    pixels = image.reshape(batch, -1, channels).astype(self.dtype)
    where = jnp.broadcast_to(where[None], (batch, *where.shape))
    pixels = jnp.concatenate([pixels, where], -1)

    z = self.param("latents", _latent_init, (self.latents, self.dim)).astype(self.dtype)
    z = jnp.broadcast_to(z[None], (batch, *z.shape))
    layers, looks, towers = [], [], []
    for i in range(self.rounds):
      if len(looks) < (2 if self.share else self.rounds):
        looks.append(Look(1, pixels.shape[-1], dtype=self.dtype, name=f"look_{i}"))
      if len(towers) < (1 if self.share else self.rounds):
        names = [f"round_{i}_block_{j}" for j in range(self.depth)]
        towers.append([Look(self.heads, dtype=self.dtype, name=name) for name in names])
      z = looks[-1](split_batch(z), pixels)
      for block in towers[-1]:
        z = block(z if tokens_in is None else tokens_in(len(layers), z))
        layers.append(z)
    return Features(jnp.mean(z, 1), z, tuple(layers))


def fourier_positions(grid: tuple[int, int], bands: int) -> np.ndarray:
  """Places of pixels, and their sines and cosines at evenly spaced frequencies up to Nyquist's.

  Args:
    grid: rows and columns.
    bands: frequencies in each direction.

  Returns:
    ``[rows * columns, 2 * (2 * bands + 1)]`` float32, in raster order: places in [-1, 1], then
    sines, then cosines, rows before columns.
  """
  places = np.meshgrid(*(np.linspace(-1, 1, n) for n in grid), indexing="ij")
  angles = [
    math.pi * place[..., None] * np.linspace(1, n / 2, bands)
    for place, n in zip(places, grid, strict=True)
  ]
  parts = [np.stack(places, -1), *map(np.sin, angles), *map(np.cos, angles)]
  return np.concatenate(parts, -1).reshape(grid[0] * grid[1], -1).astype(np.float32)
