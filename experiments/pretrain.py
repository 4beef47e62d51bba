"""What pretraining launchers share: flags for data, encoder and evaluation, and a run from start to
report.

A launcher adds the flags of its method and a function from `Setup` to an objective.
"""

import functools
import importlib.metadata
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags, logging
from flax import linen as nn
from tqdm import tqdm

from repjax import augment, data, evaluate
from repjax.encoders import resnet, vit
from repjax.evaluate import pictures
from repjax.evaluate.report import Report, write_report
from repjax.learners.learner import Learner, Objective, by_gradient
from repjax.train import Feed, Schedule, make_mesh, train
from repjax.train import launch
from repjax.train.launch import Settings

# --- data -----------------------------------------------------------------------------------------
flags.DEFINE_string("data", "digits", "digits, npz:PATH, folder:PATH or tfds:NAME.")
flags.DEFINE_integer("image_size", None, "Side to resize images to; as they are if absent.")
flags.DEFINE_float("test_fraction", 0.2, "Share held out of data without a test split.")
flags.DEFINE_bool("skip_unreadable", False, "Leave out image files that do not decode.")
flags.DEFINE_integer("device_data_mb", 2048, "Larger train splits stream from disk (MiB decoded).")
flags.DEFINE_integer("workers", 0, "Processes that decode a streamed split; 0: threads.")
flags.DEFINE_float("validation", 0.1, "Share held out of training to evaluate on as it runs.")
# --- encoder --------------------------------------------------------------------------------------
flags.DEFINE_string("encoder", "vit_nano2", "vit_SIZEPATCH, such as vit_b16, or resnet18 to 152.")
flags.DEFINE_string("stem", None, "patch or conv for a ViT, cifar or imagenet for a ResNet.")
flags.DEFINE_enum("pool", "mean", ["mean", "cls", "attention"], "How a ViT pools its tokens.")
flags.DEFINE_bool("scan", False, "Compile one block of a ViT and loop.")
flags.DEFINE_bool("remat", False, "Recompute the blocks of a ViT rather than store activations.")
flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the computation.")
# --- evaluation -----------------------------------------------------------------------------------
flags.DEFINE_list("protocols", ["few_shot", "knn", "linear"], "What the table at the end holds.")
flags.DEFINE_list("shots", ["1", "5"], "Labelled examples per class in few_shot.")
flags.DEFINE_integer("eval_batch_size", 512, "Examples encoded at a time.", lower_bound=1)
flags.DEFINE_string("results", None, "JSON file to add this run's numbers to, for results/.")

_CONTROLS = ("raw pixels", "untrained")
_MAP_POINTS = 800


class Setup(NamedTuple):
  """What a method is built from.

  Attributes:
    encoder: Flax module, images to `Features`.
    normalize: ``image -> image``, the last step before the encoder.
    image_size: side of the images.
    channels: of the images.
    classes: class names; empty if nothing is labelled.
    axis_name: mapped axis that holds the rest of a batch, under pmap.
    dtype: of the computation.
  """

  encoder: nn.Module
  normalize: Callable[[jax.Array], jax.Array]
  image_size: int
  channels: int
  classes: tuple[str, ...]
  axis_name: str | None
  dtype: Any


class Method(NamedTuple):
  """What a launcher adds.

  Attributes:
    name: of the experiment and its row in tables.
    objective: ``(settings, setup) -> Objective``.
    labels: whether it trains on labels.
    next_command: what a reader may try next.
    reconstruct: ``(settings, setup, state, images) -> Reconstructions``, for the report, if any.
  """

  name: str
  objective: Callable[[Settings, Setup], Objective]
  labels: bool = False
  next_command: str = ""
  reconstruct: Callable[..., pictures.Reconstructions] | None = None


class Prepared(NamedTuple):
  """Everything that the flags decide, built and checked."""

  dataset: data.Dataset
  bank: data.Source  # what is trained on, and searched for neighbours while it runs
  held: data.Source | None  # what evaluation looks at while it runs
  setup: Setup
  learner: Learner
  feed: Feed
  schedule: Schedule
  rate: Callable[[int], Any]
  mesh: jax.sharding.Mesh
  protocols: tuple[Callable[..., dict[str, float]], ...]


def run(method: Method, settings: Settings) -> None:
  """Pretrains, evaluates and reports.

  Args:
    method: what the launcher adds.
    settings: the flags.
  """
  begun = time.perf_counter()
  launch.use_compile_cache(settings)
  launch.keep_freed_memory()
  default = f"runs/{method.name}_{settings.data.partition(':')[0]}"
  with launch.open_workdir(settings, default, method.name) as workdir:
    ready = prepare(method, settings)
    quick = functools.partial(_quick_look, ready, settings.eval_batch_size)
    options = {
      "workdir": workdir,
      "mesh": ready.mesh,
      "seed": settings.seed,
      "parallel": settings.parallel,
      "evaluate": quick if ready.held is not None else None,
      "watch": lambda step: {"learning_rate": ready.rate(step)},
      "record": {"flags": settings.values()},
      "tensorboard": settings.tensorboard,
      "progress": settings.progress,
    }
    results = settings.results
    settings.check_all_read()
    trained = train(ready.learner, ready.feed, ready.schedule, **options)
    table, features = score(method, settings, ready, trained.state)
    summary = _summary(method, table)
    speed = {**trained.speed, "wall_seconds": time.perf_counter() - begun}
    page = _report(method, settings, ready, trained, table, features, speed, summary, workdir)
    _record(workdir / "results.json", method, settings, ready, table)
    if results:
      _record(Path(results), method, settings, ready, table)
    if table:
      print("\n" + evaluate.format_table(table, columns=columns(table)))
    print(f"\n{summary}\nreport: {page}")
    if method.next_command:
      print(f"next:   {method.next_command}")


def prepare(method: Method, settings: Settings) -> Prepared:
  """Builds what the flags ask for.

  Args:
    method: what the launcher adds.
    settings: the flags.

  Returns:
    The parts of a run.

  Raises:
    ValueError: if flags or data do not fit together.
  """
  mesh = make_mesh(settings.mesh)
  dataset = data.load(
    settings.data,
    image_size=settings.image_size,
    seed=settings.seed,
    test_fraction=settings.test_fraction,
    skip_unreadable=settings.skip_unreadable,
  )
  if dataset.skipped:
    logging.warning("--skip_unreadable left %d files out", len(dataset.skipped))
  if settings.batch_size > len(dataset.train):
    raise ValueError(
      f"--batch_size={settings.batch_size} is larger than the train split of "
      f"{len(dataset.train)}; choose at most {len(dataset.train)}"
    )
  resident = data.nbytes(dataset.train) <= settings.device_data_mb * 2**20
  workers, validation = settings.workers, settings.validation
  if resident:
    dataset = dataset._replace(
      train=data.in_memory(dataset.train), test=data.in_memory(dataset.test)
    )
  if method.labels and not dataset.classes:
    raise ValueError(
      f"--data={settings.data} has no labels and {method.name} needs them; "
      f"try python -m experiments.simclr"
    )
  bank, held = dataset.train, None
  if settings.eval_every:
    bank, held = data.holdout(dataset.train, validation, settings.seed)
    bank, held = (data.in_memory(x) if resident else x for x in (bank, held))

  height, width, channels = dataset.train.image_shape
  if height != width:
    raise ValueError(
      f"--data={settings.data} has images of {height}x{width}; "
      f"give --image_size={min(height, width)} to resize and cut them square"
    )
  axis_name = "data" if settings.parallel == "pmap" else None
  dtype = jnp.dtype(settings.dtype)
  mean, std = _channel_statistics(bank)
  setup = Setup(
    encoder=make_encoder(settings, height, axis_name=axis_name, dtype=dtype),
    normalize=functools.partial(augment.normalize, mean=mean, std=std),
    image_size=height,
    channels=channels,
    classes=dataset.classes,
    axis_name=axis_name,
    dtype=dtype,
  )
  steps = launch.total_steps(settings, len(bank))
  optimizer, rate = launch.make_optimizer(settings, steps)
  learner = by_gradient(
    method.objective(settings, setup),
    optimizer,
    accumulate=settings.accumulate,
    axis_name=axis_name,
  )
  return Prepared(
    dataset=dataset,
    bank=bank,
    held=held,
    setup=setup,
    learner=learner,
    feed=make_feed(bank, settings.batch_size, settings.seed, resident=resident, workers=workers),
    schedule=launch.make_schedule(settings, steps, best="val/knn_20"),
    rate=rate,
    mesh=mesh,
    protocols=_protocols(settings, dataset),
  )


def make_encoder(
  settings: Settings, image_size: int, *, axis_name: str | None, dtype: Any
) -> nn.Module:
  """The encoder that ``--encoder`` names.

  Args:
    settings: the flags.
    image_size: side of the images.
    axis_name: mapped axis that holds the rest of a batch, if any.
    dtype: of the computation.

  Returns:
    The module.

  Raises:
    ValueError: if there is none of that name, or the patch does not divide the image.
  """
  if settings.encoder.startswith("resnet"):
    stem = settings.stem or ("cifar" if image_size <= 64 else "imagenet")
    return resnet(settings.encoder, stem=stem, axis_name=axis_name, dtype=dtype)
  encoder = vit(
    settings.encoder,
    stem=settings.stem or "patch",
    pool=settings.pool,
    scan=settings.scan,
    remat=settings.remat,
    dtype=dtype,
  )
  if image_size % encoder.patch_size:
    fit = max(image_size // encoder.patch_size, 1) * encoder.patch_size
    raise ValueError(
      f"images of {image_size} pixels are not divisible by the patch of "
      f"--encoder={settings.encoder}; give --image_size={fit} or another patch"
    )
  return encoder


def make_feed(
  source: data.Source, batch_size: int, seed: int, *, resident: bool, workers: int = 0
) -> Feed:
  """Batches of a source, from the devices' memory or streamed; the same either way.

  Args:
    source: what to train on.
    batch_size: examples of a batch, over all processes.
    seed: of the order.
    resident: whether the source is kept on the devices.
    workers: processes that decode a streamed source.

  Returns:
    The feed.
  """
  index, count = jax.process_index(), jax.process_count()
  if not resident:
    options = {"workers": workers, "process_index": index, "process_count": count}
    stream = functools.partial(data.batches, source, batch_size=batch_size, seed=seed, **options)
    return Feed(lambda step: stream(start=step), batch_size)

  rows = batch_size // count

  def batches(start: int) -> Iterator[np.ndarray]:
    for step in itertools.count(start):
      first = step * batch_size + index * rows
      yield data.indices(seed, first, first + rows, len(source)).astype(np.int32)

  return Feed(batches, batch_size, {"image": source.image, "label": source.label})


def score(
  method: Method, settings: Settings, ready: Prepared, state: Any
) -> tuple[dict[str, dict[str, float]], dict[str, tuple[evaluate.Embedded, evaluate.Embedded]]]:
  """Evaluates the trained encoder beside raw pixels and the encoder as it was before training.

  Args:
    method: what the launcher adds.
    settings: the flags.
    ready: the parts of the run.
    state: the learner's state.

  Returns:
    Numbers by row and metric, and the features of train and test split by row.
  """
  size = settings.eval_batch_size
  key = jax.random.key(settings.seed)
  splits = ready.dataset.train, ready.dataset.test
  example = {k: v[None] for k, v in ready.dataset.train[0].items()}
  start = jax.jit(ready.learner.init)(key, jax.tree.map(lambda x: np.repeat(x, 2, 0), example))
  features = {"raw pixels": tuple(evaluate.pixels(data.once(split, size)) for split in splits)}
  for name, params in (("untrained", start), (method.name, state)):
    features[name] = tuple(_embed(ready, params, split, size, name) for split in splits)
  if not ready.dataset.classes:
    logging.warning("--data=%s has no labels: there is no table", settings.data)
    return {}, features
  table = {}
  for name, (bank, test) in tqdm(
    features.items(), desc="evaluate", unit="encoder", disable=not settings.progress
  ):
    table[name] = evaluate.evaluate(bank, test, key=key, protocols=ready.protocols)
  return table, features


def _embed(ready, state, split, size, name):
  batches = data.once(split, size)
  bar = functools.partial(
    tqdm, total=-(-len(split) // size), desc=f"encode {name}", disable=len(split) < 2000
  )
  return evaluate.embed(
    ready.learner.encode, state, batches, batch_size=size, mesh=ready.mesh, progress=bar
  )


def _quick_look(ready, size, state):
  bank, held = (_embed(ready, state, x, size, "validation") for x in (ready.bank, ready.held))
  return evaluate.knn(bank, held, k=(1, min(20, len(bank.label))))


def _protocols(settings, dataset):
  known = {
    "few_shot": functools.partial(evaluate.few_shot, shots=_numbers(settings, "shots")),
    "knn": evaluate.knn,
    "linear": evaluate.linear_probe,
  }
  wrong = [name for name in settings.protocols if name not in known]
  if wrong:
    raise ValueError(f"--protocols={','.join(wrong)} is unknown; choose of {', '.join(known)}")
  label = getattr(dataset.train, "label", None)
  if "few_shot" in settings.protocols and label is not None and dataset.classes:
    counts = np.bincount(label[label >= 0], minlength=len(dataset.classes))
    shots = max(_numbers(settings, "shots"))
    if counts.min() < shots:
      raise ValueError(
        f"class {dataset.classes[counts.argmin()]!r} has {counts.min()} train examples, "
        f"fewer than --shots={shots}; lower --shots or leave few_shot out of --protocols"
      )
  return tuple(known[name] for name in settings.protocols)


def _numbers(settings, name):
  try:
    return tuple(int(x) for x in getattr(settings, name))
  except ValueError:
    raise ValueError(
      f"--{name}={','.join(getattr(settings, name))} is not a list of whole numbers; write 1,5"
    ) from None


def _channel_statistics(source, examples=2048):
  """Mean and deviation of each channel in [0, 1], over the first examples of a seeded order."""
  rows = data.indices(0, 0, min(examples, len(source)), len(source))
  image = data.take(source, rows)["image"].astype(np.float64) / 255
  mean, std = image.mean((0, 1, 2)), image.std((0, 1, 2))
  # A channel that never changes says nothing; left at its size rather than blown up.
  return tuple(mean.tolist()), tuple(np.where(std > 1e-3, std, 1.0).tolist())


# --- what is left behind --------------------------------------------------------------------------


def columns(table: dict[str, dict[str, float]]) -> list[str]:
  """The numbers of a table that a reader wants to see."""
  shown = dict.fromkeys(name for row in table.values() for name in row)
  return [n for n in shown if not n.endswith("_stderr") and n != "linear_penalty"]


def _summary(method, table):
  if not table:
    return f"{method.name}: trained; nothing to score without labels."
  metric = columns(table)[-1]
  ours = table[method.name][metric]
  control = max(_CONTROLS, key=lambda name: table[name][metric])
  return (
    f"{method.name}: {metric.replace('_', ' ')} {ours:.3f}, "
    f"the better control ({control}) {table[control][metric]:.3f}."
  )


def _report(method, settings, ready, trained, table, features, speed, summary, workdir):
  classes = ready.dataset.classes
  bank, test = ready.dataset.train, ready.dataset.test
  some = np.sort(data.indices(0, 0, min(_MAP_POINTS, len(test)), len(test)))
  shown = data.take(test, some)
  trained_bank, trained_test = features[method.name]
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
  few = shown["image"][:8]
  local = jax.jit(ready.learner.encode)(trained.state, few).tokens
  grid = int(round(local.shape[1] ** 0.5))
  report = Report(
    title=f"{method.name} on {ready.dataset.name}",
    summary=summary,
    command=launch.command(),
    flags=settings.values(),
    defaults=launch.flag_defaults(),
    commit=launch.commit(),
    hardware=launch.hardware(),
    versions={p: importlib.metadata.version(p) for p in ("jax", "flax", "optax", "numpy")},
    speed=speed,
    history=trained.history,
    table={row: {k: v for k, v in t.items() if k != "linear_penalty"} for row, t in table.items()},
    controls=_CONTROLS,
    classes=classes,
    embedding=pictures.EmbeddingMap(
      pictures.project(trained_test.features[some], seed=settings.seed),
      shown["label"],
      shown["image"],
    ),
    neighbours=neighbours,
    patches=pictures.PatchMaps(few, np.asarray(local).reshape(len(few), grid, grid, -1)),
    reconstructions=method.reconstruct
    and method.reconstruct(settings, ready.setup, trained.state, few),
    next_command=method.next_command,
  )
  figures = importlib.util.find_spec("matplotlib") is not None
  if not figures:
    logging.warning("no PNG figures beside the report: pip install 'repjax[plots]' for them")
  return write_report(workdir, report, figures=figures)


def _record(path, method, settings, ready, table):
  """Adds this run's numbers to a file in the form that results/README.md describes."""
  given = {k: v for k, v in settings.changed().items() if k not in ("seed", "workdir", "results")}
  command = " ".join(
    [f"python -m experiments.{method.name}", *(f"--{k}={_flag(v)}" for k, v in given.items())]
  )
  record = {
    "command": f"{command} --seed=SEED",
    "commit": launch.commit(),
    "hardware": launch.hardware(),
    "date": time.strftime("%Y-%m-%d"),
    "data": f"{ready.dataset.name}: {len(ready.dataset.train)} train, {len(ready.dataset.test)} "
    f"test, {ready.setup.image_size}x{ready.setup.image_size}x{ready.setup.channels}",
    "runs": [],
  }
  if path.exists():
    before = json.loads(path.read_text())
    if before["command"] != record["command"]:
      raise ValueError(
        f"--results={path} holds runs of {before['command']!r}, this is {record['command']!r}; "
        f"choose another file"
      )
    record["runs"] = before["runs"]
  for row, numbers in table.items():
    name = row.replace(" ", "_")
    run = {"method": name, "seed": settings.seed, "metrics": numbers}
    same = lambda r, name=name: (r["method"], r["seed"]) == (name, settings.seed)
    record["runs"] = [r for r in record["runs"] if not same(r)] + [run]
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(record, indent=1) + "\n")


def _flag(value):
  return ",".join(value) if isinstance(value, list) else value
