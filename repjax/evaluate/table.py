"""Several protocols, several encoders, one table."""

from collections.abc import Callable, Sequence

import jax

from repjax.evaluate.embed import Embedded
from repjax.evaluate.few_shot import few_shot
from repjax.evaluate.knn import knn
from repjax.evaluate.linear import linear_probe


def evaluate(
  train: Embedded,
  test: Embedded,
  *,
  key: jax.Array,
  protocols: Sequence[Callable[..., dict[str, float]]] = (few_shot, knn, linear_probe),
) -> dict[str, float]:
  """Runs protocols on one encoder's features.

  Args:
    train: features of the train split.
    test: features of the test split.
    key: given to each protocol; encoders evaluated with one key meet the same draws.
    protocols: ``(train, test, *, key) -> numbers``; ``functools.partial`` sets their options.

  Returns:
    The numbers of all protocols.
  """
  numbers = {}
  for protocol in protocols:
    numbers |= protocol(train, test, key=key)
  return numbers


def format_table(
  rows: dict[str, dict[str, float]], *, columns: Sequence[str] | None = None, digits: int = 3
) -> str:
  """Aligns numbers for a terminal.

  Args:
    rows: by name, such as raw pixels, untrained, trained, the numbers of `evaluate`.
    columns: the numbers to show; all, in order of appearance, if absent. A number's standard error
      (``{column}_stderr``), or half its interval (``{column}_ci95``), stands beside it and is no
      column of its own.
    digits: after the point; a smaller number is shown to its first digit.

  Returns:
    Lines of text; ``-`` where a row lacks a number.
  """
  if columns is None:
    names = dict.fromkeys(name for numbers in rows.values() for name in numbers)
    columns = [name for name in names if not name.endswith(("_stderr", "_ci95"))]

  def cell(numbers, column):
    if column not in numbers:
      return "-"
    value = numbers[column]
    error = numbers.get(f"{column}_stderr", numbers.get(f"{column}_ci95"))
    small = 0 < abs(value) < 0.5 * 10**-digits
    text = f"{value:.1g}" if small else f"{value:.{digits}f}"
    return text if error is None else f"{text} ± {error:.{digits}f}"

  lines = [["", *columns]]
  lines += [[name, *(cell(numbers, c) for c in columns)] for name, numbers in rows.items()]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "\n".join(
    "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
    for line in lines
  )
