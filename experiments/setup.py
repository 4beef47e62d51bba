"""From flags to the parts of a pretraining run: data, encoder, learner, protocols."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import linen as nn
from jax.sharding import Mesh

from repjax import augment, data, evaluate
from repjax.encoders import resnet, vit
from repjax.evaluate.pictures import Reconstructions
from repjax.learners import Learner, Objective, by_gradient
from repjax.train import Feed, Schedule, launch, make_mesh
from repjax.train.feed import check_divisible
from repjax.train.launch import Settings
from repjax.train.mesh import local_rows

# --- data -----------------------------------------------------------------------------------------
flags.DEFINE_string("data", "digits", "digits, npz:PATH, folder:PATH or tfds:NAME.")
flags.DEFINE_integer("image_size", None, "Side to resize images to; as they are if absent.")
flags.DEFINE_float(
  "test_fraction", 0.2, "Share held out of data without a test split.", lower_bound=0, upper_bound=1
)
flags.DEFINE_bool("skip_unreadable", False, "Leave out image files that do not decode.")
flags.DEFINE_integer(
  "device_data_mb", 2048, "Larger train splits stream from disk (MiB decoded).", lower_bound=0
)
flags.DEFINE_integer(
  "workers", 0, "Processes that decode a streamed split; 0: threads.", lower_bound=0
)
flags.DEFINE_float(
  "validation", 0.1, "Share held out of training for --eval_every.", lower_bound=0, upper_bound=1
)
flags.DEFINE_float("min_area", None, "Least share of the image in a crop; if absent, the method's.")
flags.DEFINE_integer(
  "view_size",
  None,
  "Side of what the encoder sees, cropped or resized from the image; the image's.",
)
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

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


class Setup(NamedTuple):
  """What a method is built from.

  Attributes:
    encoder: Flax module, images to `Features`.
    normalize: ``image -> image``, the last step before the encoder; resizes what is not a view.
    image_size: side of what the encoder sees.
    channels: of the images.
    classes: class names; empty if nothing is labelled.
    axis_name: mapped axis that holds the rest of a batch, under pmap.
    dtype: of the computation.
    steps: length of the run.
  """

  encoder: nn.Module
  normalize: Callable[[jax.Array], jax.Array]
  image_size: int
  channels: int
  classes: tuple[str, ...]
  axis_name: str | None
  dtype: Any
  steps: int


class Method(NamedTuple):
  """What a launcher adds.

  Attributes:
    name: of the experiment and its row in tables.
    objective: ``(settings, setup) -> Objective``.
    launcher: module of experiments that runs it; ``ssl --method=NAME`` if absent.
    labels: whether it trains on labels.
    views: of an image that the trained net encodes in a step, in the area of a large one.
    stem: of a ViT, where ``--stem`` is not given.
    next_command: what a reader may try next.
    reconstruct: ``(settings, setup, state, images) -> Reconstructions``, for the report, if any.
  """

  name: str
  objective: Callable[[Settings, Setup], Objective]
  launcher: str | None = None
  labels: bool = False
  views: float = 2
  stem: str = "patch"
  next_command: str = ""
  reconstruct: Callable[..., Reconstructions] | None = None

  def command(self) -> str:
    """How it is run."""
    return f"python -m experiments.{self.launcher or f'ssl --method={self.name}'}"


class Built(NamedTuple):
  """What the flags make of data of a given shape, before any of it is read.

  Attributes:
    setup: what the method was built from.
    learner: the method and its optimizer.
    steps: length of the run.
    rate: the learning rate by step.
  """

  setup: Setup
  learner: Learner
  steps: int
  rate: Callable[[int], Any]


class Prepared(NamedTuple):
  """Everything that the flags decide, built and checked.

  Attributes:
    dataset: train and test split.
    bank: what is trained on, and searched for neighbours while it runs.
    held: what evaluation looks at while it runs, if it does.
    setup: what the method was built from.
    statistics: mean and deviation of the bank's channels, in [0, 1].
    learner: the method and its optimizer.
    feed: its batches.
    schedule: what happens when.
    rate: the learning rate by step.
    mesh: the devices.
    protocols: what the table at the end holds.
  """

  dataset: data.Dataset
  bank: data.Source
  held: data.Source | None
  setup: Setup
  statistics: Statistics
  learner: Learner
  feed: Feed
  schedule: Schedule
  rate: Callable[[int], Any]
  mesh: Mesh
  protocols: tuple[Callable[..., dict[str, float]], ...]


def load(settings: Settings, *, any_size: bool = False) -> data.Dataset:
  """The data that the flags name.

  Args:
    settings: the flags.
    any_size: leave images as they are, whatever --image_size says.

  Returns:
    Train and test split.

  Raises:
    ValueError: if they name none, or it cannot be read.
  """
  # Flags are read where they matter, so that one without effect is found out.
  options = {"image_size": None if any_size else settings.image_size, "seed": settings.seed}
  if settings.data != "digits":
    options["test_fraction"] = settings.test_fraction
  if settings.data.startswith("folder:"):
    options["skip_unreadable"] = settings.skip_unreadable
    options |= {"progress": _bars(settings), "any_size": any_size}
  return data.load(settings.data, **options)


def prepare(
  method: Method,
  settings: Settings,
  *,
  statistics: Statistics | None = None,
  dataset: data.Dataset | None = None,
) -> Prepared:
  """Builds what the flags ask for.

  Args:
    method: what the launcher adds.
    settings: the flags.
    statistics: mean and deviation of the channels; measured on the train split if absent.
    dataset: what to train and to be judged on; what the flags load if absent.

  Returns:
    The parts of a run.

  Raises:
    ValueError: if flags or data do not fit together.
  """
  mesh = make_mesh(settings.mesh)
  dataset = dataset or load(settings)
  progress = _bars(settings)
  resident = data.nbytes(dataset.train) <= settings.device_data_mb * 2**20
  workers = 0 if resident else settings.workers
  if resident:
    dataset = dataset._replace(
      train=data.in_memory(dataset.train, progress=progress),
      test=data.in_memory(dataset.test, progress=progress),
    )
  if method.labels and not dataset.classes:
    raise ValueError(
      f"--data={settings.data} has no labels and {method.name} needs them; "
      f"try python -m experiments.simclr"
    )
  bank, held = dataset.train, None
  if settings.eval_every:
    if not 0 < settings.validation < 1:
      raise ValueError(
        f"--validation={settings.validation} leaves --eval_every={settings.eval_every} nothing; "
        f"choose a share between 0 and 1"
      )
    bank, held = data.holdout(dataset.train, settings.validation, settings.seed)
    bank, held = (data.in_memory(x) if resident else x for x in (bank, held))
  if settings.batch_size > len(bank):
    raise ValueError(
      f"--batch_size={settings.batch_size} is larger than the train split of {len(bank)}; "
      f"choose at most {len(bank)}"
    )
  check_divisible(settings.batch_size, mesh)
  height, width, _ = dataset.train.image_shape
  if height != width:
    raise ValueError(
      f"--data={settings.data} has images of {height}x{width}; "
      f"give --image_size={min(height, width)} to resize and cut them square"
    )
  statistics = statistics or data.channel_statistics(bank)
  built = build(
    method,
    settings,
    image_shape=dataset.train.image_shape,
    classes=dataset.classes,
    examples=len(bank),
    statistics=statistics,
  )
  return Prepared(
    dataset=dataset,
    bank=bank,
    held=held,
    setup=built.setup,
    statistics=statistics,
    learner=built.learner,
    feed=make_feed(
      bank, settings.batch_size, settings.seed, mesh, resident=resident, workers=workers
    ),
    schedule=launch.make_schedule(settings, built.steps, best="val/knn_20"),
    rate=built.rate,
    mesh=mesh,
    protocols=protocols(settings, dataset),
  )


def build(
  method: Method,
  settings: Settings,
  *,
  image_shape: tuple[int, int, int],
  classes: tuple[str, ...],
  examples: int,
  statistics: Statistics,
) -> Built:
  """Builds encoder, method and optimizer for data that need not be at hand.

  Args:
    method: what the launcher adds.
    settings: the flags.
    image_shape: ``(size, size, channels)`` of the images.
    classes: class names; empty if nothing is labelled.
    examples: of the train split.
    statistics: mean and deviation of the channels, in [0, 1].

  Returns:
    The parts of a run that do not hold data.

  Raises:
    ValueError: if flags or sizes do not fit together.
  """
  if settings.batch_size % settings.accumulate:
    raise ValueError(
      f"--accumulate={settings.accumulate} does not divide --batch_size={settings.batch_size}; "
      f"choose a divisor"
    )
  axis_name = "data" if settings.parallel == "pmap" else None
  dtype = jnp.dtype(settings.dtype)
  mean, std = statistics
  size = settings.view_size or image_shape[0]
  steps = launch.total_steps(settings, examples)
  setup = Setup(
    encoder=make_encoder(settings, size, vit_stem=method.stem, axis_name=axis_name, dtype=dtype),
    normalize=functools.partial(_normalize, size=size, mean=mean, std=std),
    image_size=size,
    channels=image_shape[2],
    classes=classes,
    axis_name=axis_name,
    dtype=dtype,
    steps=steps,
  )
  optimizer, rate = launch.make_optimizer(settings, steps)
  learner = by_gradient(
    method.objective(settings, setup),
    optimizer,
    accumulate=settings.accumulate,
    axis_name=axis_name,
  )
  return Built(setup, learner, steps, rate)


def make_encoder(
  settings: Settings, image_size: int, *, vit_stem: str, axis_name: str | None, dtype: Any
) -> nn.Module:
  """The encoder that ``--encoder`` names.

  Args:
    settings: the flags.
    image_size: side of the images.
    vit_stem: of a ViT, where ``--stem`` is not given.
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
    stem=settings.stem or vit_stem,
    pool=settings.pool,
    scan=settings.scan,
    remat=settings.remat,
    dtype=dtype,
  )
  if image_size % encoder.patch_size:
    fit = max(image_size // encoder.patch_size, 1) * encoder.patch_size
    raise ValueError(
      f"images of {image_size} pixels are not divisible by the patch of "
      f"--encoder={settings.encoder}; give --view_size={fit} or another patch"
    )
  return encoder


def make_feed(
  source: data.Source, batch_size: int, seed: int, mesh: Mesh, *, resident: bool, workers: int = 0
) -> Feed:
  """Batches of a source, from the devices' memory or streamed; the same either way.

  Args:
    source: what to train on.
    batch_size: examples of a batch, over all processes.
    seed: of the order.
    mesh: what they are split over.
    resident: whether the source is kept on the devices.
    workers: processes that decode a streamed source.

  Returns:
    The feed.
  """
  rows = local_rows(mesh, batch_size)
  if not resident:
    options = {"batch_size": batch_size, "seed": seed, "workers": workers, "rows": rows}
    return Feed(lambda step: data.batches(source, start=step, **options), batch_size)

  def batches(start: int) -> Iterator[np.ndarray]:
    for step in itertools.count(start):
      first = step * batch_size
      batch = data.indices(seed, first, first + batch_size, len(source))
      yield batch[rows].astype(np.int32)

  return Feed(batches, batch_size, {"image": source.image, "label": source.label})


def _normalize(image, *, size, mean, std):
  if image.shape[1] != size:
    image = jax.image.resize(image, (len(image), size, size, image.shape[3]), "linear")
  return augment.normalize(image, mean, std)


def _bars(settings: Settings) -> bool | None:
  """For long work alone, or none."""
  return None if settings.progress else False


def protocols(
  settings: Settings, dataset: data.Dataset
) -> tuple[Callable[..., dict[str, float]], ...]:
  """What ``--protocols`` names.

  Args:
    settings: the flags.
    dataset: what is evaluated on.

  Returns:
    The protocols, in the order of the flag.

  Raises:
    ValueError: if one is unknown or the data has too few labels for it.
  """
  known = {
    "few_shot": evaluate.few_shot,
    "knn": evaluate.knn,
    "linear": evaluate.linear_probe,
    "episodes": evaluate.episodes,  # of the test split's classes
    "kmeans": evaluate.kmeans,
    "retrieval": evaluate.retrieval,
    "sgd_linear": evaluate.sgd_probe,
    "spectrum": evaluate.spectrum,
    "verification": evaluate.verification,
  }
  if not settings.protocols or set(settings.protocols) - known.keys():
    raise ValueError(
      f"--protocols={','.join(settings.protocols)} is no list of protocols; "
      f"choose of {', '.join(known)}"
    )
  if "few_shot" in settings.protocols:
    shots = whole_numbers("shots", settings.shots)
    known["few_shot"] = functools.partial(evaluate.few_shot, shots=shots)
  label = getattr(dataset.train, "label", None)
  if "few_shot" in settings.protocols and label is not None and dataset.classes:
    counts = np.bincount(label[label >= 0], minlength=len(dataset.classes))
    if counts.min() < max(shots):
      raise ValueError(
        f"class {dataset.classes[counts.argmin()]!r} has {counts.min()} train examples, "
        f"fewer than --shots={max(shots)}; lower --shots or leave few_shot out of --protocols"
      )
  label = getattr(dataset.test, "label", None)
  if "episodes" in settings.protocols and label is not None and dataset.classes:
    counts = np.unique_counts(label[label >= 0]).counts
    if len(counts) < 5 or counts.min() < 20:
      raise ValueError(
        f"the test split has {len(counts)} classes, the least of {counts.min()} examples: too few "
        f"for episodes of 5 classes with 20 each; leave episodes out of --protocols"
      )
  return tuple(known[name] for name in settings.protocols)


def whole_numbers(name: str, texts: Sequence[str]) -> tuple[int, ...]:
  """Reads a flag that is a list of numbers.

  Args:
    name: of the flag.
    texts: its items.

  Returns:
    The numbers, each at least 1.

  Raises:
    ValueError: if an item is none, or there are none.
  """
  if not texts or not all(text.strip().isdigit() and int(text) for text in texts):
    raise ValueError(f"--{name}={','.join(texts)} is not a list of numbers above 0; write 1,5")
  return tuple(int(text) for text in texts)
