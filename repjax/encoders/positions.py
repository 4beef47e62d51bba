"""Patches of an image, and where they are: tables, learned ones on another grid, turns, offsets."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from repjax.arrays import at_least_float32

Grid = tuple[int, int]


def patchify(image: jax.Array, patch_size: int | tuple[int, int]) -> jax.Array:
  """Cuts images into patches, in raster order.

  Args:
    image: ``[batch, height, width, channels]``.
    patch_size: side of a patch in pixels, or (height, width).

  Returns:
    ``[batch, patches, patch height * patch width * channels]``.

  Raises:
    ValueError: if the image is not divisible by the patch.
  """
  b, h, w, c = image.shape
  p, q = pair(patch_size)
  check_divisible("image", (h, w), (p, q))
  x = image.reshape(b, h // p, p, w // q, q, c)
  return x.swapaxes(2, 3).reshape(b, (h // p) * (w // q), p * q * c)


def unpatchify(
  patches: jax.Array, shape: tuple[int, int, int], patch_size: int | tuple[int, int]
) -> jax.Array:
  """Puts patches back together; undoes `patchify`.

  Args:
    patches: ``[batch, patches, patch height * patch width * channels]``, in raster order.
    shape: height, width and channels of an image.
    patch_size: side of a patch in pixels, or (height, width).

  Returns:
    ``[batch, height, width, channels]``.

  Raises:
    ValueError: if the image is not divisible by the patch.
  """
  h, w, c = shape
  p, q = pair(patch_size)
  check_divisible("image", (h, w), (p, q))
  x = patches.reshape(-1, h // p, w // q, p, q, c)
  return x.swapaxes(2, 3).reshape(-1, h, w, c)


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
  """A side as (height, width)."""
  return (size, size) if isinstance(size, int) else tuple(size)


def check_divisible(name: str, size: tuple[int, int], patch: tuple[int, int]) -> None:
  """Raises unless a patch divides an image.

  Args:
    name: what ``size`` is the size of, for the message.
    size: height and width in pixels.
    patch: height and width in pixels.

  Raises:
    ValueError: naming both and the nearest smaller size that works.
  """
  if size[0] % patch[0] or size[1] % patch[1]:
    fit = [s // p * p or p for s, p in zip(size, patch, strict=True)]
    raise ValueError(
      f"{name} of {size[0]}x{size[1]} is not divisible by patch_size {patch[0]}x{patch[1]}; "
      f"resize to {fit[0]}x{fit[1]} or choose a patch that divides it"
    )


def sincos_2d(grid: Grid, dim: int, *, temperature: float = 10_000.0) -> np.ndarray:
  r"""Sine-cosine positions of a grid, half of the features for each axis.

  .. math:: p(y, x) = [\sin x\omega, \cos x\omega, \sin y\omega, \cos y\omega], \quad
            \omega_k = T^{-4k / d}

  Args:
    grid: rows and columns of patches.
    dim: features, divisible by 4.
    temperature: longest wavelength over 2 pi, in patches.

  Returns:
    ``[rows * columns, dim]`` float32, in raster order.

  Raises:
    ValueError: if 4 does not divide ``dim``.

  References:
    Chen, Xie, He, `An Empirical Study of Training Self-Supervised Vision Transformers
    <https://arxiv.org/abs/2104.02057>`_, 2021, section 4.1. The order of the four parts is that of
    He et al., `Masked Autoencoders Are Scalable Vision Learners
    <https://arxiv.org/abs/2111.06377>`_, 2021, official code.
  """
  if dim % 4:
    raise ValueError(
      f"sine-cosine positions need dim divisible by 4, got dim={dim}; "
      f"choose {dim // 4 * 4 or 4} or {dim // 4 * 4 + 4}, or positions='learned'"
    )
  omega = temperature ** (-np.arange(dim // 4) / (dim // 4))
  y, x = np.meshgrid(np.arange(grid[0]), np.arange(grid[1]), indexing="ij")
  angles = [axis.reshape(-1, 1) * omega for axis in (x, y)]
  parts = [f(a) for a in angles for f in (np.sin, np.cos)]
  return np.concatenate(parts, 1).astype(np.float32)


def rotary_2d(grid: Grid, head_dim: int, *, period: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
  r"""Sines and cosines of rotary positions on a grid, half of the pairs for each axis.

  .. math:: \theta_k(y) = 2\pi y / P^{4k / d}, \quad y \in (-1, 1)

  Args:
    grid: rows and columns of patches; centres lie in (-1, 1) whatever their number.
    head_dim: features of a head, divisible by 4.
    period: the longest is nearly this, P.

  Returns:
    Sines and cosines, ``[1, rows * columns, head_dim]`` float32; feature i pairs with
    i + head_dim / 2.

  Raises:
    ValueError: if 4 does not divide ``head_dim``.

  References:
    Siméoni et al., `DINOv3 <https://arxiv.org/abs/2508.10104>`_, 2025, section 3.2; layout and
    periods are the official code's.
  """
  if head_dim % 4:
    raise ValueError(f"rotary positions need dim / heads divisible by 4, got {head_dim}")
  periods = period ** (4 * np.arange(head_dim // 4) / head_dim)
  axes = [2 * (np.arange(n) + 0.5) / n - 1 for n in grid]
  y, x = np.meshgrid(*axes, indexing="ij")
  angles = np.concatenate([2 * np.pi * axis.reshape(-1, 1) / periods for axis in (y, x)], 1)
  angles = np.concatenate([angles, angles], 1)[None]
  return np.sin(angles).astype(np.float32), np.cos(angles).astype(np.float32)


def rotary_axial(
  grid: Grid,
  head_dim: int,
  *,
  temperature: float = 10_000.0,
  reference: Grid | None = None,
  columns_first: bool = False,
  start: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
  r"""Sines and cosines of rotary positions counted in patches, half of the pairs for each axis.

  .. math:: \theta_k(y) = y T^{-4k / d}, \quad y = s, s + 1, \dots

  Args:
    grid: rows and columns of patches.
    head_dim: features of a head, divisible by 4.
    temperature: longest wavelength over 2 pi, nearly, in patches.
    reference: rows and columns that another grid is shrunk or stretched to, so that it spans the
      same angles; patches stay one apart if absent.
    columns_first: whether the first half of the pairs is turned by the column.
    start: of the counting, s; a class token, which is not turned, stands at 0.

  Returns:
    Sines and cosines, ``[1, rows * columns, head_dim]`` float32; feature i pairs with
    i + head_dim / 2.

  Raises:
    ValueError: if 4 does not divide ``head_dim``.

  References:
    Heo et al., `Rotary Position Embedding for Vision Transformer
    <https://arxiv.org/abs/2403.13298>`_, 2024, section 3, axial frequency (temperature 100,
    columns first). ``reference`` is that of Fang et al., `EVA-02
    <https://arxiv.org/abs/2303.11331>`_, 2023, official code; ``start`` that of Bolya et al.,
    `Perception Encoder <https://arxiv.org/abs/2504.13181>`_, 2025, official code.
  """
  if head_dim % 4:
    raise ValueError(f"rotary positions need dim / heads divisible by 4, got {head_dim}")
  bands = temperature ** (-4 * np.arange(head_dim // 4) / head_dim)
  spans = zip(grid, reference or grid, strict=True)
  axes = np.meshgrid(*((start + np.arange(n)) * (span / n) for n, span in spans), indexing="ij")
  angles = [axis.reshape(-1, 1) * bands for axis in (axes[::-1] if columns_first else axes)]
  angles = np.concatenate(angles + angles, 1)[None]
  return np.sin(angles).astype(np.float32), np.cos(angles).astype(np.float32)


def mixed_frequencies(
  key: jax.Array, shape: tuple[int, ...], *, temperature: float = 10.0
) -> jax.Array:
  """Draws learned frequencies: two axes at a right angle for each head, turned at random.

  Args:
    key: PRNG key.
    shape: ``(2, ..., heads, head_dim / 2)``, columns before rows; 4 divides ``head_dim``.
    temperature: of the magnitudes, as in `rotary_axial`.

  Returns:
    float32 of that shape, in radians a patch.

  References:
    Heo et al., `Rotary Position Embedding for Vision Transformer
    <https://arxiv.org/abs/2403.13298>`_, 2024, section 3, mixed learnable frequency; the
    start is the official code's.
  """
  quarter = shape[-1] // 2
  magnitude = jnp.asarray(temperature ** (-np.arange(quarter) / quarter), jnp.float32)
  turn = jax.random.uniform(key, (*shape[1:-1], 1), maxval=2 * np.pi)
  magnitude = magnitude.reshape((1,) * (turn.ndim - 1) + (-1,))
  axes = [[f(turn + start) * magnitude for start in (0, np.pi / 2)] for f in (jnp.cos, jnp.sin)]
  return jnp.stack([jnp.concatenate(halves, -1) for halves in axes])


def rotary_mixed(grid: Grid, frequencies: jax.Array) -> "Rotation":
  r"""Rotary positions whose pairs are each turned along a direction of their own.

  .. math:: \theta_{hk}(y, x) = f^x_{hk} x + f^y_{hk} y

  Args:
    grid: rows and columns of patches.
    frequencies: ``[2, heads, head_dim / 2]``, columns before rows, in radians a patch.

  Returns:
    Turns of each head, ``[1, rows * columns, heads, head_dim]`` float32.

  References:
    Heo et al., `Rotary Position Embedding for Vision Transformer
    <https://arxiv.org/abs/2403.13298>`_, 2024, section 3, mixed learnable frequency.
  """
  y, x = (axis.reshape(-1, 1, 1).astype(np.float32) for axis in np.indices(grid))
  columns, rows = at_least_float32(frequencies)
  angles = x * columns[None] + y * rows[None]
  angles = jnp.concatenate([angles, angles], -1)[None]
  return Rotation(jnp.sin(angles), jnp.cos(angles))


class Rotation(NamedTuple):
  """Rotary positions: how far each pair of a head's features is turned, by token.

  Attributes:
    sin: ``[batch or 1, tokens, head_dim]`` sines, or ``[batch or 1, tokens, heads, head_dim]``;
      feature i pairs with i + head_dim / 2.
    cos: same of cosines.

  References:
    Su et al., `RoFormer: Enhanced Transformer with Rotary Position Embedding
    <https://arxiv.org/abs/2104.09864>`_, 2021, eq. 34; halves in place of neighbours are paired,
    as in most code.
  """

  sin: jax.Array
  cos: jax.Array


def rotate(x: jax.Array, rotation: Rotation) -> jax.Array:
  """Turns the last tokens of a sequence; those in front of them stay.

  Args:
    x: ``[batch, tokens, heads, head_dim]``.
    rotation: of as many tokens or fewer.

  Returns:
    Same shape and dtype as ``x``.

  Raises:
    ValueError: if there are fewer tokens than positions.
  """
  positions = rotation.sin.shape[1]
  first = x.shape[1] - positions
  if first < 0:
    raise ValueError(
      f"{x.shape[1]} tokens have fewer than the {positions} rotary positions; choose patches by "
      "keep=, not by tokens_in="
    )
  y = at_least_float32(x[:, first:])
  low, high = jnp.split(y, 2, -1)
  by_head = lambda table: table if table.ndim == 4 else table[:, :, None]
  y = y * by_head(rotation.cos) + jnp.concatenate([-high, low], -1) * by_head(rotation.sin)
  return jnp.concatenate([x[:, :first], y.astype(x.dtype)], 1)


def relative_offsets(grid: Grid, front: int = 0) -> np.ndarray:
  """Which entry of a table of relative positions belongs to each pair of tokens.

  Args:
    grid: rows and columns of the last tokens.
    front: tokens before them, such as a class token. What they see, what sees them and how they
      see one another are three entries of their own, the table's last.

  Returns:
    ``[tokens, tokens]`` int32, query by key: for patches the offset of the query from the key,
    rows first, counted from the most negative.

  Raises:
    ValueError: if ``front`` is negative: there are fewer tokens than the grid has.

  References:
    Liu et al., `Swin Transformer <https://arxiv.org/abs/2103.14030>`_, 2021, eq. 4. The entries of
    a class token, in this order, are those of Bao et al., `BEiT
    <https://arxiv.org/abs/2106.08254>`_, 2021, official code.
  """
  rows, columns = grid
  if front < 0:
    raise ValueError(
      f"{rows * columns + front} tokens are fewer than the {rows}x{columns} that relative "
      "positions were made for; neither keep= nor tokens_in= can leave tokens out here"
    )
  y, x = (axis.ravel() for axis in np.indices(grid))
  dy = y[:, None] - y[None] + rows - 1
  dx = x[:, None] - x[None] + columns - 1
  between = dy * (2 * columns - 1) + dx
  count = (2 * rows - 1) * (2 * columns - 1)
  tokens = front + rows * columns
  offsets = np.empty((tokens, tokens), np.int32)
  offsets[front:, front:] = between
  offsets[:front] = count
  offsets[:, :front] = count + 1
  offsets[:front, :front] = count + 2
  return offsets


def interpolate(positions: jax.Array, grid_from: Grid, grid_to: Grid) -> jax.Array:
  """Carries learned positions to another grid: bicubic, antialiased when it shrinks.

  Args:
    positions: ``[rows * columns, dim]`` of ``grid_from``, in raster order.
    grid_from: rows and columns that the positions were learned for.
    grid_to: rows and columns wanted.

  Returns:
    ``[rows * columns, dim]`` of ``grid_to``, same dtype.

  Raises:
    ValueError: if ``positions`` does not have the rows of ``grid_from``.
  """
  count, dim = positions.shape
  if count != grid_from[0] * grid_from[1]:
    raise ValueError(
      f"{count} positions are not a grid of {grid_from[0]}x{grid_from[1]}; pass the grid that they "
      "were learned for, without class token and registers"
    )
  if grid_from == grid_to:
    return positions
  table = positions.reshape(*grid_from, dim).astype(jnp.float32)
  table = jax.image.resize(table, (*grid_to, dim), "bicubic", antialias=True)
  return table.reshape(-1, dim).astype(positions.dtype)
