"""Tables of numbers that are read by colour: layers against layers, classes against classes."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from repjax.evaluate.pictures import class_name


class Matrix(NamedTuple):
  """Numbers in rows and columns that have names.

  Attributes:
    values: ``[rows, columns]``; NaN where there is none.
    rows: their names.
    columns: their names.
    down: what the rows are.
    across: what the columns are.
    low: the value of no colour.
    high: the value of full colour.
  """

  values: np.ndarray
  rows: Sequence[str]
  columns: Sequence[str]
  down: str
  across: str
  low: float = 0.0
  high: float = 1.0


def confusion_matrix(
  predicted: np.ndarray, label: np.ndarray, classes: Sequence[str] = ()
) -> Matrix:
  """How often a class is taken for each other.

  Args:
    predicted: ``[n]`` integers >= 0.
    label: ``[n]`` integers; those labelled -1 take no part.
    classes: names of the labels.

  Returns:
    Shares of the examples of each class, the class down and the prediction across; NaN for a class
    without an example.

  Raises:
    ValueError: if the lengths differ or nothing is labelled.
  """
  predicted, label = np.asarray(predicted), np.asarray(label)
  if predicted.shape != label.shape or not np.any(label >= 0):
    raise ValueError(
      f"expected as many predictions as labels, one of them >= 0, got {predicted.shape} and "
      f"{label.shape}"
    )
  predicted, label = predicted[label >= 0], label[label >= 0]
  size = max(predicted.max(), label.max()) + 1
  counts = np.zeros((size, size))
  np.add.at(counts, (label, predicted), 1)
  total = counts.sum(1, keepdims=True)
  shares = np.divide(counts, total, out=np.full_like(counts, math.nan), where=total > 0)
  names = [class_name(i, classes) for i in range(size)]
  return Matrix(shares, names, names, "class", "taken for")


def class_table(confusions: Mapping[str, Matrix]) -> dict[str, dict[str, float]]:
  """The share of each class that is told right.

  Args:
    confusions: by representation, from `confusion_matrix`.

  Returns:
    Class to representation to share; a class without an example is left out.
  """
  table = {}
  for name, matrix in confusions.items():
    for row, share in zip(matrix.rows, np.diagonal(matrix.values), strict=True):
      if math.isfinite(share):
        table.setdefault(row, {})[name] = float(share)
  return table


def shade(matrix: Matrix) -> np.ndarray:
  """How much colour each value has.

  Args:
    matrix: the numbers.

  Returns:
    ``[rows, columns]`` in [0, 1], 0 for NaN.
  """
  share = (np.asarray(matrix.values, float) - matrix.low) / (matrix.high - matrix.low)
  return np.clip(np.nan_to_num(share), 0, 1)


def as_html(parts: Mapping[str, Matrix], note: str) -> str:
  """Tables under a note, whose cells are the darker the larger their numbers.

  Args:
    parts: by title.
    note: what they show.

  Returns:
    HTML.
  """
  if not parts:
    return ""
  shown = "".join(_table(part, title) for title, part in parts.items())
  return f'<p class="note">{note}</p>\n<div class="matrices">{shown}</div>'


def _table(part: Matrix, title: str) -> str:
  heads = "".join(f'<th scope="col"><span>{html.escape(name)}</span></th>' for name in part.columns)
  lines = ""
  for name, values, shades in zip(part.rows, part.values, shade(part), strict=True):
    cells = ""
    for value, dark in zip(values, shades, strict=True):
      shown = f"{value:.2f}" if math.isfinite(value) else "&ndash;"
      ink = ' class="dark"' if dark > 0.55 else ""
      cells += f'<td{ink} style="--shade:{100 * dark:.0f}%">{shown}</td>'
    lines += f'<tr><th scope="row">{html.escape(name)}</th>{cells}</tr>\n'
  title, down, across = map(html.escape, (title, part.down, part.across))
  return f"""<div class="scroll" role="region" aria-label="{title}" tabindex="0">
<table class="matrix"><caption>{title}: {down} down, {across} across</caption>
<thead><tr><td></td>{heads}</tr></thead><tbody>
{lines}</tbody></table></div>
"""
