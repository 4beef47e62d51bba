"""A report's pictures as PNG files, for slides and papers; they take matplotlib."""

import io
import math
import warnings
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from repjax.evaluate.matrices import Matrix, shade
from repjax.evaluate.pictures import (
  COLOURS,
  MARKERS,
  SMALL,
  EmbeddingMap,
  Neighbours,
  Series,
  class_name,
  look,
  pixels,
  readable,
  same_class,
  thinned,
)

_INK, _MUTED, _LINE = "#1c1c1a", "#6b6a66", "#e4e2dc"
_STYLE = {
  "font.size": 9,
  "font.family": "sans-serif",
  "text.color": _INK,
  "text.parse_math": False,  # a class may be called $
  "axes.edgecolor": _LINE,
  "axes.labelcolor": _MUTED,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.titlelocation": "left",
  "axes.titlesize": 9,
  "axes.titleweight": "bold",
  "xtick.color": _MUTED,
  "ytick.color": _MUTED,
  "legend.frameon": False,
}


def check_matplotlib() -> None:
  """Raises ModuleNotFoundError, naming the extra to install, unless figures can be drawn."""
  try:
    import matplotlib.figure  # noqa: F401
  except ModuleNotFoundError:
    raise ModuleNotFoundError(
      "figures need matplotlib, which is not installed; run: pip install 'repjax[plots]'"
    ) from None


def draw_curves(panels: Mapping[str, Mapping[str, Series]], *, across: str = "step") -> bytes:
  """Draws `repjax.evaluate.pictures.curves` as a figure of small panels.

  Args:
    panels: as from there.
    across: what the horizontal axis is.

  Returns:
    A PNG file's bytes.
  """

  def draw(figure):
    columns = min(3, len(panels))
    for i, (title, lines) in enumerate(panels.items()):
      axes = figure.add_subplot(math.ceil(len(panels) / columns), columns, i + 1)
      for (name, line), colour in zip(lines.items(), COLOURS * len(lines), strict=False):
        steps, values = thinned(*line)
        mark = {"marker": "o", "markersize": 3} if len(steps) <= 30 else {}
        axes.plot(steps, values, color=colour, linewidth=1.4, label=readable(name), **mark)
      axes.set_title(readable(title))
      axes.grid(axis="y", color=_LINE, linewidth=0.6)
      axes.set_axisbelow(True)
      axes.tick_params(length=0)
      axes.locator_params(nbins=4)
      axes.set_xlabel(across)
      if len(lines) > 1:
        axes.legend()

  rows = math.ceil(len(panels) / 3)
  return _png((3.4 * min(3, len(panels)), 2.4 * rows), draw)


def draw_map(embedding: EmbeddingMap, classes: Sequence[str]) -> bytes:
  """Draws an `EmbeddingMap` as a scatter with a legend.

  Args:
    embedding: the points and their labels.
    classes: names of the labels.

  Returns:
    A PNG file's bytes.
  """
  labels = np.asarray(embedding.labels)
  present = np.unique(labels)

  def draw(figure):
    axes = figure.add_subplot()
    handles = []
    for label in present:
      chosen = np.asarray(embedding.points)[labels == label]
      colour, marker = look(label)
      handles.append(
        axes.scatter(
          *chosen.T,
          s=16,
          color=COLOURS[colour],
          marker=MARKERS[marker],
          edgecolors="white",
          linewidths=0.4,
        )
      )
    axes.set_aspect("equal", adjustable="datalim")
    axes.axis("off")
    if len(present) <= 24:
      # Labels on the artists would lose a name that begins with an underscore.
      names = [class_name(label, classes) for label in present]
      axes.legend(handles, names, loc="center left", bbox_to_anchor=(1, 0.5))

  return _png((7, 5), draw)


def draw_neighbours(neighbours: Neighbours, classes: Sequence[str]) -> bytes:
  """Draws `Neighbours`: a row a query, a block a representation, a frame and a mark an image.

  Args:
    neighbours: the queries and what was found.
    classes: names of the labels.

  Returns:
    A PNG file's bytes.
  """
  queries, bank = pixels(neighbours.query_images), pixels(neighbours.bank_images)
  counts = [np.shape(i)[1] for i in neighbours.found.values()]
  starts = np.cumsum([1.6] + [c + 0.6 for c in counts])
  hits = same_class(neighbours)

  def draw(figure):
    from matplotlib.patches import Rectangle

    axes = figure.add_subplot()
    axes.text(0.45, -0.2, "query", ha="center", weight="bold")
    for row, (image, label) in enumerate(zip(queries, neighbours.query_labels, strict=True)):
      _place(axes, image, 0, row)
      axes.text(-0.12, row + 0.45, class_name(label, classes), ha="right", va="center")
    for (name, indices), start in zip(neighbours.found.items(), starts, strict=False):
      axes.text(start, -0.2, name, weight="bold")
      for (row, column), index in np.ndenumerate(indices):
        right, x = hits[name][row, column], start + column
        _place(axes, bank[index], x, row)
        colour = COLOURS[0 if right else 3]
        line = "-" if right else (0, (2, 1.2))
        axes.add_patch(
          Rectangle((x, row), 0.9, 0.9, fill=False, edgecolor=colour, linewidth=1.6, linestyle=line)
        )
        axes.text(
          x + 0.81,
          row + 0.81,
          "✓" if right else "✗",
          color="white",
          size=6,
          ha="center",
          va="center",
          bbox={"boxstyle": "circle,pad=0.15", "facecolor": colour, "edgecolor": "none"},
        )
    axes.set(xlim=(-1.6, starts[-1] - 0.6), ylim=(len(queries), -0.6), aspect="equal")
    axes.axis("off")

  return _png((0.55 * (starts[-1] + 1), 0.55 * (len(queries) + 0.6)), draw)


def draw_rows(rows: Mapping[str, np.ndarray]) -> bytes:
  """Draws aligned images: a row a kind, a column an example.

  Args:
    rows: by what they show, images ``[n, height, width, 1 or 3]``, equally many a row.

  Returns:
    A PNG file's bytes.
  """
  shown = {name: pixels(images) for name, images in rows.items()}
  count = len(next(iter(shown.values())))

  def draw(figure):
    axes = figure.add_subplot()
    for row, (name, images) in enumerate(shown.items()):
      axes.text(-0.12, row + 0.45, name, ha="right", va="center")
      for column, image in enumerate(images):
        _place(axes, image, column, row)
    axes.set(xlim=(-1.8, count), ylim=(len(shown), 0), aspect="equal")
    axes.axis("off")

  return _png((0.8 * (count + 1.8), 0.8 * len(shown)), draw)


def draw_bars(
  values: Mapping[str, tuple[float, float]], controls: Collection[str], label: str
) -> bytes:
  """Draws one number a method, controls in grey and the best of them as a line to beat.

  Args:
    values: mean and standard error by method, from below to above; an error of 0 is not drawn.
    controls: which of them are controls.
    label: what the numbers are.

  Returns:
    A PNG file's bytes.
  """

  def draw(figure):
    axes = figure.add_subplot()
    for place, (name, (mean, error)) in enumerate(values.items()):
      colour = _MUTED if name in controls else COLOURS[0]
      axes.barh(place, mean, 0.7, color=colour, alpha=0.5 if name in controls else 1)
      if error:
        axes.errorbar(mean, place, xerr=error, color=_INK, linewidth=1, capsize=2)
      axes.annotate(
        f"{mean:.3f}",
        (mean + error, place),
        (4, 0),
        textcoords="offset points",
        va="center",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},  # the line to beat ends there
      )
    if beaten := [mean for name, (mean, _) in values.items() if name in controls]:
      axes.axvline(max(beaten), color=_MUTED, linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(values)), [readable(name) for name in values])
    axes.tick_params(length=0)
    axes.margins(x=0.12, y=0.01)
    axes.set_xlabel(label)

  return _png((6, 0.8 + 0.24 * len(values)), draw)


def draw_matrices(parts: Mapping[str, Matrix]) -> bytes:
  """Draws tables of numbers as heat maps, side by side.

  Args:
    parts: by title.

  Returns:
    A PNG file's bytes.
  """

  def draw(figure):
    for i, (title, part) in enumerate(parts.items()):
      axes = figure.add_subplot(1, len(parts), i + 1)
      axes.imshow(shade(part), cmap="Blues", vmin=0, vmax=1)
      # A full colour for each number would hide it; few are written out.
      if max(np.shape(part.values)) <= 12:
        for (row, column), value in np.ndenumerate(part.values):
          ink = "white" if shade(part)[row, column] > 0.6 else _INK
          words = f"{value:.2f}" if np.isfinite(value) else "-"
          axes.text(column, row, words, color=ink, size=6, ha="center", va="center")
      axes.set_xticks(range(len(part.columns)), part.columns, rotation=90)
      axes.set_yticks(range(len(part.rows)), part.rows)
      axes.tick_params(length=0, labelsize=6)
      axes.spines[:].set_visible(False)
      axes.set(title=title, xlabel=part.across, ylabel=part.down)

  width = sum(1.2 + 0.28 * max(4, len(part.columns)) for part in parts.values())
  height = 1.2 + 0.28 * max(max(4, len(part.rows)) for part in parts.values())
  return _png((width, height), draw)


def _place(axes, image, x, y):
  # A fit into a square keeps the grid aligned whatever the images' shape.
  height, width = 0.9 * np.array(image.shape[:2]) / max(image.shape[:2])
  x, y = x + (0.9 - width) / 2, y + (0.9 - height) / 2
  small = max(image.shape[:2]) <= SMALL
  axes.imshow(
    image,
    extent=(x, x + width, y + height, y),
    interpolation="nearest" if small else "auto",
  )


def _png(size, draw):
  check_matplotlib()
  import matplotlib
  from matplotlib.figure import Figure

  out = io.BytesIO()
  with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
    # A class named in a script that the font lacks is drawn as boxes; the page shows it right.
    warnings.filterwarnings("ignore", "Glyph")
    figure = Figure(figsize=size, dpi=160, layout="constrained", facecolor="white")
    draw(figure)
    figure.savefig(out, format="png", metadata={"Software": None})
  return out.getvalue()
