"""The table of systems: one row a paper, and what the library can show for it.

``systems.toml`` says where a paper's idea lives, which tests hold it and which result shows it; the
state of a row is computed from that and from nothing else.

  python -m repjax.systems --family=ssl-masked     print and filter the table
  python -m repjax.systems simmim                  one row in full
  python -m repjax.systems --write                 bring SYSTEMS.md up to date
"""

import argparse
import ast
import collections
import difflib
import functools
import importlib
import json
import math
import pathlib
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
STATES = ("planned", "core", "shown", "matched")
MIN_SEEDS = 3


class System(NamedTuple):
  """One row: a paper, where the library has it, and what shows it.

  Attributes:
    slug: the row's name.
    title: the paper's title.
    short: the name by which people call it.
    family: the kind of problem it belongs to.
    tier: ``"A"`` to ``"D"``.
    kind: method, architecture, theory, ...
    idea: what is to be implemented, in a sentence.
    year: when it was published, if known.
    arxiv: its arXiv number, if known.
    api: dotted names that implement the idea.
    tests: ``path::name`` of tests that compare it with something independent.
    experiment: module of the launcher that shows it.
    results: path of its results file.
    method: name of the method in the results file.
    metric: name of the number that counts.
    baseline: methods that must be beaten, all of them.
    lower_is_better: whether the metric is an error.
    target: published number on the same data and protocol.
    tolerance: largest distance from ``target`` that counts as equal.
    note: anything else.
  """

  slug: str
  title: str
  short: str
  family: str
  tier: str
  kind: str
  idea: str
  year: int | None = None
  arxiv: str | None = None
  api: tuple[str, ...] = ()
  tests: tuple[str, ...] = ()
  experiment: str | None = None
  results: str | None = None
  method: str | None = None
  metric: str | None = None
  baseline: tuple[str, ...] = ()
  lower_is_better: bool = False
  target: float | None = None
  tolerance: float | None = None
  note: str | None = None


class Summary(NamedTuple):
  """One method's runs.

  Attributes:
    mean: over seeds.
    error: standard error of the mean; 0 for a single run.
    seeds: number of runs.
  """

  mean: float
  error: float
  seeds: int


class Evidence(NamedTuple):
  """What a row amounts to.

  Attributes:
    state: one of `STATES`.
    remark: what keeps the row from the next state, where something was claimed for it.
    numbers: method -> `Summary`, of the method and its baselines.
    command: how the result is made again.
  """

  state: str
  remark: str = ""
  numbers: Mapping[str, Summary] = MappingProxyType({})
  command: str = ""


def load(path: pathlib.Path | str = ROOT / "systems.toml") -> tuple[System, ...]:
  """Reads the table.

  Args:
    path: a TOML file of ``[[system]]`` tables.

  Returns:
    The rows, in the file's order.

  Raises:
    FileNotFoundError: if there is no such file, as in an installation without a checkout.
    ValueError: if a row has unknown, missing, mistyped or dangling keys, or a slug comes twice.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(
      f"{path} is not there: the table is part of the source checkout, not of an installed copy; "
      "run from a clone installed with `pip install -e .`"
    )
  rows = tomllib.loads(path.read_text())["system"]
  systems = tuple(_row(row, path.name) for row in rows)
  twice = [slug for slug, n in collections.Counter(s.slug for s in systems).items() if n > 1]
  if twice:
    raise ValueError(f"{path.name}: slug {twice[0]!r} is there twice; slugs must be unique")
  return systems


def state(system: System, root: pathlib.Path = ROOT) -> str:
  """Says how far a row has come.

  Args:
    system: the row.
    root: where its ``tests`` and ``results`` are looked up.

  Returns:
    ``"planned"``; ``"core"`` if its API imports and its tests exist; ``"shown"`` if further its
    result beats every baseline by more than two standard errors of the difference, with three seeds
    or more; ``"matched"`` if further it is within ``tolerance`` of ``target``.
  """
  return evidence(system, root).state


def evidence(system: System, root: pathlib.Path = ROOT) -> Evidence:
  """Computes a row's `state` together with its reasons.

  Args:
    system: the row.
    root: where its ``tests`` and ``results`` are looked up.

  Returns:
    The state, its reasons and numbers. A result that does not beat its baseline leaves the row
    ``core``, with a remark that starts with ``shown false``.

  Raises:
    ValueError: if the results file is not in the format of ``results/README.md``.
  """
  if not system.api and not system.tests:
    return Evidence("planned")
  if not system.api or not system.tests:
    return Evidence("planned", f"has no {'tests' if system.api else 'api'}")
  absent = [name for name in system.api if not imports(name)]
  absent += [name for name in system.tests if not has_test(name, root)]
  if absent:
    return Evidence("planned", f"not found: {', '.join(absent)}")
  if system.results is None:
    return Evidence("core")
  path = root / system.results
  if not path.is_file():
    return Evidence("core", f"{system.results} is missing")
  return _judge(system, _results(path))


def imports(name: str) -> bool:
  """Whether a dotted name such as ``repjax.losses.masked.masked_pixels`` can be imported."""
  module, _, attribute = name.rpartition(".")
  try:
    return hasattr(importlib.import_module(module), attribute)
  except (ImportError, ValueError):
    return False


def has_test(name: str, root: pathlib.Path = ROOT) -> bool:
  """Whether ``path::function`` names a test, found without importing it."""
  path, _, function = name.partition("::")
  return function.startswith("test_") and function in _functions(root / path)


@functools.cache
def _functions(path: pathlib.Path) -> frozenset[str]:
  if not path.is_file():
    return frozenset()
  body = ast.parse(path.read_text(), str(path)).body
  return frozenset(node.name for node in body if isinstance(node, ast.FunctionDef))


def _row(row: dict, source: str) -> System:
  where = f"{source}: {row.get('slug', 'a row without a slug')}"
  required = [name for name in System._fields if name not in System._field_defaults]
  if unknown := sorted(set(row) - set(System._fields)):
    hint = "; a state is computed, never typed" if "state" in unknown else ""
    raise ValueError(f"{where}: unknown keys {unknown}; choose from {list(System._fields)}{hint}")
  if missing := [name for name in required if name not in row]:
    raise ValueError(f"{where}: missing keys {missing}; add them")
  if isinstance(row.get("baseline"), str):
    row = row | {"baseline": [row["baseline"]]}
  for name, value in row.items():
    default = System._field_defaults.get(name)
    if isinstance(default, tuple):
      good = isinstance(value, list) and all(isinstance(v, str) for v in value)
    elif name in ("target", "tolerance"):
      good = type(value) in (int, float)
    else:
      good = type(value) is {"year": int, "lower_is_better": bool}.get(name, str)
    if not good:
      raise ValueError(f"{where}: {name} = {value!r} is of the wrong type; see `System`")
  system = System(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()})
  if system.results and not (system.method and system.metric and system.baseline):
    raise ValueError(f"{where}: results needs method, metric and baseline; add them")
  if (system.target is None) != (system.tolerance is None):
    raise ValueError(f"{where}: target and tolerance come together; add the other or remove both")
  return system


def _results(path: pathlib.Path) -> dict:
  try:
    results = json.loads(path.read_text())
    for name in ("command", "commit", "hardware", "date", "data"):
      if not isinstance(results[name], str):
        raise TypeError(f"{name} is not a string")
    runs = [(run["method"], run["seed"]) for run in results["runs"]]
    for run in results["runs"]:
      for value in run["metrics"].values():
        float(value)
  except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f"{path}: not a results file ({type(error).__name__}: {error}); see results/README.md"
    ) from error
  if len(set(runs)) < len(runs):
    twice = next(run for run, n in collections.Counter(runs).items() if n > 1)
    raise ValueError(f"{path}: method {twice[0]!r} has seed {twice[1]} twice; keep one run a seed")
  return results


def _summary(results: dict, method: str, metric: str) -> Summary:
  values = [
    float(run["metrics"][metric])
    for run in results["runs"]
    if run["method"] == method and metric in run["metrics"]
  ]
  if not values:
    return Summary(math.nan, math.nan, 0)
  n = len(values)
  mean = math.fsum(values) / n
  # A control that draws nothing, such as raw pixels, has one run and no spread.
  variance = math.fsum((x - mean) ** 2 for x in values) / (n - 1) if n > 1 else 0.0
  return Summary(mean, math.sqrt(variance / n), n)


def _judge(system: System, results: dict) -> Evidence:
  numbers = {
    method: _summary(results, method, system.metric) for method in (system.method, *system.baseline)
  }
  core = functools.partial(Evidence, numbers=numbers, command=results["command"])
  ours = numbers[system.method]
  for name in ("command", "commit", "hardware"):
    if not results[name].strip():
      return core("core", f"{system.results} has an empty {name}")
  if ours.seeds < MIN_SEEDS:
    return core("core", f"{system.method} has {ours.seeds} seeds of at least {MIN_SEEDS}")
  for method in system.baseline:
    theirs = numbers[method]
    if theirs.seeds != 1 and theirs.seeds < MIN_SEEDS:
      return core("core", f"{method} has {theirs.seeds} seeds of at least {MIN_SEEDS}")
    gain = (theirs.mean - ours.mean) if system.lower_is_better else (ours.mean - theirs.mean)
    noise = 2 * math.hypot(ours.error, theirs.error)
    if not gain > noise:
      return core(
        "core",
        f"shown false: {system.metric} of {system.method} {ours.mean:.4g} against {method} "
        f"{theirs.mean:.4g}, a gain of {gain:.2g} with a noise of {noise:.2g}",
      )
  if system.target is None:
    return core("shown")
  if abs(ours.mean - system.target) <= system.tolerance:
    return core("matched")
  return core(
    "shown",
    f"{system.metric} {ours.mean:.4g} is not within {system.tolerance:g} of {system.target:g}",
  )


def markdown(systems: Sequence[System], root: pathlib.Path = ROOT) -> str:
  """Renders the whole table.

  Args:
    systems: the rows.
    root: where their ``tests`` and ``results`` are looked up.

  Returns:
    The text of ``SYSTEMS.md``.
  """
  found = {system.slug: evidence(system, root) for system in systems}
  families = collections.defaultdict(list)
  for system in systems:
    families[system.family].append(system)

  def counts(rows):
    tally = collections.Counter(found[row.slug].state for row in rows)
    return [str(tally[name] or "") for name in STATES] + [str(len(rows))]

  def line(cells):
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

  lines = [
    "<!-- Generated from systems.toml by `python -m repjax.systems --write`; do not edit. -->",
    "# Systems",
    "",
    "One row a paper. A row's state is computed, never typed. *planned*: not there yet. *core*: "
    "its API imports and a test compares it with something independent. *shown*: a result of three "
    "seeds or more beats the named baselines by more than the noise. *matched*: within the stated "
    "tolerance of a published number on the same data and protocol.",
    "",
    line(["family", *STATES, "all"]),
    line(["---"] + ["---:"] * (len(STATES) + 1)),
    *(line([f"[{name}](#{name})", *counts(rows)]) for name, rows in sorted(families.items())),
    line(["**all**", *counts(systems)]),
  ]
  for name, rows in sorted(families.items()):
    lines += ["", f"## {name}", "", line(["system", "paper", "kind", "tier", "state", "where"])]
    lines += [line(["---"] * 6)]
    for row in rows:
      paper = f"[{row.title}](https://arxiv.org/abs/{row.arxiv})" if row.arxiv else row.title
      paper += f" ({row.year})" if row.year else ""
      about = found[row.slug]
      where = ", ".join(f"`{name}`" for name in row.api)
      where += f" ({about.remark})" if about.remark else ""
      lines.append(line([f"`{row.slug}`", paper, row.kind, row.tier, about.state, where]))
  return "\n".join(lines) + "\n"


def _show_table(systems: Sequence[System], found: dict[str, Evidence]) -> str:
  rows = [("SLUG", "FAMILY", "TIER", "STATE", "SYSTEM")]
  rows += [(s.slug, s.family, s.tier, found[s.slug].state, s.short) for s in systems]
  widths = [max(len(row[i]) for row in rows) for i in range(4)]
  lines = ["  ".join([*map(str.ljust, row, widths), row[4]]) for row in rows]
  tally = collections.Counter(found[s.slug].state for s in systems)
  counts = ", ".join(f"{tally[name]} {name}" for name in STATES)
  remarks = [f"{s.slug}: {found[s.slug].remark}" for s in systems if found[s.slug].remark]
  return "\n".join([*lines, *remarks, f"{len(systems)} systems: {counts}"])


def _show_row(system: System, about: Evidence) -> str:
  fields = {"state": about.state, "remark": about.remark} | system._asdict()
  fields["command"] = about.command or (system.experiment and f"python -m {system.experiment}")
  for method, s in about.numbers.items():
    value = f"{s.mean:.4g} +- {s.error:.2g}, seeds: {s.seeds}" if s.seeds else "no runs"
    fields[f"{method}, {system.metric}"] = value
  fields = {k: v for k, v in fields.items() if v not in (None, "", (), False)}
  width = max(map(len, fields)) + 2
  lines = []
  for name, value in fields.items():
    for i, item in enumerate(value if isinstance(value, tuple) else [str(value)]):
      head = ("" if i else name).ljust(width)
      wrapped = textwrap.wrap(item, 98 - width, break_long_words=False)
      lines.append(head + ("\n" + " " * width).join(wrapped))
  return "\n".join(lines)


def _known(value: str, choices: set[str], what: str) -> None:
  if value not in choices:
    near = difflib.get_close_matches(value, sorted(choices), cutoff=0.3)
    hint = f"closest: {', '.join(near)}" if near else f"choose from {', '.join(sorted(choices))}"
    raise SystemExit(f"{what} {value!r} is not in systems.toml; {hint}")


def main(argv: Sequence[str] | None = None) -> None:
  """Prints or writes the table.

  Args:
    argv: command-line arguments; the process's own if absent.
  """
  parser = argparse.ArgumentParser(
    prog="python -m repjax.systems",
    description="What is planned, there, shown and matched.",
  )
  parser.add_argument("slug", nargs="?", metavar="SLUG", help="print this row in full")
  parser.add_argument("--family", help="rows of one family")
  parser.add_argument("--state", choices=STATES, help="rows of one state")
  parser.add_argument("--tier", help="rows of one tier")
  parser.add_argument("--write", action="store_true", help="write SYSTEMS.md beside systems.toml")
  args = parser.parse_args(argv)
  try:
    systems = load()
  except (FileNotFoundError, ValueError) as error:
    raise SystemExit(str(error)) from error
  if args.write:
    (ROOT / "SYSTEMS.md").write_text(markdown(systems))
    print(f"wrote {ROOT / 'SYSTEMS.md'}: {len(systems)} systems")
    return
  for name in ("slug", "family", "tier"):
    if value := getattr(args, name):
      _known(value, {getattr(s, name) for s in systems}, name)
      systems = tuple(s for s in systems if getattr(s, name) == value)
  found = {s.slug: evidence(s) for s in systems}
  if args.state:
    systems = tuple(s for s in systems if found[s.slug].state == args.state)
  if args.slug and systems:
    print(_show_row(systems[0], found[args.slug]))
  else:
    print(_show_table(systems, found))


if __name__ == "__main__":
  main()
