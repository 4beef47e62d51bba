"""Which patches a transformer took for one: pictures of merged and dropped tokens."""

import numpy as np

from repjax.evaluate.pictures import pixels

_DARK = 0.12


def token_groups(images: np.ndarray, target: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
  """Paints each group of patches in its mean colour, with lines between groups.

  Args:
    images: ``[n, height, width, channels]``, uint8, or floats in [0, 1].
    target: ``[n, rows * columns]`` integers, what each patch went into, in raster order (of a
      `repjax.select.Reduction` less class token and registers); -1 if it was dropped, which leaves
      it dark.
    grid: rows and columns of the patches; divides the images.

  Returns:
    ``[n, height, width, 3]`` floats in [0, 1].

  Raises:
    ValueError: if the grid does not fit.

  References:
    Bolya et al., `Token Merging: Your ViT But Faster <https://arxiv.org/abs/2210.09461>`_, 2022.
  """
  count, height, width = images.shape[:3]
  rows, columns = grid
  if height % rows or width % columns or target.shape != (count, rows * columns):
    raise ValueError(
      f"grid {rows}x{columns} does not fit {count} images of {height}x{width} and targets "
      f"{target.shape}; give patches in raster order"
    )
  seen = pixels(images) / 255
  size = height // rows, width // columns
  patches = seen.reshape(count, rows, size[0], columns, size[1], 3).mean((2, 4))
  painted = np.empty((count, rows * columns, 3))
  for colours, own, out in zip(patches.reshape(painted.shape), target, painted, strict=True):
    for group in np.unique(own):
      out[own == group] = colours[own == group].mean(0) if group >= 0 else _DARK
  enlarge = lambda x: x.repeat(size[0], 1).repeat(size[1], 2)
  picture = enlarge(painted.reshape(count, rows, columns, 3))
  groups = enlarge(target.reshape(count, rows, columns))
  for axis in (1, 2):
    edge = np.diff(groups, axis=axis) != 0
    edge = np.pad(edge, [(0, 0), *((int(axis == a), 0) for a in (1, 2))])
    # Grey lines are seen on white and black alike.
    picture = np.where(edge[..., None], 0.55 + 0.35 * (picture < 0.4), picture)
  return picture
