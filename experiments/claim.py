"""What experiments on a paper's claim share: seeds, short trainings, table and record."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

from experiments import setup  # noqa: F401, defines --results
from repjax import data, evaluate
from repjax.learners import Learner
from repjax.train import launch
from repjax.train.launch import Settings

flags.DEFINE_list("seeds", ["0", "1", "2"], "Runs of a claim; those on record are not run again.")

Tree = Any
Numbers = dict[str, dict[str, float]]


def run(
  name: str, study: Callable[[int, Settings], Numbers], settings: Settings, *, described: str
) -> None:
  """Runs a study once a seed, writes each to the record as it ends, and prints means and errors.

  Args:
    name: of the experiment's module.
    study: ``(seed, settings) -> {method: {metric: number}}``, controls among the methods.
    settings: the flags.
    described: the data, split sizes and preprocessing, for the record.

  Raises:
    ValueError: if the record holds runs of another command.
  """
  launch.use_compile_cache(settings)
  path = Path(settings.results or f"runs/{name}.json")
  seeds = _seeds(settings.seeds)
  command = _command(name, settings)
  runs = _recorded(path, command)
  for seed in seeds:
    if any(run["seed"] == seed for run in runs):
      print(f"seed {seed}: on record in {path}")
      continue
    numbers = study(seed, settings)
    settings.check_all_read()
    runs += [{"method": m, "seed": seed, "metrics": values} for m, values in numbers.items()]
    record = {
      "command": command,
      "commit": launch.commit(),
      "hardware": launch.hardware(),
      "date": time.strftime("%Y-%m-%d"),
      "data": described,
      "runs": runs,
    }
    launch.write_whole(path, json.dumps(record, indent=1) + "\n")
  print("\n" + evaluate.format_table(summarize(runs)) + f"\n\nrecord: {path}")


def summarize(runs: list[dict[str, Any]]) -> Numbers:
  """Means and standard errors over seeds.

  Args:
    runs: as results/README.md describes them.

  Returns:
    By method, each metric's mean and, with several seeds, its ``_stderr``.
  """
  table = {}
  for method in dict.fromkeys(run["method"] for run in runs):
    rows = [run["metrics"] for run in runs if run["method"] == method]
    table[method] = {}
    for metric in rows[0]:
      values = [row[metric] for row in rows if metric in row]
      table[method][metric] = float(np.mean(values))
      if len(values) > 1:
        table[method][f"{metric}_stderr"] = float(np.std(values, ddof=1) / np.sqrt(len(values)))
  return table


def fit(
  learner: Learner,
  arrays: Mapping[str, np.ndarray],
  *,
  steps: int,
  batch_size: int,
  seed: int,
  progress: str | None = None,
) -> Tree:
  """Trains a learner on arrays that fit the device, in the order of `repjax.data.indices`.

  Args:
    learner: any.
    arrays: a batch of everything, ``[n, ...]`` each.
    steps: updates.
    batch_size: rows of an update, at most ``n``.
    seed: of parameters, order and draws.
    progress: what the progress bar says; no bar if absent.

  Returns:
    The state.

  Raises:
    FloatingPointError: if the loss is not finite in the end.
  """
  size = len(next(iter(arrays.values())))
  arrays = jax.device_put(dict(arrays))
  few = jax.tree.map(lambda x: x[:2], arrays)
  state = jax.jit(learner.init)(jax.random.key(seed), few)

  # The seed is an argument, so that one compiled program serves them all.
  def update(state, arrays, rows, step, key):
    key = jax.random.fold_in(key, step)
    return learner.update(state, jax.tree.map(lambda x: x[rows], arrays), key)

  update = jax.jit(update, donate_argnums=0)
  for step in tqdm(range(steps), desc=progress, disable=progress is None, unit="step"):
    first = step * batch_size
    rows = data.indices(seed, first, first + batch_size, size)
    state, metrics = update(state, arrays, rows.astype(np.int32), step, jax.random.key(seed))
  if steps and not np.isfinite(loss := float(metrics["loss"])):
    raise FloatingPointError(f"{progress or 'training'}: the loss is {loss} after {steps} steps")
  return state


def features(
  encode: Callable[[Tree, jax.Array], Any],
  state: Tree,
  inputs: np.ndarray,
  *,
  batch_size: int = 512,
) -> np.ndarray:
  """Pooled features of arrays, in order.

  Args:
    encode: a learner's, or ``(state, inputs) -> features [batch, dim]``.
    state: its state.
    inputs: ``[n, ...]``.
    batch_size: rows encoded at a time.

  Returns:
    ``[n, dim]`` float32.
  """

  def pooled(state, rows):
    out = encode(state, rows)
    return jnp.asarray(getattr(out, "pooled", out), jnp.float32)

  pooled, size = jax.jit(pooled), len(inputs)
  whole = np.resize(inputs, (-(-size // batch_size) * batch_size, *inputs.shape[1:]))
  parts = [pooled(state, whole[i : i + batch_size]) for i in range(0, len(whole), batch_size)]
  return np.concatenate([np.asarray(part) for part in parts])[:size]


def _seeds(texts):
  if not texts or not all(text.strip().isdigit() for text in texts):
    raise ValueError(f"--seeds={','.join(texts)} is not a list of whole numbers; write 0,1,2")
  return [int(text) for text in texts]


def _recorded(path, command):
  if not path.exists():
    return []
  before = json.loads(path.read_text())
  if before["command"] != command:
    raise ValueError(
      f"--results={path} holds runs of {before['command']!r}, this is {command!r}; "
      f"choose another file"
    )
  return before["runs"]


def _command(name, settings):
  given = settings.changed()
  kept = sorted(given.keys() - launch.FREE - {"seed", "seeds"})
  flag = lambda value: ",".join(value) if isinstance(value, list) else value
  return " ".join([f"python -m experiments.{name}", *(f"--{k}={flag(given[k])}" for k in kept)])
