"""The sections of a report's page: from what an experiment knows to HTML; empty without it."""

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np

from repjax.evaluate import pictures
from repjax.evaluate.pictures import EmbeddingMap, Neighbours, PatchMaps, Reconstructions, Series


def results(
  table: Mapping[str, Mapping[str, float]], controls: Sequence[str], *, section: str = "results"
) -> str:
  """A table of numbers, controls on top, the best of each column marked.

  Args:
    table: row to metric to value; the standard error of ``x`` is ``x_stderr``.
    controls: rows that come first.
    section: of the page, whose heading names the table to readers of screens.

  Returns:
    HTML.
  """
  metrics = dict.fromkeys(m for row in table.values() for m in row if not m.endswith("_stderr"))
  if not metrics:
    return ""
  best = {
    m: max((v for row in table.values() if _finite(v := row.get(m))), default=None) for m in metrics
  }
  controls = [row for row in controls if row in table]
  heads = "".join(f'<th scope="col">{_name(m)}</th>' for m in metrics)
  lines, errors = "", False
  for name in [*controls, *(row for row in table if row not in controls)]:
    cells = ""
    for metric in metrics:
      value, error = table[name].get(metric), table[name].get(f"{metric}_stderr")
      if not _finite(value):
        cells += '<td><span class="hidden">none</span><span aria-hidden="true">&ndash;</span></td>'
        continue
      shown = f"{value:.3f}"
      if value == best[metric]:
        shown = f'<strong class="best">{shown}</strong><span class="hidden"> (best)</span>'
      if _finite(error):
        errors = True
        shown += f' <span class="error">± {error:.3f}</span>'
      cells += f"<td>{shown}</td>"
    kind = ' class="control"' if name in controls else ""
    lines += f'<tr{kind}><th scope="row">{text(name)}</th>{cells}</tr>\n'
  note = "The highest of each column is underlined."
  if controls:
    note += " Controls are in grey, on top."
  if errors:
    note += " Mean ± standard error."
  return f"""<p class="note">{note}</p>
<div class="scroll" role="region" aria-labelledby="{section}-heading" tabindex="0">
<table class="results"><thead><tr><th scope="col"><span class="hidden">representation</span></th>
{heads}</tr></thead><tbody>
{lines}</tbody></table></div>"""


def training(panels: Mapping[str, Mapping[str, Series]]) -> str:
  """Curves as drawings, those of less interest folded away.

  Args:
    panels: as from `repjax.evaluate.pictures.curves`.

  Returns:
    HTML.
  """
  if not panels:
    return ""
  leading = {p for p in panels if p in ("loss", "learning_rate", "grad_norm")}
  leading |= {p for p, lines in panels.items() if list(lines) != [p] or "/" in p}
  drawn = {title: _panel(title, lines) for title, lines in panels.items()}
  out = '<div class="panels">' + "".join(drawn[t] for t in drawn if t in leading) + "</div>"
  rest = "".join(drawn[t] for t in drawn if t not in leading)
  if rest and leading:
    return f'{out}<details><summary>More curves</summary><div class="panels">{rest}</div></details>'
  return out if leading else f'<div class="panels">{rest}</div>'


def embedding_map(part: EmbeddingMap | None, classes: Sequence[str]) -> str:
  """A map whose images show under the pointer, and a legend that singles a class out.

  Args:
    part: the points, if any.
    classes: names of the labels.

  Returns:
    HTML.
  """
  if part is None:
    return ""
  points, labels, thumbnails = map(np.asarray, part)
  width, height, margin = 720, 540, 22
  low, high = points.min(0), points.max(0)
  # One scale for both axes: distances are all that a map has to say.
  scale = min((np.array([width, height]) - 2 * margin) / np.maximum(high - low, 1e-9))
  placed = np.array([width, height]) / 2 + (points - (low + high) / 2) * scale
  sheet, columns, rows = pictures.atlas(pictures.pixels(thumbnails))
  present, sizes = np.unique(labels, return_counts=True)

  marks = ""
  for (x, y), label in zip(placed, labels, strict=True):
    colour, shape = pictures.look(label)
    marks += f'<use href="#s{shape}" x="{x:.1f}" y="{y:.1f}" class="k{colour}"'
    marks += f' data-group="{label}"/>'
  names, buttons = "", ""
  for label, size in zip(present, sizes, strict=True):
    colour, shape = pictures.look(label)
    name = text(pictures.class_name(label, classes))
    if len(present) <= 12:
      x, y = np.median(placed[labels == label], 0)
      names += f'<text x="{x:.1f}" y="{y:.1f}">{name}</text>'
    buttons += f"""<li><button type="button" aria-pressed="false" data-group="{label}">
<svg viewBox="-6 -6 12 12" class="k{colour}" aria-hidden="true"><use href="#s{shape}"/></svg>
<span class="name">{name}</span><span class="count">{size}</span></button></li>"""
  ratio = (sheet.shape[1] / columns) / (sheet.shape[0] / rows)
  pixelated = " pixelated" if max(thumbnails.shape[1:3]) <= pictures.SMALL else ""
  thumb = f"aspect-ratio:{ratio:.4f};background-size:{columns * 100}% {rows * 100}%;"
  thumb += f"background-image:url({pictures.data_uri(sheet, max(sheet.shape))})"
  return f"""<p class="note">{len(points)} images, placed by their features: near means similar,
while the distance between far groups says little. Point at, tap or reach an image with the arrow
keys to see it; choose a class to single it out.</p>
<div class="map"><div class="stage" id="stage" tabindex="0" role="application"
 aria-label="Map of {len(points)} images in {len(present)} classes; arrow keys move"
 data-columns="{columns}" data-rows="{rows}">
<svg viewBox="0 0 {width} {height}" aria-hidden="true"><defs><circle id="s0" r="4.2"/>
<rect id="s1" x="-3.7" y="-3.7" width="7.4" height="7.4"/>
<path id="s2" d="M0-5.2 5.2 0 0 5.2-5.2 0Z"/></defs><g class="points">{marks}</g>
<circle id="ring" r="9"/>{names}</svg>
<div id="tip" role="status" hidden><div id="thumb" class="thumb{pixelated}" style="{thumb}"></div>
<span id="tip-name"></span><small id="tip-index"></small></div></div>
<ul class="legend" aria-label="Classes">{buttons}</ul></div>"""


def neighbours(part: Neighbours | None, classes: Sequence[str]) -> str:
  """A row a query: what each representation finds, and whether it is of the query's class.

  Args:
    part: queries and what was found, if any.
    classes: names of the labels.

  Returns:
    HTML.
  """
  if part is None:
    return ""
  hits = pictures.same_class(part)
  queries, bank = pictures.pixels(part.query_images), pictures.pixels(part.bank_images)
  totals = {f"of the query's class by {n}": f"{h.sum()} of {h.size}" for n, h in hits.items()}
  out = '<p class="note">What lies nearest by cosine, nearest first. A solid frame and ✓: the '
  out += "query's class; a dashed frame and ✗: another.</p>\n" + numbers(totals)
  for row, (image, label) in enumerate(zip(queries, part.query_labels, strict=True)):
    asked = text(pictures.class_name(label, classes))
    out += f'<div class="query"><figure>{_image(image, f"Query: {asked}")}'
    out += f"<figcaption>{asked}</figcaption></figure>"
    for name, indices in part.found.items():
      tiles = ""
      for hit, index in zip(hits[name][row], np.asarray(indices)[row], strict=True):
        found = text(pictures.class_name(part.bank_labels[index], classes))
        kind, mark, words = ("hit", "✓", "same class") if hit else ("miss", "✗", "another class")
        tiles += f'<li class="{kind}">{_image(bank[index], f"{found}, {words}")}'
        tiles += f'<span class="mark" aria-hidden="true">{mark}</span></li>'
      count = np.shape(indices)[1]
      out += f'<div class="found"><h3><span>{text(name)}</span>'
      out += f"<span>{hits[name][row].sum()}/{count}</span></h3>"
      out += f'<ul class="tiles" style="grid-template-columns:repeat({count},minmax(0,1fr))">'
      out += f"{tiles}</ul></div>"
    out += "</div>\n"
  return out


def curves_of(panels: Mapping[str, Mapping[str, Series]], note: str) -> str:
  """Drawings of curves under a note.

  Args:
    panels: title to name to (places, values).
    note: what they show.

  Returns:
    HTML.
  """
  if not panels:
    return ""
  drawn = "".join(_panel(title, lines) for title, lines in panels.items())
  return f'<p class="note">{note}</p>\n<div class="panels">{drawn}</div>'


def patches(part: PatchMaps | None) -> str:
  """Images above the colours of their patches.

  Args:
    part: images and their local features, if any.

  Returns:
    HTML.
  """
  if part is None:
    return ""
  note = """The first three principal components of the patch features, over all these images
together, as red, green and blue: patches of one colour look alike to the encoder."""
  return f'<p class="note">{note}</p>\n' + _strips(patch_rows(part))


def reconstructions(part: Reconstructions | None) -> str:
  """Images above what a masked-image model makes of them.

  Args:
    part: of the model, if any.

  Returns:
    HTML.
  """
  if part is None:
    return ""
  rows = reconstruction_rows(part)
  note = "From top to bottom: the image, what the model saw, what it predicts"
  note += ", and its prediction in the hidden patches alone." if "composite" in rows else "."
  return f'<p class="note">{note}</p>\n' + _strips(rows)


def patch_rows(part: PatchMaps) -> dict[str, np.ndarray]:
  """The rows of images that `patches` shows.

  Args:
    part: images and their local features.

  Returns:
    Images by what they show, equally many a row.
  """
  return {"image": part.images, "patches": pictures.patch_colours(np.asarray(part.tokens))}


def reconstruction_rows(part: Reconstructions) -> dict[str, np.ndarray]:
  """The rows of images that `reconstructions` shows.

  Args:
    part: of the model.

  Returns:
    Images by what they show, equally many a row.
  """
  rows = {"image": part.images, "masked": part.masked, "predicted": part.predicted}
  return rows if part.composites is None else rows | {"composite": part.composites}


def numbers(values: Mapping[str, float | str]) -> str:
  """Names and numbers side by side.

  Args:
    values: by name; words stay as they are.

  Returns:
    HTML.
  """
  if not values:
    return ""
  lines = (
    f"<div><dt>{_name(name)}</dt><dd>{text(v) if isinstance(v, str) else _number(v)}</dd></div>"
    for name, v in values.items()
  )
  return f'<dl class="score">{"".join(lines)}</dl>\n'


def code(command: str) -> str:
  """A command with a button that copies it.

  Args:
    command: as a reader would type it.

  Returns:
    HTML.
  """
  if not command:
    return ""
  return f"""<div class="copy"><pre tabindex="0"><code>{text(command)}</code></pre>\
<button type="button">Copy</button></div>
"""


def text(value: object) -> str:
  """What comes from outside, as text that cannot become markup."""
  return html.escape(str(value))


def _panel(title, lines):
  width, height, left, right, top, bottom = 340, 190, 44, 6, 8, 24
  everything = [np.concatenate(part) for part in zip(*lines.values(), strict=True)]
  (x_low, x_high), (y_low, y_high) = ((x.min(), x.max()) for x in everything)
  y_ticks, x_ticks = _ticks(y_low, y_high, 4), _ticks(x_low, x_high, 4)
  y_low, y_high = min(y_low, y_ticks[0]), max(y_high, y_ticks[-1])
  across = lambda x: left + (x - x_low) / (x_high - x_low or 1) * (width - left - right)
  down = lambda y: height - bottom - (y - y_low) / (y_high - y_low or 1) * (height - top - bottom)
  shapes, keys = "", ""
  for y in y_ticks:
    shapes += f'<line class="rule" x1="{left}" x2="{width - right}" y1="{down(y):.1f}"'
    shapes += f' y2="{down(y):.1f}"/><text x="0" y="{down(y) + 4:.1f}">'
    shapes += f"{_number(y)}</text>"
  for x in x_ticks:
    if x_low <= x <= x_high:
      anchor = "end" if across(x) > width - 20 else "middle"
      shapes += f'<text x="{across(x):.1f}" y="{height - 6}" text-anchor="{anchor}">'
      shapes += f"{_number(x)}</text>"
  for i, (name, line) in enumerate(lines.items()):
    colour = f"k{i % len(pictures.COLOURS)}"
    marks = [
      f"{across(x):.1f} {down(y):.1f}" for x, y in zip(*pictures.thinned(*line), strict=True)
    ]
    shapes += f'<path class="{colour}" d="M{" L".join(marks)}"/>'
    end = marks[-1].split()
    shapes += f'<circle class="{colour}" cx="{end[0]}" cy="{end[1]}" r="3"/>'
    label = f'<i class="{colour}"></i>{_name(name)} ' if len(lines) > 1 else "last "
    keys += f"<li>{label}<b>{_number(line[1][-1])}</b></li>"
  alt = "; ".join(
    f"{_name(name)} from {_number(y[0])} to {_number(y[-1])}" for name, (_, y) in lines.items()
  )
  return f"""<div class="panel"><h3>{_name(title)}</h3><ul class="key">{keys}</ul>
<svg viewBox="0 0 {width} {height}" role="img" aria-label="Curve by step: {alt}">{shapes}</svg>
</div>
"""


def _strips(rows):
  shown = {name: pictures.pixels(images) for name, images in rows.items()}
  height, width = next(iter(shown.values())).shape[1:3]
  count = min(len(next(iter(shown.values()))), 8)
  out = f'<div class="strips" style="--count:{count}">'
  for i, column in enumerate(zip(*shown.values(), strict=True)):
    tiles = (
      _image(x, f"{n} {i + 1}", f"aspect-ratio:{width}/{height}")
      for n, x in zip(shown, column, strict=True)
    )
    out += f"<figure>{''.join(tiles)}</figure>"
  return out + "</div>"


def _image(image, alt, style=""):
  kind = ' class="pixelated"' if max(image.shape[:2]) <= pictures.SMALL else ""
  style = f' style="{style}"' if style else ""
  height, width = image.shape[:2]
  return (
    f'<img src="{pictures.data_uri(image)}" alt="{alt}" width="{width}" height="{height}"'
    f"{kind}{style}>"
  )


def _ticks(low, high, count):
  if low == high:
    return [low]
  step = 10 ** math.floor(math.log10((high - low) / count))
  step *= next(m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= count)
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  return [i * step for i in range(first, last + 1)]


def _number(value):
  value = float(value)
  if not math.isfinite(value):
    return "&ndash;"
  if value == round(value) and abs(value) < 1e9:
    return f"{value:,.0f}"
  if 1e-3 <= abs(value) < 1e9:
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    shown = f"{value:,.{digits}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown
  return f"{value:.3g}"


def _finite(value):
  return value is not None and math.isfinite(value)


def _name(name):
  return text(pictures.readable(name))
