"""Which patches a masked learner hides; a mask is True where a patch is hidden."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def random_mask(
  key: jax.Array, grid: tuple[int, int], *, ratio: float = 0.6, unit: int = 1
) -> jax.Array:
  """Hides a fixed number of square units, every set of them equally likely.

  ``ceil(ratio * units)`` units are hidden, as in SimMIM's code; with ``unit=1`` what stays visible
  is then ``floor((1 - ratio) * patches)``, as in MAE's.

  Args:
    key: for one image.
    grid: patches down and across.
    ratio: share of the units to hide, in [0, 1].
    unit: side of a unit in patches.

  Returns:
    ``[grid[0], grid[1]]`` bool.

  Raises:
    ValueError: if ``ratio`` is outside [0, 1] or ``unit`` does not divide ``grid``.

  References:
    Xie et al., `SimMIM: A Simple Framework for Masked Image Modeling
    <https://arxiv.org/abs/2111.09886>`_, 2021, section 3.2; count from ``MaskGenerator`` in
    ``data/data_simmim.py`` of https://github.com/microsoft/SimMIM.

    He et al., `Masked Autoencoders Are Scalable Vision Learners
    <https://arxiv.org/abs/2111.06377>`_, 2021.
  """
  if unit < 1 or grid[0] % unit or grid[1] % unit:
    raise ValueError(f"grid={grid} is not divisible by unit={unit}; choose a divisor of both sides")
  rows, columns = grid[0] // unit, grid[1] // unit
  hidden = masked_count(rows * columns, ratio)
  mask = _largest(jax.random.uniform(key, (rows, columns)), hidden)
  return jnp.repeat(jnp.repeat(mask, unit, 0), unit, 1)


def block_mask(
  key: jax.Array,
  grid: tuple[int, int],
  *,
  ratio: float | tuple[float, float] = 0.4,
  min_block: int = 4,
  aspect: tuple[float, float] = (0.3, 1 / 0.3),
  exact: bool = True,
) -> jax.Array:
  """Hides overlapping rectangles of patches until the wanted share is hidden.

  A rectangle's area is uniform between ``min_block`` and what remains to be hidden, its aspect
  ratio log-uniform, its place uniform; one that would hide nothing new or too much is drawn again,
  and after ten such draws in a row the search ends.

  Args:
    key: for one image.
    grid: patches down and across.
    ratio: share of the patches to hide, in [0, 1]; the count is rounded up. Of two, the count lies
      between theirs, each as likely.
    min_block: least area of a rectangle in patches, before rounding; 16 for BEiT's 14x14.
    aspect: least and greatest height over width, > 0.
    exact: if true, single patches at random make up for what the search left; if false the mask
      may fall short, as in BEiT, and differs in count between images.

  Returns:
    ``[grid[0], grid[1]]`` bool.

  Raises:
    ValueError: if ``ratio`` is outside [0, 1] or ``aspect`` is not an increasing pair.

  References:
    Bao et al., `BEiT: BERT Pre-Training of Image Transformers
    <https://arxiv.org/abs/2106.08254>`_, 2021, algorithm 1. Followed is the code,
    ``beit/masking_generator.py`` of https://github.com/microsoft/unilm: it has the ten attempts,
    the log-uniform aspect ratio and a count that never exceeds the wanted one.
  """
  if not 0 < aspect[0] <= aspect[1]:
    raise ValueError(f"aspect={aspect} is not an increasing pair above 0; choose e.g. (0.3, 3.3)")
  height, width = grid
  shares = ratio if isinstance(ratio, tuple) else (ratio, ratio)
  least, most = (masked_count(height * width, share) for share in shares)
  row, column = jnp.arange(height)[:, None], jnp.arange(width)[None]
  key_blocks, key_rest = jax.random.split(key)
  wanted = most
  if least != most:
    wanted = jax.random.randint(jax.random.fold_in(key, 2), (), least, most + 1)

  def unfinished(state):
    _, mask, failures = state
    return (jnp.sum(mask) < wanted) & (failures < 10)

  def attempt(state):
    key, mask, failures = state
    key, key_draw = jax.random.split(key)
    u = jax.random.uniform(key_draw, (4,))
    left = wanted - jnp.sum(mask)
    area = min_block + u[0] * (left - min_block)
    log_low, log_high = math.log(aspect[0]), math.log(aspect[1])
    shape = jnp.exp(log_low + u[1] * (log_high - log_low))
    rows, columns = jnp.round(jnp.sqrt(area * shape)), jnp.round(jnp.sqrt(area / shape))
    top = jnp.floor(u[2] * (height - rows + 1))
    first = jnp.floor(u[3] * (width - columns + 1))
    block = ((row >= top) & (row < top + rows)) & ((column >= first) & (column < first + columns))
    new = jnp.sum(block & ~mask)
    good = (rows < height) & (columns < width) & (new > 0) & (new <= left)
    return key, jnp.where(good, mask | block, mask), jnp.where(good, 0, failures + 1)

  start = (key_blocks, jnp.zeros(grid, bool), 0)
  mask = lax.while_loop(unfinished, attempt, start)[1]
  if not exact:
    return mask
  return _largest(mask + jax.random.uniform(key_rest, grid), most, wanted)


class Blocks(NamedTuple):
  """What a predictor of blocks sees and is asked for, of one image.

  Attributes:
    keep: ``[kept]`` int32 places in the raveled grid, ascending.
    targets: ``[blocks, count]`` int32 likewise, a row for each block.
  """

  keep: jax.Array
  targets: jax.Array


def multi_block(
  key: jax.Array,
  grid: tuple[int, int],
  *,
  blocks: int = 4,
  scale: tuple[float, float] = (0.15, 0.2),
  aspect: tuple[float, float] = (0.75, 1.5),
  context_scale: tuple[float, float] = (0.85, 1.0),
  keep: int | None = None,
) -> Blocks:
  """I-JEPA's masks: a few rectangles to predict, and a large square less these to see.

  Area and aspect ratio of the rectangles of an image are drawn together, as in the authors' code.
  Its batches are cut to the fewest patches in them, from the end of the raster; numbers of patches
  have to be known when a program is compiled, so here a rectangle is cut to the area of the
  smallest there can be, and of what there is to see ``keep`` patches are chosen at random. Sizes
  are drawn an image rather than a batch, and the last row and column are within reach. If fewer
  than ``keep`` are to be seen, all is drawn again, up to twenty times; then, as in the code, the
  rest is taken from within the targets.

  Args:
    key: for one image.
    grid: patches down and across.
    blocks: how many rectangles; they may overlap.
    scale: least and greatest area of a rectangle, as shares of the image.
    aspect: least and greatest height over width.
    context_scale: least and greatest area of the square, likewise.
    keep: patches to see; a quarter of the image's if absent.

  Returns:
    Places, as many for every key.

  Raises:
    ValueError: if ``keep`` is not between 1 and the number of patches.

  References:
    Assran et al., `Self-Supervised Learning from Images with a Joint-Embedding Predictive
    Architecture <https://arxiv.org/abs/2301.08243>`_, 2023, section 3; ``src/masks/multiblock.py``
    of https://github.com/facebookresearch/ijepa.
  """
  patches = grid[0] * grid[1]
  keep = max(patches // 4, 1) if keep is None else keep
  if not 1 <= keep <= patches:
    raise ValueError(f"keep={keep} of {patches} patches; choose between 1 and {patches}")
  sizes, context_sizes = _sizes(grid, scale, aspect), _sizes(grid, context_scale, (1, 1))
  count = int(sizes.prod(1).min())

  def draw(key):
    k_size, k_context, *k_places = jax.random.split(key, 3 + blocks)
    size = jax.random.choice(k_size, jnp.asarray(sizes))
    targets = jnp.stack([_rectangle(k, grid, size) for k in k_places[:blocks]])
    context = jax.random.choice(k_context, jnp.asarray(context_sizes))
    return targets, _rectangle(k_places[blocks], grid, context) & ~jnp.any(targets, 0)

  def unfinished(state):
    _, _, seen, tries = state
    return (jnp.sum(seen) < keep) & (tries < 20)

  def attempt(state):
    key, _, _, tries = state
    key, key_draw = jax.random.split(key)
    return key, *draw(key_draw), tries + 1

  key, key_rest = jax.random.split(key)
  nothing = jnp.zeros((blocks, *grid), bool), jnp.zeros(grid, bool)
  _, targets, seen, _ = lax.while_loop(unfinished, attempt, (key, *nothing, 0))
  chosen = _largest(seen + jax.random.uniform(key_rest, grid), keep)
  places = jax.vmap(lambda mask: keep_indices(~mask, count))(targets)
  return Blocks(keep_indices(~chosen, keep), places)


def keep_indices(mask: jax.Array, keep: int) -> jax.Array:
  """Indices of visible patches, for encoders that drop the others.

  Args:
    mask: any shape, bool, True where hidden.
    keep: how many to return; of masks with a fixed count, the number that stays visible.

  Returns:
    ``[keep]`` int32 into the raveled mask, in raster order; the first visible ones if there are
    more, followed by the first hidden ones if there are fewer.

  Raises:
    ValueError: if ``keep`` is not between 1 and the number of patches.
  """
  if not 1 <= keep <= mask.size:
    raise ValueError(f"keep={keep} of {mask.size} patches; choose between 1 and {mask.size}")
  return jnp.argsort(mask.ravel(), stable=True)[:keep].astype(jnp.int32)


def masked_count(patches: int, ratio: float) -> int:
  """Number of patches to hide: the share rounded up.

  Args:
    patches: how many there are.
    ratio: share to hide, in [0, 1].

  Returns:
    ``ceil(patches * ratio)``, forgiving float error: 0.55 of 100 is 55.

  Raises:
    ValueError: if ``ratio`` is outside [0, 1].
  """
  if not 0 <= ratio <= 1:
    raise ValueError(f"ratio={ratio} is outside [0, 1]; choose the share of patches to hide")
  return math.ceil(round(patches * ratio, 6))


def _largest(scores, most, count=None):
  # A threshold would miscount ties; a sort costs twice as much on a CPU.
  chosen = lax.top_k(scores.ravel(), most)[1]
  taken = True if count is None else jnp.arange(most) < count
  return jnp.zeros(scores.size, bool).at[chosen].set(taken).reshape(scores.shape)


def _sizes(grid, scale, aspect) -> np.ndarray:
  """Heights and widths in patches of rectangles, every row as likely, ``[256, 2]``."""
  share = np.linspace(0, 1, 256)
  between = lambda ends: ends[0] + share * (ends[1] - ends[0])
  area = np.floor(grid[0] * grid[1] * between(scale))
  sides = np.sqrt([area * between(aspect), area / between(aspect)]).T
  # As in the code, a rectangle leaves out at least a row and a column.
  return np.clip(np.round(sides), 1, np.maximum(np.array([grid]) - 1, 1)).astype(np.int32)


def _rectangle(key, grid, size) -> jax.Array:
  """A rectangle somewhere in the grid, bool."""
  place = jax.random.randint(key, (2,), 0, jnp.array(grid) - size + 1)
  row, column = jnp.arange(grid[0])[:, None] - place[0], jnp.arange(grid[1])[None] - place[1]
  return ((row >= 0) & (row < size[0])) & ((column >= 0) & (column < size[1]))
