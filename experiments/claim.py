"""What experiments on a paper's claim share: seeds, short trainings, table and record."""

import contextvars
import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import linen as nn
from tqdm import tqdm

from experiments import setup  # noqa: F401, defines --data
from experiments.records import read_record, spelt, write_record
from repjax import data, evaluate
from repjax.augment import gaussian_noise
from repjax.evaluate import figures
from repjax.learners import Learner
from repjax.train import launch
from repjax.train.launch import Settings

flags.DEFINE_list("seeds", ["0", "1", "2"], "Runs of a claim; those on record are not run again.")

Tree = Any
Numbers = dict[str, dict[str, float]]

_QUIET = contextvars.ContextVar("quiet", default=False)  # whether --progress=false was given


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
    ValueError: if the record holds runs of another command, or a flag had no effect. The record is
      then that of the command without it, which goes on from there.
  """
  launch.use_compile_cache(settings)
  _QUIET.set(not settings.progress)
  path = Path(settings.results or f"runs/{name}.json")
  command = lambda free=(): spelt(
    f"python -m experiments.{name}", settings, ("seed", "seeds", *free)
  )
  runs = read_record(path, command())
  for seed in seeds(settings):
    if any(run["seed"] == seed for run in runs):
      print(f"seed {seed}: on record in {path}")
      continue
    numbers = study(seed, settings)
    runs += [{"method": m, "seed": seed, "metrics": values} for m, values in numbers.items()]
    write_record(path, command(settings.unread()), described, runs)
    settings.check_all_read()
  print("\n" + evaluate.format_table(summarize(runs)) + f"\n\nrecord: {path}")


def run_each(
  path: Path,
  command: str,
  jobs: Iterable[tuple[str, int]],
  study: Callable[[str, int], tuple[dict[str, float], str]],
  *,
  metric: str,
  title: str,
  controls: Collection[str],
  drawn: Callable[[str], bool] = lambda name: True,
) -> None:
  """Runs what is not on record yet one by one, writes each as it ends, shows all as table and bars.

  Args:
    path: the record; the picture lies beside it.
    command: what is run.
    jobs: ``(method, seed)`` in order.
    study: ``(method, seed) -> numbers, the data in words``.
    metric: by which rows are sorted, and which is drawn.
    title: of the picture's axis.
    controls: methods that the others are compared with.
    drawn: whether a method depends on the seed; if not, one run stands for all.

  Raises:
    ValueError: if the record holds runs of another command.
  """
  runs = read_record(path, command)
  key = lambda name, seed: (name, seed if drawn(name) else None)
  done = {key(run["method"], run["seed"]) for run in runs}
  for name, seed in jobs:
    if key(name, seed) in done:
      continue
    numbers, described = study(name, seed)
    runs.append({"method": name, "seed": seed, "metrics": numbers})
    done.add(key(name, seed))
    write_record(path, command, described, runs)
    print(f"seed {seed}\n{evaluate.format_table({name: numbers})}\n", flush=True)
  table = dict(sorted(summarize(runs).items(), key=lambda row: row[1][metric]))
  print(evaluate.format_table(table) + f"\n\nrecord: {path}")
  bars = {name: (row[metric], row.get(f"{metric}_stderr", 0.0)) for name, row in table.items()}
  path.with_suffix(".png").write_bytes(figures.draw_bars(bars, controls, title))


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
      if metric.endswith("_stderr") and len(rows) > 1:
        continue  # of draws within a run; between runs counts
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

  # The key is an argument, so that all seeds share one compiled program.
  def update(state, arrays, rows, step, key):
    key = jax.random.fold_in(key, step)
    return learner.update(state, jax.tree.map(lambda x: x[rows], arrays), key)

  update, key = jax.jit(update, donate_argnums=0), jax.random.key(seed)
  for step in count_steps(steps, progress):
    first = step * batch_size
    rows = data.indices(seed, first, first + batch_size, size)
    state, metrics = update(state, arrays, rows.astype(np.int32), step, key)
  if steps and not np.isfinite(loss := float(metrics["loss"])):
    raise FloatingPointError(f"{progress or 'training'}: the loss is {loss} after {steps} steps")
  return state


def count_steps(steps: int, progress: str | None) -> Iterable[int]:
  """Counts updates beside a progress bar, unless a study runs with ``--progress=false``.

  Args:
    steps: how many.
    progress: what the bar says; no bar if absent.

  Returns:
    Their numbers.
  """
  hidden = progress is None or _QUIET.get()
  return tqdm(range(steps), desc=progress, disable=hidden, unit="step")


def part_of_data(
  settings: Settings, *, train: int, test: int, seed: int
) -> tuple[data.Arrays, data.Arrays]:
  """Some of the images that ``--data`` names, those of 28 or 32 pixels halved.

  Args:
    settings: the flags.
    train: how many to learn from, drawn anew for each seed; all if there are fewer.
    test: how many to judge on, the same for all seeds; all if there are fewer.
    seed: of the draw.

  Returns:
    Both parts.
  """
  dataset = data.load(settings.data)

  def part(split, rows):
    found = data.take(split, rows)
    image = found["image"]
    size = image.shape[1]
    if size in (28, 32):
      halves = image.reshape(len(image), size // 2, 2, size // 2, 2, -1).mean((2, 4))
      image = np.round(halves).astype(np.uint8)
    return data.Arrays(image, found["label"])

  # Drawn on either side: files may be in the order of their classes.
  draw = lambda split, count, seed: data.indices(seed, 0, min(count, len(split)), len(split))
  return (
    part(dataset.train, draw(dataset.train, train, seed)),
    part(dataset.test, draw(dataset.test, test, 0)),
  )


def three_parts(settings: Settings, *, image_size: int, seed: int) -> list[dict[str, np.ndarray]]:
  """Images to train on, labelled ones, and those to be told.

  Args:
    settings: the flags, of which ``--data`` counts.
    image_size: side to resize images to.
    seed: of the draw, test images included.

  Returns:
    Batches of at most 12,000, 1,000 and 2,000; of a small set half are labelled.
  """
  dataset = data.load(settings.data, seed=seed, image_size=image_size)
  rng = np.random.default_rng(seed)
  order, chosen = (rng.permutation(len(split)) for split in (dataset.train, dataset.test))
  labelled = min(1000, len(order) // 2)
  train, bank = order[labelled : labelled + 12000], order[:labelled]
  splits = (dataset.train, train), (dataset.train, bank), (dataset.test, chosen[:2000])
  return [data.take(source, rows) for source, rows in splits]


def centred_digits(image: jax.Array) -> jax.Array:
  """Pixels of scikit-learn's digits, less their mean, in standard deviations.

  Args:
    image: any shape, in [0, 1].

  Returns:
    Same shape as ``image``.
  """
  return (image - 0.3) / 0.37


def scaled_digits(image: jax.Array) -> jax.Array:
  """Pixels of MNIST in [0, 1] less their mean, in standard deviations."""
  return (image - 0.13) / 0.31


def scaled_photos(image: jax.Array) -> jax.Array:
  """Pixels of CIFAR-10 in [0, 1] less their mean, in standard deviations."""
  return (image - 0.47) / 0.25


def shift_and_noise(key: jax.Array, image: jax.Array) -> jax.Array:
  """A view of an image of few pixels: up to one aside, and noisy.

  Args:
    key: for one image.
    image: ``[h, w, c]``, floating.

  Returns:
    Same shape as ``image``.
  """
  k_shift, k_noise = jax.random.split(key)
  shift = jax.random.randint(k_shift, (2,), -1, 2)
  return gaussian_noise(k_noise, jnp.roll(image, shift, (0, 1)), std=0.1)


def steps_of(settings: Settings, steps: int) -> int:
  """Length of a training.

  Args:
    settings: the flags.
    steps: what the study takes.

  Returns:
    ``--steps`` if it is given, otherwise ``steps``.
  """
  return settings.steps if settings.given("steps") else steps


def side_by_side(make: Callable[[Tree], Learner], numbers: Tree) -> Learner:
  """Learners that differ in numbers alone as one, in one program and on the same draws.

  Args:
    make: ``numbers of one -> Learner``, traceable.
    numbers: a tree of arrays ``[k]``.

  Returns:
    A learner whose state is that of all, ``[k, ...]`` each, and whose metrics are their means. Its
    ``encode`` takes the state of one: ``jax.tree.map(lambda x: x[i], state)``.
  """
  numbers = jax.tree.map(jnp.asarray, numbers)

  def init(key, batch):
    return jax.vmap(lambda own: make(own).init(key, batch))(numbers)

  def update(state, batch, key):
    step = lambda state, own: make(own).update(state, batch, key)
    state, metrics = jax.vmap(step)(state, numbers)
    return state, jax.tree.map(jnp.mean, metrics)

  return Learner(init, update, make(jax.tree.map(lambda x: x[0], numbers)).encode)


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

  size = len(inputs)
  whole = np.resize(inputs, (-(-size // batch_size) * batch_size, *inputs.shape[1:]))
  starts = range(0, len(whole), batch_size)
  parts = [_pooled(encode, state, whole[i : i + batch_size]) for i in starts]
  return np.concatenate([np.asarray(part) for part in parts])[:size]


# Compiled once for each ``encode``, however many splits and states it is asked for.
@functools.partial(jax.jit, static_argnums=0)
def _pooled(encode, state, rows):
  out = encode(state, rows)
  return jnp.asarray(getattr(out, "pooled", out), jnp.float32)


def head_accuracy(learner: Learner, state: Tree, image: np.ndarray, label: np.ndarray) -> float:
  """Share of images whose label the linear head of a classifier tells.

  Args:
    learner: one that trains a head on pooled features, such as that of `supervised`.
    state: its state, the head under ``params["head"]``.
    image: ``[n, height, width, channels]`` uint8.
    label: ``[n]`` integers.

  Returns:
    The share.
  """
  head = state.params["head"]
  logits = features(learner.encode, state, image) @ head["kernel"] + head["bias"]
  return float(jnp.mean(jnp.argmax(logits, -1) == label))


def pixel_accuracy(train: Mapping[str, Any], test: Mapping[str, Any], *, seed: int) -> float:
  """Share of images whose label a linear classifier of their pixels tells: a control.

  Args:
    train: ``image [n, height, width, channels]`` uint8 and ``label [n]`` to learn from.
    test: likewise, to tell.
    seed: of the split that checks the fit.

  Returns:
    The share.
  """
  flat = lambda image: image.reshape(len(image), -1) / 255
  banks = (evaluate.Embedded(flat(part["image"]), part["label"]) for part in (train, test))
  return evaluate.linear_probe(*banks, key=jax.random.key(seed), penalties=(1e-1,))["linear"]


def maps_of_layer(learner: Learner, layer: int, window: int) -> Callable[[Tree, jax.Array], Any]:
  """Encodes by the maps of a layer, averaged over squares, for what the last layers leave behind.

  Args:
    learner: of an encoder whose ``layers`` are maps ``[batch, h, w, dim]``.
    layer: which.
    window: side of a square; divides the maps'.

  Returns:
    ``(state, image) -> features [batch, any]``, for `features`.
  """

  def encode(state, image):
    grid = nn.avg_pool(learner.encode(state, image).layers[layer], (window,) * 2, (window,) * 2)
    return grid.reshape(len(image), -1)

  return encode


def seeds(settings: Settings) -> list[int]:
  """What ``--seeds`` lists.

  Args:
    settings: the flags.

  Returns:
    The numbers.

  Raises:
    ValueError: if they are none.
  """
  texts = settings.seeds
  if not texts or not all(text.strip().isdigit() for text in texts):
    raise ValueError(f"--seeds={','.join(texts)} is not a list of whole numbers; write 0,1,2")
  return [int(text) for text in texts]
