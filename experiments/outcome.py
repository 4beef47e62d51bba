"""What a pretraining run leaves: the table with its controls, the report, the record."""

import functools
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from tqdm import tqdm

from experiments.records import spelt, write_record
from experiments.setup import Method, Prepared
from repjax import data, evaluate
from repjax.arrays import batch_shards
from repjax.evaluate import pictures
from repjax.evaluate.report import Report, write_report
from repjax.train import Result, hosts, init_state, launch
from repjax.train.launch import Settings
from repjax.train.mesh import local_rows
from repjax.train.sharding import state_shardings
from repjax.train.step import shape_of_state

CONTROLS = ("raw pixels", "untrained")
_MAP_POINTS = 800

Features = dict[str, tuple[evaluate.Embedded, evaluate.Embedded]]


def score(
  method: Method, settings: Settings, ready: Prepared, state: Any
) -> tuple[dict[str, dict[str, float]], Features]:
  """Evaluates the trained encoder beside raw pixels and the encoder as it was before training.

  Args:
    method: what the launcher adds.
    settings: the flags.
    ready: the parts of the run.
    state: the learner's state.

  Returns:
    Numbers by row and metric, and the features of train and test split by row; of several
    processes, the lead alone has the numbers and the pixels.
  """
  size, lead = settings.eval_batch_size, hosts.is_lead()
  key = jax.random.key(settings.seed)
  splits = ready.dataset.train, ready.dataset.test
  example = {k: v[None] for k, v in ready.dataset.train[0].items()}
  where = state_shardings(shape_of_state(ready.learner, example), ready.mesh, settings.sharding)
  start = init_state(ready.learner, example, seed=settings.seed, mesh=ready.mesh, shardings=where)
  pixels = lambda split: evaluate.pixels(data.once(split, size))
  features = {"raw pixels": tuple(map(pixels, splits))} if lead else {}
  for name, params in (("untrained", start), (method.name, state)):
    features[name] = tuple(
      embed(ready, params, split, size, name, quiet=not settings.progress) for split in splits
    )
  if not ready.dataset.classes:
    logging.warning("--data=%s has no labels: there is no table", settings.data)
    return {}, features
  if not lead:
    return {}, features
  table = {}
  for name, (bank, test) in tqdm(
    features.items(), desc="evaluate", unit="encoder", disable=not settings.progress
  ):
    table[name] = evaluate.evaluate(bank, test, key=key, protocols=ready.protocols)
  return table, features


def embed(
  ready: Prepared, state: Any, split: data.Source, size: int, name: str, *, quiet: bool = False
) -> evaluate.Embedded:
  """Encodes a split, each process its rows, with a progress bar if it is long.

  Args:
    ready: the parts of the run.
    state: the learner's state.
    split: what to encode.
    size: examples encoded at a time.
    name: for the bar.
    quiet: whether to leave the bar out.

  Returns:
    Its features and labels.
  """
  options = {"name": name, "quiet": quiet}
  return encode_split(ready.learner.encode, state, split, size, ready.mesh, **options)


def encode_split(
  encode: Callable[..., Any],
  state: Any,
  split: data.Source,
  size: int,
  mesh: Mesh,
  *,
  name: str = "",
  quiet: bool = False,
  progress: Callable[[Iterable], Iterable] | None = None,
) -> evaluate.Embedded:
  """`embed` for any encoder.

  Args:
    encode: ``(state, [batch, h, w, c] uint8) -> Features``.
    state: on the mesh.
    split: what to encode.
    size: examples encoded at a time, at most.
    mesh: the devices.
    name: for the bar.
    quiet: whether to leave the bar out.
    progress: wraps the batches in place of a bar.

  Returns:
    Its features and labels, on every process.
  """
  # A small split is not filled up to many times its size; by halves, so that few are compiled.
  while size // 2 >= max(len(split), 1):
    size //= 2
  shards = batch_shards(mesh)
  size = -(-size // shards) * shards
  rows = local_rows(mesh, size)
  quiet = quiet or len(split) < 2000 or not hosts.is_lead()
  bar = functools.partial(tqdm, total=-(-len(split) // size), desc=f"encode {name}", disable=quiet)
  return evaluate.embed(
    encode,
    state,
    data.once(split, size, rows=rows),
    batch_size=size,
    mesh=mesh,
    rows=rows,
    progress=progress or bar,
  )


def columns(table: dict[str, dict[str, float]]) -> list[str]:
  """The numbers of a table that a reader wants to see."""
  shown = dict.fromkeys(name for row in table.values() for name in row)
  beside = ("_stderr", "_ci95", "linear_penalty", "sgd_linear_rate", "queries_left_out")
  return [n for n in shown if not n.endswith(beside)]


def summary(method: Method, table: dict[str, dict[str, float]]) -> str:
  """One sentence on a table."""
  if not table:
    return f"{method.name}: trained; nothing to score without labels."
  metric = columns(table)[0]
  ours = table[method.name][metric]
  control = max(CONTROLS, key=lambda name: table[name][metric])
  return (
    f"{method.name}: {metric.replace('_', ' ')} {ours:.3f}, "
    f"the better control ({control}) {table[control][metric]:.3f}."
  )


def report(
  method: Method,
  settings: Settings,
  ready: Prepared,
  trained: Result,
  table: dict[str, dict[str, float]],
  features: Features,
  workdir: Path,
) -> Path | None:
  """Writes the run's page, on the lead; the others help to make its pictures.

  Args:
    method: what the launcher adds.
    settings: the flags.
    ready: the parts of the run.
    trained: what training left.
    table: numbers by row and metric.
    features: those of train and test split by row.
    workdir: where the page goes.

  Returns:
    Its path; nothing on other processes than the lead.
  """
  classes = ready.dataset.classes
  bank, test = ready.dataset.train, ready.dataset.test
  some = np.sort(data.indices(0, 0, min(_MAP_POINTS, len(test)), len(test)))
  shown = data.take(test, some)
  few = shown["image"][:8]
  local = hosts.fetch(jax.jit(ready.learner.encode)(trained.state, few).tokens)
  drawn = method.reconstruct and method.reconstruct(settings, ready.setup, trained.state, few)
  if not hosts.is_lead():
    return None
  _, trained_test = features[method.name]
  neighbours = None
  if isinstance(bank, data.Arrays):
    queries = some[:: max(1, len(some) // 6)][:6]
    found = {
      name: pictures.nearest_neighbours(theirs.features[queries], ours.features, 8)
      for name, (ours, theirs) in features.items()
      if name != "untrained"
    }
    asked = data.take(test, queries)
    neighbours = pictures.Neighbours(asked["image"], asked["label"], bank.image, bank.label, found)
  grid = round(local.shape[1] ** 0.5)
  page = Report(
    title=f"{method.name} on {ready.dataset.name}",
    summary=summary(method, table),
    command=launch.command(),
    flags=settings.values(),
    defaults=launch.flag_defaults(),
    commit=launch.commit(),
    hardware=launch.hardware(),
    versions={p: importlib.metadata.version(p) for p in ("jax", "flax", "optax", "numpy")},
    speed=_readable(trained.speed),
    history=trained.history,
    table={row: {k: v for k, v in t.items() if k != "linear_penalty"} for row, t in table.items()},
    controls=CONTROLS,
    classes=classes,
    embedding=pictures.EmbeddingMap(
      pictures.project(trained_test.features[some], seed=settings.seed),
      shown["label"],
      shown["image"],
    ),
    neighbours=neighbours,
    patches=pictures.PatchMaps(few, local.reshape(len(few), grid, grid, -1)),
    reconstructions=drawn,
    next_command=method.next_command,
  )
  return write_report(workdir, page, figures=can_draw())


def can_draw() -> bool:
  """Whether there is matplotlib; if not, a warning says what is missing."""
  found = importlib.util.find_spec("matplotlib") is not None
  if not found:
    logging.warning("no PNG figures beside the report: pip install 'repjax[plots]' for them")
  return found


def _readable(speed):
  """Rates with their units, times in seconds."""
  shown = {name.replace("_", " "): speed[name] for name in ("training_seconds", "images_seen")}
  if "step_ms" in speed:  # a run that had nothing left to do has no rates
    shown |= {
      "images per second": speed["images_per_second"],
      "ms per step": speed["step_ms"],
      "model GFLOP/s": speed["model_flops_per_second"] / 1e9,
      "of the peak": f"{speed['share_of_peak']:.0%}",
      "of the time waiting for input": f"{speed['input_wait']:.0%}",
      f"GFLOP/s at peak ({speed['peak_source']})": speed["peak_flops_per_second"] / 1e9,
    }
  return shown


def record(
  path: Path,
  method: Method,
  settings: Settings,
  ready: Prepared,
  table: dict[str, dict[str, float]],
  *,
  before: list[dict[str, Any]],
) -> None:
  """Writes this run's numbers in the form that results/README.md describes.

  Args:
    path: the JSON file.
    method: what the launcher adds.
    settings: the flags.
    ready: the parts of the run.
    table: numbers by row and metric.
    before: runs of other seeds that stay in the file; this seed's are replaced.
  """
  runs = [run for run in before if run["seed"] != settings.seed]
  for row, numbers in table.items():
    name = row.replace(" ", "_")
    runs.append({"method": name, "seed": settings.seed, "metrics": numbers})
  write_record(path, command(method, settings), described(ready), runs)


def described(ready: Prepared) -> str:
  """The data of a run in words.

  Args:
    ready: the parts of the run.

  Returns:
    Name, sizes of the splits, and how they are seen.
  """
  size, channels = ready.setup.image_size, ready.setup.channels
  return (
    f"{ready.dataset.name}: {len(ready.dataset.train)} train, {len(ready.dataset.test)} test, "
    f"seen at {size}x{size}x{channels}"
  )


def command(method: Method, settings: Settings) -> str:
  """What was run, but for the seed and flags that do not change what is learned or measured.

  Args:
    method: what the launcher adds.
    settings: the flags.

  Returns:
    What one would type.
  """
  measured = settings.changed().keys() & {"protocols", "shots"}
  return spelt(method.command(), settings, ("seed", "method"), kept=measured) + " --seed=SEED"
