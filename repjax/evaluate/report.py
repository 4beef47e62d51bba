"""One page that says what a run did, how well, how fast, and how to do it again."""

import html
import math
import os
import string
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from repjax.evaluate import pictures
from repjax.evaluate.pictures import EmbeddingMap, Neighbours, PatchMaps, Reconstructions


class Report(NamedTuple):
  """What an experiment knows of its run; a part left out leaves no trace on the page.

  Attributes:
    title: the run's name.
    summary: one sentence: what was done and what came out.
    command: as a reader would type it.
    flags: resolved values by name.
    defaults: the flags' defaults; the flags that differ are shown first.
    commit: of the code.
    hardware: the machine in words.
    versions: by package.
    speed: by what was measured (with its unit): img/s, step time, FLOP/s, share of peak, seconds.
    history: log lines, see `repjax.evaluate.pictures.curves`.
    table: row (``raw pixels``, ``untrained``, ``simclr``) to metric to value, higher = better; the
      standard error of ``x`` is ``x_stderr``.
    controls: rows of the table that come first, as what the others are to be compared with.
    classes: names of the labels.
    embedding: a map of the features.
    neighbours: queries and what each representation finds.
    patches: images and their local features.
    reconstructions: of a masked-image model.
    next_command: what to try next.
  """

  title: str
  summary: str = ""
  command: str = ""
  flags: Mapping[str, object] = {}
  defaults: Mapping[str, object] = {}
  commit: str = ""
  hardware: str = ""
  versions: Mapping[str, str] = {}
  speed: Mapping[str, float | str] = {}
  history: Sequence[Mapping[str, Any]] = ()
  table: Mapping[str, Mapping[str, float]] = {}
  controls: Sequence[str] = ("raw pixels", "untrained")
  classes: Sequence[str] = ()
  embedding: EmbeddingMap | None = None
  neighbours: Neighbours | None = None
  patches: PatchMaps | None = None
  reconstructions: Reconstructions | None = None
  next_command: str = ""


def write_report(path: Path, report: Report, *, figures: bool = True) -> Path:
  """Writes the page, which needs no other file and no network, and its figures as PNG files.

  Each file is whole or absent at any moment; the page is written last.

  Args:
    path: the page to write, ``*.html``, or the directory that gets ``report.html``. Figures go to
      ``figures/`` beside the page. Directories are made.
    report: what to say.
    figures: whether to write the PNG files, which takes matplotlib.

  Returns:
    The page's path.

  Raises:
    ModuleNotFoundError: if matplotlib is absent and wanted.
    OSError: if a file cannot be written.
    ValueError: if the parts of a picture do not fit together.
  """
  page = Path(path) if Path(path).suffix == ".html" else Path(path) / "report.html"
  if figures:
    pictures.check_matplotlib()
  _check(report)
  panels = pictures.curves(report.history)
  sections = {
    "results": ("Results", _table(report)),
    "training": ("Training", _curves(panels)),
    "map": ("Map of the embeddings", _map(report)),
    "neighbours": ("Nearest neighbours", _neighbours(report)),
    "patches": ("Patch features", _patches(report)),
    "reconstructions": ("Reconstructions", _reconstructions(report)),
    "speed": ("Speed", _numbers(report.speed, "score")),
    "run": ("How to run it again", _run(report)),
    "next": ("What to try next", _code(report.next_command)),
  }
  sections = {name: section for name, section in sections.items() if section[1]}
  template = resources.files("repjax.evaluate").joinpath("report.html").read_text("utf-8")
  body = _header(report, sections) + "\n<main>\n"
  for name, (heading, content) in sections.items():
    body += f'<section id="{name}" aria-labelledby="{name}-heading">\n'
    body += f'<h2 id="{name}-heading">{heading}</h2>\n{content}\n</section>\n'
  text = string.Template(template).substitute(title=_text(report.title), body=body + "</main>")
  drawn = _figures(report, panels) if figures else {}
  for name, content in drawn.items():
    _write(page.parent / "figures" / f"{name}.png", content)
  return _write(page, text.encode())


def _check(report):
  counts = {}
  if report.embedding is not None:
    part = report.embedding
    counts["embedding"] = {n: len(getattr(part, n)) for n in ("points", "labels", "thumbnails")}
    if not np.isfinite(part.points).all():
      raise ValueError("embedding.points holds values that are not finite; check the features")
  if report.neighbours is not None:
    part = report.neighbours
    counts["neighbours"] = {"query_images": len(part.query_images)}
    counts["neighbours"] |= {"query_labels": len(part.query_labels)}
    counts["neighbours"] |= {f"found[{n!r}]": len(i) for n, i in part.found.items()}
  if report.patches is not None:
    counts["patches"] = {n: len(x) for n, x in report.patches._asdict().items()}
  if report.reconstructions is not None:
    parts = report.reconstructions._asdict()
    counts["reconstructions"] = {n: len(x) for n, x in parts.items() if x is not None}
  for name, sizes in counts.items():
    if len(set(sizes.values())) > 1 or 0 in sizes.values():
      raise ValueError(f"{name} needs equally many examples in each part, got {sizes}")


def _figures(report, panels):
  drawn = {}
  if panels:
    drawn["curves"] = pictures.draw_curves(panels)
  if report.embedding is not None:
    drawn["map"] = pictures.draw_map(report.embedding, report.classes)
  if report.neighbours is not None:
    drawn["neighbours"] = pictures.draw_neighbours(report.neighbours, report.classes)
  if report.patches is not None:
    drawn["patches"] = pictures.draw_rows(_patch_rows(report.patches))
  if report.reconstructions is not None:
    drawn["reconstructions"] = pictures.draw_rows(_reconstruction_rows(report.reconstructions))
  return drawn


def _write(path, content):
  partial = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      partial.write_bytes(content)
      os.replace(partial, path)
    finally:
      partial.unlink(missing_ok=True)
  except OSError as error:
    reason = f"cannot write {path}: {error.strerror}; choose a directory that can be written"
    raise type(error)(reason) from None
  return path


def _header(report, sections):
  where = " · ".join(_text(x) for x in (report.hardware, report.commit[:12]) if x)
  out = '<header>\n<p class="eyebrow">Run report' + (f" · {where}" if where else "") + "</p>\n"
  out += f"<h1>{_text(report.title)}</h1>\n"
  if report.summary:
    out += f'<p class="lead">{_text(report.summary)}</p>\n'
  if len(sections) > 1:
    links = (f'<li><a href="#{name}">{name.capitalize()}</a></li>' for name in sections)
    out += f'<nav aria-label="Contents"><ul>{"".join(links)}</ul></nav>\n'
  return out + "</header>"


def _table(report):
  table = report.table
  metrics = dict.fromkeys(m for row in table.values() for m in row if not m.endswith("_stderr"))
  if not metrics:
    return ""
  best = {
    m: max((v for row in table.values() if _finite(v := row.get(m))), default=None) for m in metrics
  }
  controls = [row for row in report.controls if row in table]
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
    lines += f'<tr{kind}><th scope="row">{_text(name)}</th>{cells}</tr>\n'
  note = "The highest of each column is underlined."
  if controls:
    note += " Controls are in grey, on top."
  if errors:
    note += " Mean ± standard error."
  return f"""<p class="note">{note}</p>
<div class="scroll" role="region" aria-labelledby="results-heading" tabindex="0">
<table class="results"><thead><tr><th scope="col"><span class="hidden">representation</span></th>
{heads}</tr></thead><tbody>
{lines}</tbody></table></div>"""


def _curves(panels):
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


def _map(report):
  if report.embedding is None:
    return ""
  points, labels, thumbnails = map(np.asarray, report.embedding)
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
    name = _text(pictures.class_name(label, report.classes))
    if len(present) <= 12:
      x, y = np.median(placed[labels == label], 0)
      names += f'<text x="{x:.1f}" y="{y:.1f}">{name}</text>'
    buttons += f"""<li><button type="button" aria-pressed="false" data-group="{label}">
<svg viewBox="-6 -6 12 12" class="k{colour}" aria-hidden="true"><use href="#s{shape}"/></svg>
<span class="name">{name}</span><span class="count">{size}</span></button></li>"""
  ratio = (sheet.shape[1] / columns) / (sheet.shape[0] / rows)
  pixelated = " pixelated" if max(thumbnails.shape[1:3]) <= 64 else ""
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


def _neighbours(report):
  part = report.neighbours
  if part is None:
    return ""
  hits = pictures.same_class(part)
  queries, bank = pictures.pixels(part.query_images), pictures.pixels(part.bank_images)
  totals = {f"of the query's class by {n}": f"{h.sum()} of {h.size}" for n, h in hits.items()}
  out = '<p class="note">What lies nearest by cosine, nearest first. A solid frame and ✓: the '
  out += "query's class; a dashed frame and ✗: another.</p>\n" + _numbers(totals, "score")
  for row, (image, label) in enumerate(zip(queries, part.query_labels, strict=True)):
    asked = _text(pictures.class_name(label, report.classes))
    out += f'<div class="query"><figure>{_image(image, f"Query: {asked}")}'
    out += f"<figcaption>{asked}</figcaption></figure>"
    for name, indices in part.found.items():
      tiles = ""
      for hit, index in zip(hits[name][row], np.asarray(indices)[row], strict=True):
        found = _text(pictures.class_name(part.bank_labels[index], report.classes))
        kind, mark, words = ("hit", "✓", "same class") if hit else ("miss", "✗", "another class")
        tiles += f'<li class="{kind}">{_image(bank[index], f"{found}, {words}")}'
        tiles += f'<span class="mark" aria-hidden="true">{mark}</span></li>'
      count = np.shape(indices)[1]
      out += f'<div class="found"><h3><span>{_text(name)}</span>'
      out += f"<span>{hits[name][row].sum()}/{count}</span></h3>"
      out += f'<ul class="tiles" style="grid-template-columns:repeat({count},minmax(0,1fr))">'
      out += f"{tiles}</ul></div>"
    out += "</div>\n"
  return out


def _patch_rows(part):
  return {"image": part.images, "patches": pictures.patch_colours(np.asarray(part.tokens))}


def _patches(report):
  if report.patches is None:
    return ""
  note = """The first three principal components of the patch features, over all these images
together, as red, green and blue: patches of one colour look alike to the encoder."""
  return f'<p class="note">{note}</p>\n' + _strips(_patch_rows(report.patches))


def _reconstruction_rows(part):
  rows = {"image": part.images, "masked": part.masked, "predicted": part.predicted}
  return rows if part.composites is None else rows | {"composite": part.composites}


def _reconstructions(report):
  if report.reconstructions is None:
    return ""
  rows = _reconstruction_rows(report.reconstructions)
  note = "From top to bottom: the image, what the model saw, what it predicts"
  note += ", and its prediction in the hidden patches alone." if "composite" in rows else "."
  return f'<p class="note">{note}</p>\n' + _strips(rows)


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


def _run(report):
  out = _code(report.command)
  facts = {"Commit": report.commit, "Hardware": report.hardware}
  facts["Versions"] = ", ".join(f"{name} {version}" for name, version in report.versions.items())
  facts = {name: value for name, value in facts.items() if value}
  if facts:
    lines = (f"<dt>{name}</dt><dd>{_text(value)}</dd>" for name, value in facts.items())
    out += f'<dl class="facts">{"".join(lines)}</dl>\n'
  missing = object()
  changed = {n: v for n, v in report.flags.items() if report.defaults.get(n, missing) != v}
  kept = {n: v for n, v in report.flags.items() if n not in changed}
  if changed:
    heading = "Flags that differ from their defaults" if report.defaults else "Flags"
    out += f"<h3>{heading}</h3>{_flags(changed, 'changed' if report.defaults else '')}\n"
  if kept:
    count = "1 flag at its default" if len(kept) == 1 else f"{len(kept)} flags at their defaults"
    out += f"<details><summary>{count}</summary>{_flags(kept, '')}"
    out += "</details>\n"
  return out


def _flags(flags, kind):
  lines = (
    f"<li><span>--{_text(name)}</span><span>{_text(value)}</span></li>"
    for name, value in sorted(flags.items())
  )
  return f'<ul class="flags {kind}">{"".join(lines)}</ul>'


def _numbers(numbers, kind):
  if not numbers:
    return ""
  lines = (
    f"<div><dt>{_name(name)}</dt><dd>{_text(v) if isinstance(v, str) else _number(v)}</dd></div>"
    for name, v in numbers.items()
  )
  return f'<dl class="{kind}">{"".join(lines)}</dl>\n'


def _code(command):
  if not command:
    return ""
  return f"""<div class="copy"><pre tabindex="0"><code>{_text(command)}</code></pre>\
<button type="button">Copy</button></div>
"""


def _image(image, alt, style=""):
  kind = ' class="pixelated"' if max(image.shape[:2]) <= 64 else ""
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
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
  return f"{value:.3g}"


def _finite(value):
  return value is not None and math.isfinite(value)


def _name(name):
  return _text(pictures.readable(name))


def _text(value):
  return html.escape(str(value))
