"""What a report shows of a representation: a map, neighbours, colours, curves."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from repjax.evaluate.embed import unit_rows

# Seven colours that stay apart under simulated protanopia, deuteranopia and tritanopia (at least
# 0.12 in OKLab), and grey. Further classes repeat them with another marker. The page's style sheet
# has the same list, and one for dark screens.
COLOURS = (
  "#0053ad",
  "#eda503",
  "#169a70",
  "#ad2c00",
  "#a86dc9",
  "#46bfff",
  "#1f0059",
  "#8a8984",
)
MARKERS = ("o", "s", "D")
SMALL = 64  # An image of no more pixels a side is shown pixel by pixel.
_LARGEST_MAP = 1000

Series = tuple[np.ndarray, np.ndarray]


class EmbeddingMap(NamedTuple):
  """Images placed in the plane by their features.

  Attributes:
    points: ``[n, 2]``, as from `project`.
    labels: ``[n]`` integers; -1 = unlabelled.
    thumbnails: ``[n, height, width, channels]``, uint8, or floats in [0, 1].
  """

  points: np.ndarray
  labels: np.ndarray
  thumbnails: np.ndarray


class Neighbours(NamedTuple):
  """Queries and what each representation finds nearest to them.

  Attributes:
    query_images: ``[queries, height, width, channels]``, uint8, or floats in [0, 1].
    query_labels: ``[queries]`` integers; -1 = unlabelled.
    bank_images: ``[bank, height, width, channels]``.
    bank_labels: ``[bank]`` integers.
    found: by name of the representation (say ``simclr``, ``raw pixels``), indices into the bank
      ``[queries, count]``, nearest first, as from `nearest_neighbours`.
  """

  query_images: np.ndarray
  query_labels: np.ndarray
  bank_images: np.ndarray
  bank_labels: np.ndarray
  found: Mapping[str, np.ndarray]


class PatchMaps(NamedTuple):
  """Images and their local features.

  Attributes:
    images: ``[images, height, width, channels]``, uint8, or floats in [0, 1].
    tokens: ``[images, rows, columns, dim]``, one vector a patch in raster order.
  """

  images: np.ndarray
  tokens: np.ndarray


class Reconstructions(NamedTuple):
  """Masked images and what a model makes of them.

  All are ``[images, height, width, channels]``, uint8, or floats in [0, 1].

  Attributes:
    images: the whole images.
    masked: what the model sees.
    predicted: what it predicts everywhere.
    composites: seen pixels as they were, hidden ones as predicted; left out if absent.
  """

  images: np.ndarray
  masked: np.ndarray
  predicted: np.ndarray
  composites: np.ndarray | None = None


def principal_components(x: np.ndarray, count: int) -> np.ndarray:
  """Coordinates along the directions of most variance.

  Args:
    x: ``[n, dim]``, finite.
    count: number of directions.

  Returns:
    ``[n, count]`` float64, centred. The sign makes each direction's largest loading positive;
    directions without variance give zeros.

  Raises:
    ValueError: if an entry is not finite.
  """
  x = np.asarray(x, np.float64)
  if not np.isfinite(x).all():
    bad = int((~np.isfinite(x)).sum())
    raise ValueError(f"{bad} of {x.size} feature values are not finite; check the checkpoint")
  x = x - x.mean(0)
  left, scale, right = np.linalg.svd(x, full_matrices=False)
  left, scale, right = left[:, :count], scale[:count], right[:count]
  # Rounding leaves directions of no variance with a little; robust scaling would blow it up.
  scale = np.where(scale > 1e-6 * max(scale[0], 1e-12), scale, 0)
  largest = np.take_along_axis(right, np.abs(right).argmax(1)[:, None], 1)[:, 0]
  coordinates = left * (scale * np.sign(largest))
  return np.pad(coordinates, ((0, 0), (0, count - coordinates.shape[1])))


def project(features: np.ndarray, *, seed: int, method: str = "tsne") -> np.ndarray:
  """Places features in the plane, near ones near each other.

  Rows are scaled to unit length first, so that the map shows the cosines that kNN goes by.

  Args:
    features: ``[n, dim]``, finite; ``n`` at most 1000 for ``tsne``.
    seed: of scikit-learn's layout; the PCA start leaves next to nothing to chance.
    method: ``tsne`` (from a PCA start) or ``pca``.

  Returns:
    ``[n, 2]`` float64.

  Raises:
    ValueError: if the method is unknown, or there are too many rows for it.

  References:
    van der Maaten and Hinton, `Visualizing Data using t-SNE
    <https://www.jmlr.org/papers/v9/vandermaaten08a.html>`_, 2008.
  """
  if method not in ("tsne", "pca"):
    raise ValueError(f"unknown method {method!r}; choose 'tsne' or 'pca'")
  features = unit_rows(features)
  start = principal_components(features, 2)
  spread = start[:, 0].std()
  # Four points or identical ones have no neighbourhoods to lay out.
  if method == "pca" or len(features) < 5 or spread == 0:
    return start
  if len(features) > _LARGEST_MAP:
    raise ValueError(
      f"{len(features)} rows are too many for t-SNE; choose at most {_LARGEST_MAP}, or method='pca'"
    )
  from sklearn.manifold import TSNE

  layout = TSNE(
    init=(start * (1e-4 / spread)).astype(np.float32),
    perplexity=min(30.0, (len(features) - 1) / 3),
    learning_rate="auto",
    random_state=seed,
    n_jobs=1,
  )
  return layout.fit_transform(features.astype(np.float32)).astype(np.float64)


def nearest_neighbours(
  features_query: np.ndarray, features_bank: np.ndarray, count: int
) -> np.ndarray:
  """The bank's rows of highest cosine similarity.

  Args:
    features_query: ``[queries, dim]``.
    features_bank: ``[bank, dim]``.
    count: neighbours a query, at most ``bank``.

  Returns:
    Indices ``[queries, count]``, nearest first, ties in the bank's order.

  Raises:
    ValueError: if ``count`` exceeds the bank, or the dimensions differ.
  """
  shapes = {"features_query": features_query.shape, "features_bank": features_bank.shape}
  if any(len(s) != 2 for s in shapes.values()) or len({s[1] for s in shapes.values()}) > 1:
    raise ValueError(f"expected [rows, dim] with equal dim, got {shapes}")
  if count > len(features_bank):
    raise ValueError(f"count={count} is more than the bank's {len(features_bank)} rows")
  similarity = unit_rows(features_query) @ unit_rows(features_bank).T
  return np.argsort(-similarity, axis=1, kind="stable")[:, :count]


def patch_colours(tokens: np.ndarray) -> np.ndarray:
  """Paints patches by their first three principal components, jointly over all images.

  Each component is scaled so that its 2nd and 98th percentiles become 0 and 1, and clipped.

  Args:
    tokens: ``[images, rows, columns, dim]``, finite.

  Returns:
    Red, green, blue in [0, 1], ``[images, rows, columns, 3]``; equal tokens get equal colours,
    and a component without spread is 0.5.

  References:
    Oquab et al., `DINOv2 <https://arxiv.org/abs/2304.07193>`_, 2023, figure 1.
  """
  parts = principal_components(np.reshape(tokens, (-1, tokens.shape[-1])), 3)
  low, high = np.percentile(parts, [2, 98], axis=0)
  colours = np.where(high > low, (parts - low) / np.where(high > low, high - low, 1), 0.5)
  return np.clip(colours, 0, 1).reshape(*tokens.shape[:-1], 3)


def curves(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Series]]:
  """Sorts a log of metrics into the panels that show them.

  Metrics with one prefix (``eval/knn_1``, ``eval/knn_20``) share a panel where all lie in [0, 1].

  Args:
    history: one mapping a log line, ``step`` and numbers by name; what is not a number is left out.

  Returns:
    Panel title to name to (steps, values): the loss, prefixed metrics, learning rate, gradient
    norm, then the others in the order they came.
  """
  names = dict.fromkeys(name for line in history for name in line if not _is_noted(name))
  series = {}
  for name in names:
    pairs = [
      (line.get("step", i), line[name])
      for i, line in enumerate(history)
      if _is_number(line.get(name))
    ]
    if pairs:
      steps, values = np.array(pairs, np.float64).T
      series[name] = steps, values
  panels: dict[str, dict[str, Series]] = {}
  for name, (steps, values) in series.items():
    prefix, _, rest = name.rpartition("/")
    shared = prefix and values.min() >= 0 and values.max() <= 1
    panels.setdefault(prefix if shared else name, {})[rest if shared else name] = steps, values
  first = [
    *(p for p in panels if p == "loss"),
    *(p for p in panels if "/" in p or p not in series),
    *(p for p in ("learning_rate", "grad_norm") if p in panels),
  ]
  return {p: panels[p] for p in dict.fromkeys([*first, *panels])}


def thinned(steps: np.ndarray, values: np.ndarray, count: int = 240) -> Series:
  """Averages a long series over equal runs of its points.

  Args:
    steps: ``[n]``.
    values: ``[n]``.
    count: points to leave, at most.

  Returns:
    Steps and values, at most ``count`` of each.
  """
  if len(steps) <= count:
    return steps, values
  groups = [np.array_split(x, count) for x in (steps, values)]
  return tuple(np.array([g.mean() for g in group]) for group in groups)


def pixels(images: np.ndarray) -> np.ndarray:
  """Images of any channel count and dtype as what a screen shows.

  Args:
    images: ``[n, height, width, 1 or 3]``, uint8, or floats in [0, 1], clipped.

  Returns:
    ``[n, height, width, 3]`` uint8.

  Raises:
    ValueError: for another shape.
  """
  images = np.asarray(images)
  if images.ndim != 4 or images.shape[-1] not in (1, 3):
    raise ValueError(f"expected images [n, height, width, 1 or 3], got {images.shape}")
  if images.dtype != np.uint8:
    images = np.rint(np.clip(np.nan_to_num(images), 0, 1) * 255).astype(np.uint8)
  return np.repeat(images, 3, -1) if images.shape[-1] == 1 else images


def data_uri(image: np.ndarray, largest: int = 2 * SMALL) -> str:
  """A PNG image as an address that holds it.

  Args:
    image: ``[height, width, 3]`` uint8; shrunk if a side is longer than ``largest``.
    largest: pixels.

  Returns:
    A ``data:`` address.
  """
  from PIL import Image

  out, picture = io.BytesIO(), Image.fromarray(image)
  picture.thumbnail((largest, largest))
  picture.save(out, "PNG", optimize=True)
  return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def atlas(images: np.ndarray) -> tuple[np.ndarray, int, int]:
  """Lays images out in one near-square sheet, in raster order.

  Args:
    images: ``[n, height, width, 3]`` uint8; shrunk if larger than 64 pixels.

  Returns:
    The sheet ``[rows * h, columns * w, 3]``, its columns and its rows.
  """
  n, height, width, _ = images.shape
  if max(height, width) > SMALL:
    from PIL import Image

    shrink = SMALL / max(height, width)
    height, width = max(1, round(height * shrink)), max(1, round(width * shrink))
    images = np.stack([np.asarray(Image.fromarray(x).resize((width, height))) for x in images])
  columns = math.ceil(math.sqrt(n))
  rows = math.ceil(n / columns)
  sheet = np.zeros((rows * columns, height, width, 3), np.uint8)
  sheet[:n] = images
  sheet = sheet.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
  return sheet.reshape(rows * height, columns * width, 3), columns, rows


def class_name(label: int, classes: Sequence[str]) -> str:
  """What to call a label: its class's name, itself past the names, or unlabelled if negative."""
  if label < 0:
    return "unlabelled"
  return str(classes[label]) if label < len(classes) else str(label)


def same_class(neighbours: Neighbours) -> dict[str, np.ndarray]:
  """Which neighbours have their query's class: ``[queries, count]`` booleans by representation."""
  asked = np.asarray(neighbours.query_labels)[:, None]
  bank = np.asarray(neighbours.bank_labels)
  return {n: (bank[np.asarray(i)] == asked) & (asked >= 0) for n, i in neighbours.found.items()}


def look(label: int) -> tuple[int, int]:
  """A label's index into `COLOURS` and into `MARKERS`; the grey is kept for the unlabelled."""
  coloured = len(COLOURS) - 1
  if label < 0:
    return coloured, 0
  return int(label) % coloured, int(label) // coloured % len(MARKERS)


def readable(name: str) -> str:
  """A metric's name as a reader would write it."""
  return name.replace("_", " ")


def _is_noted(name):
  return name in ("step", "epoch") or name.endswith("_stderr")


def _is_number(value):
  if isinstance(value, bool) or value is None:
    return False
  try:
    return math.isfinite(value)
  except TypeError:
    return False
