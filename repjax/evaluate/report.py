"""One page that says what a run did, how well, how fast, and how to do it again."""

import os
import string
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from repjax.evaluate import sections
from repjax.evaluate.figures import (
  check_matplotlib,
  draw_curves,
  draw_map,
  draw_matrices,
  draw_neighbours,
  draw_rows,
)
from repjax.evaluate.matrices import Matrix, as_html, class_table
from repjax.evaluate.pictures import (
  EmbeddingMap,
  Neighbours,
  PatchMaps,
  Reconstructions,
  Series,
  curves,
)

_RANK, _KEPT = "logarithm of the direction's rank, base 10", "logarithm of the dimensions, base 2"
_SIMILARITY = """How alike two layers are on the same images: 1 where one is the other turned and
scaled. What a measure leaves out of account is in its docstring in repjax.measure."""
_SPECTRA = f"""Share of the variance along each direction, the largest first: logarithms, base 10.
Across is the {_RANK}. A cliff says that the features collapsed to the directions before it."""
_DIMENSIONS = f"""How many test images a vote of the 20 nearest train images tells right if features
are cut short. Across is the {_KEPT}."""
_CONFUSION = """Shares of the test images of a class, by what a vote of the 20 nearest train images
takes them for, and below, the share of each class that is told right."""


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
    similarity: of the layers of two representations, by title.
    spectra: by title, curves of how variance is spread over directions.
    dimensions: by title, curves of accuracy by how many dimensions are kept.
    confusion: which classes are taken for which, by representation.
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
  similarity: Mapping[str, Matrix] = {}
  spectra: Mapping[str, Mapping[str, Series]] = {}
  dimensions: Mapping[str, Mapping[str, Series]] = {}
  confusion: Mapping[str, Matrix] = {}
  neighbours: Neighbours | None = None
  patches: PatchMaps | None = None
  reconstructions: Reconstructions | None = None
  next_command: str = ""


def write_report(path: Path, report: Report, *, figures: bool = True) -> Path:
  """Writes the page, which needs no other file and no network, and its figures as PNG files.

  Each file is whole or absent at any moment; the page is written last. Figures of an earlier report
  that this one does not have are removed.

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
    check_matplotlib()
  _check(report)
  parts = {
    "results": ("Results", sections.results(report.table, report.controls)),
    "training": ("Training", sections.training(curves(report.history))),
    "map": ("Map of the embeddings", sections.embedding_map(report.embedding, report.classes)),
    "similarity": ("Layers compared", as_html(report.similarity, _SIMILARITY)),
    "spectra": ("Spectrum", sections.curves_of(report.spectra, _SPECTRA)),
    "dimensions": ("Accuracy by dimension", sections.curves_of(report.dimensions, _DIMENSIONS)),
    "classes": ("Classes", _classes(report.confusion)),
    "neighbours": ("Nearest neighbours", sections.neighbours(report.neighbours, report.classes)),
    "patches": ("Patch features", sections.patches(report.patches)),
    "reconstructions": ("Reconstructions", sections.reconstructions(report.reconstructions)),
    "speed": ("Speed", sections.numbers(report.speed)),
    "run": ("How to run it again", _run(report)),
    "next": ("What to try next", sections.code(report.next_command)),
  }
  parts = {name: part for name, part in parts.items() if part[1]}
  template = resources.files("repjax.evaluate").joinpath("report.html").read_text("utf-8")
  body = _header(report, parts) + "\n<main>\n"
  for name, (heading, content) in parts.items():
    body += f'<section id="{name}" aria-labelledby="{name}-heading">\n'
    body += f'<h2 id="{name}-heading">{heading}</h2>\n{content}\n</section>\n'
  title = sections.text(report.title)
  text = string.Template(template).substitute(title=title, body=body + "</main>")
  # With its parts left out, a report has no figure, and older ones go.
  for name, content in _figures(report if figures else Report(report.title)).items():
    _write(page.parent / "figures" / f"{name}.png", content)
  _write(page, text.encode())
  return page


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


def _figures(report):
  """All figures that a report can have; None for those that it has not."""
  drawings = {
    "curves": (curves(report.history) or None, draw_curves),
    "map": (report.embedding, lambda part: draw_map(part, report.classes)),
    "similarity": (report.similarity or None, draw_matrices),
    "spectra": (report.spectra or None, lambda part: draw_curves(part, across=_RANK)),
    "dimensions": (report.dimensions or None, lambda part: draw_curves(part, across=_KEPT)),
    "classes": (report.confusion or None, draw_matrices),
    "neighbours": (report.neighbours, lambda part: draw_neighbours(part, report.classes)),
    "patches": (report.patches, lambda part: draw_rows(sections.patch_rows(part))),
    "reconstructions": (
      report.reconstructions,
      lambda part: draw_rows(sections.reconstruction_rows(part)),
    ),
  }
  return {n: None if part is None else draw(part) for n, (part, draw) in drawings.items()}


def _classes(confusion):
  """Which classes are taken for which, and how many of each are right."""
  if not confusion:
    return ""
  return as_html(confusion, _CONFUSION) + sections.results(
    class_table(confusion), (), section="classes"
  )


def _write(path, content):
  """Makes a file of the content; if there is none, takes an older file away."""
  partial = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    if content is None:
      if path.exists():
        path.unlink()
      return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      partial.write_bytes(content)
      os.replace(partial, path)
    finally:
      partial.unlink(missing_ok=True)
  except OSError as error:
    reason = f"cannot write {path}: {error.strerror}; choose a directory that can be written"
    raise type(error)(reason) from None


def _header(report, names):
  where = " · ".join(sections.text(x) for x in (report.hardware, report.commit[:12]) if x)
  out = '<header>\n<p class="eyebrow">Run report' + (f" · {where}" if where else "") + "</p>\n"
  out += f"<h1>{sections.text(report.title)}</h1>\n"
  if report.summary:
    out += f'<p class="lead">{sections.text(report.summary)}</p>\n'
  if len(names) > 1:
    links = (f'<li><a href="#{name}">{name.capitalize()}</a></li>' for name in names)
    out += f'<nav aria-label="Contents"><ul>{"".join(links)}</ul></nav>\n'
  return out + "</header>"


def _run(report):
  out = sections.code(report.command)
  facts = {"Commit": report.commit, "Hardware": report.hardware}
  facts["Versions"] = ", ".join(f"{name} {version}" for name, version in report.versions.items())
  facts = {name: value for name, value in facts.items() if value}
  if facts:
    lines = (f"<dt>{name}</dt><dd>{sections.text(value)}</dd>" for name, value in facts.items())
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
    f"<li><span>--{sections.text(name)}</span><span>{sections.text(value)}</span></li>"
    for name, value in sorted(flags.items())
  )
  return f'<ul class="flags {kind}">{"".join(lines)}</ul>'
