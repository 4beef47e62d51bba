"""What every data set looks like once it is found: two sources of examples and their classes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from repjax.data.order import permutation

LONG = 2000  # Work on more examples than this shows a progress bar.


class Source(Protocol):
  """Random access to labelled images of one shape.

  A source that knows its labels without reading an image also has ``label``, ``[n]`` int32.

  Attributes:
    image_shape: ``(height, width, channels)`` of every image.
  """

  image_shape: tuple[int, int, int]

  def __len__(self) -> int: ...

  def __getitem__(self, i: int) -> dict[str, np.ndarray]:
    """Example ``i``: ``image`` uint8 ``[h, w, c]``, ``label`` int32 scalar, -1 = unlabelled."""
    ...


class Dataset(NamedTuple):
  """A named data set.

  Attributes:
    name: what it was asked for by, such as ``digits`` or ``folder:pets``.
    train: examples to learn from.
    test: examples to be judged on, disjoint from ``train``.
    classes: class names in label order; empty if nothing is labelled.
    skipped: files left out as unreadable.
  """

  name: str
  train: Source
  test: Source
  classes: tuple[str, ...]
  skipped: tuple[str, ...] = ()


class Arrays:
  """A source in memory.

  Args:
    image: uint8 ``[n, height, width, channels]``, or ``[n, height, width]`` for one channel.
    label: integers ``[n]`` or ``[n, 1]``, -1 = unlabelled; all unlabelled if absent.

  Raises:
    ValueError: for another dtype, rank or length, or a label under -1.
  """

  def __init__(self, image: np.ndarray, label: np.ndarray | None = None):
    image = np.asarray(image)
    if image.dtype != np.uint8:
      raise ValueError(
        f"images are {image.dtype}, not uint8; save pixels as 0..255, "
        "such as np.round(255 * image).astype(np.uint8) for images in [0, 1]"
      )
    if image.ndim == 3:
      image = image[..., None]
    if image.ndim != 4 or 0 in image.shape:
      raise ValueError(f"images have shape {image.shape}; expected [n, height, width, channels]")
    if image.shape[1] in (1, 3) and image.shape[3] > 4:
      raise ValueError(
        f"images have shape {image.shape}, channels first; move them last with "
        "image.transpose(0, 2, 3, 1)"
      )
    label = np.full(len(image), -1) if label is None else np.asarray(label)
    if label.ndim == 2 and label.shape[1] == 1:  # Keras keeps labels as a column.
      label = label[:, 0]
    if label.shape != image.shape[:1]:
      raise ValueError(
        f"labels have shape {label.shape} for {len(image)} images; expected [{len(image)}]"
      )
    if not np.issubdtype(label.dtype, np.integer):
      raise ValueError(f"labels are {label.dtype}; save them as integers from 0, -1 = unlabelled")
    if label.min() < -1:
      raise ValueError(f"labels go down to {label.min()}; number classes from 0, -1 = unlabelled")
    if label.max() > np.iinfo(np.int32).max:
      raise ValueError(f"labels go up to {label.max()}; number classes from 0, without gaps")
    self.image = image
    self.label = label.astype(np.int32)
    self.image_shape = image.shape[1:]

  def __len__(self) -> int:
    return len(self.image)

  def __getitem__(self, i: int) -> dict[str, np.ndarray]:
    return {"image": self.image[i], "label": self.label[i]}


class Subset:
  """Some examples of a source, read when asked for.

  Args:
    source: where they are.
    indices: ``[n]`` integers, their places there.
  """

  def __init__(self, source: Source, indices: np.ndarray):
    self.source = source
    self.indices = np.asarray(indices, np.int64)
    self.image_shape = source.image_shape
    if getattr(source, "label", None) is not None:
      self.label = source.label[self.indices]

  def __len__(self) -> int:
    return len(self.indices)

  def __getitem__(self, i: int) -> dict[str, np.ndarray]:
    return self.source[self.indices[i]]


class Fitted:
  """A source whose images go through a function when they are read, such as a resize.

  Args:
    source: where they are; of any sizes.
    function: uint8 ``[height, width, channels] -> image_shape``.
    image_shape: ``(height, width, channels)`` of its results.
  """

  def __init__(
    self,
    source: Source,
    function: Callable[[np.ndarray], np.ndarray],
    image_shape: tuple[int, int, int],
  ):
    self.source = source
    self.function = function
    self.image_shape = image_shape
    if getattr(source, "label", None) is not None:
      self.label = source.label

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, i: int) -> dict[str, np.ndarray]:
    row = self.source[i]
    return {"image": self.function(row["image"]), "label": row["label"]}


def take(source: Source, indices: np.ndarray) -> dict[str, np.ndarray]:
  """Reads some examples as one batch.

  Args:
    source: where they are.
    indices: ``[batch]`` integers in ``[0, len(source))``.

  Returns:
    ``image`` uint8 ``[batch, h, w, c]`` and ``label`` int32 ``[batch]``.
  """
  if isinstance(source, Subset):
    return take(source.source, source.indices[indices])
  if isinstance(source, Arrays):
    return {"image": source.image[indices], "label": source.label[indices]}
  if not len(indices):
    return {"image": np.zeros((0, *source.image_shape), np.uint8), "label": np.zeros(0, np.int32)}
  rows = [source[int(i)] for i in indices]
  image = np.stack([row["image"] for row in rows])
  return {"image": image, "label": np.array([row["label"] for row in rows], np.int32)}


def channel_statistics(
  source: Source, *, examples: int = 2048
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Mean and deviation of each channel, for `repjax.augment.normalize`.

  Args:
    source: what to measure.
    examples: how many to look at, spread over the source by a fixed draw.

  Returns:
    Both for pixels in [0, 1]; the deviation of a channel that never changes is given as 1.
  """
  rows = permutation(0, 0, len(source))[:examples]
  image = take(source, rows)["image"].astype(np.float64) / 255
  mean, std = image.mean((0, 1, 2)), image.std((0, 1, 2))
  return tuple(mean.tolist()), tuple(np.where(std > 1e-3, std, 1.0).tolist())


def nbytes(source: Source) -> int:
  """Bytes that all images of a source take once decoded."""
  return len(source) * int(np.prod(source.image_shape))


def in_memory(source: Source, *, progress: bool | None = None) -> Arrays:
  """Decodes a whole source, in threads.

  Args:
    source: what to read.
    progress: whether to show a bar; for more than 2,000 examples if absent.

  Returns:
    The same examples in the same order.
  """
  if isinstance(source, Arrays):
    return source
  if isinstance(source, Subset) and isinstance(source.source, Arrays):
    return Arrays(**take(source, np.arange(len(source))))
  image = np.empty((len(source), *source.image_shape), np.uint8)
  label = np.empty(len(source), np.int32)

  def read(i):
    row = source[i]
    image[i], label[i] = row["image"], row["label"]

  for _ in threaded(read, range(len(source)), title="decode", progress=progress):
    pass
  return Arrays(image, label)


def holdout(source: Source, fraction: float, seed: int) -> tuple[Subset, Subset]:
  """Splits a source in two, each class in the same ratio where labels are known.

  A class of two or more has at least one example on either side; a class of one stays in the rest.
  A source whose labels are known only by reading it is split as one class.

  Args:
    source: what to split.
    fraction: share to hold out, in (0, 1).
    seed: of the draw, >= 0.

  Returns:
    The rest and the held-out part: disjoint, together the whole, both in the source's order.

  Raises:
    ValueError: if the fraction is out of range or no class has two examples.
  """
  if not 0 < fraction < 1:
    raise ValueError(f"cannot hold out a fraction of {fraction}; choose one between 0 and 1")
  label = getattr(source, "label", None)
  label = np.zeros(len(source), np.int32) if label is None else label
  order = permutation(seed, 0, len(source))
  held = np.zeros(len(source), bool)
  for y in np.unique(label):
    members = order[label[order] == y]
    held[members[: min(max(round(fraction * len(members)), 1), len(members) - 1)]] = True
  if not held.any():
    raise ValueError(
      f"cannot hold out {fraction} of {len(source)} examples with one a class; give a test split"
    )
  return Subset(source, np.flatnonzero(~held)), Subset(source, np.flatnonzero(held))


def check_labels(
  name: str, train: np.ndarray, test: np.ndarray, classes: Sequence[str] | None = None
) -> tuple[str, ...]:
  """Checks that labels number the classes.

  Args:
    name: what to call the data in errors.
    train: ``[n]`` labels to learn from, -1 = unlabelled.
    test: ``[m]`` labels to be judged on.
    classes: names in label order; the labels in ``train`` as words if absent.

  Returns:
    The class names; none if nothing is labelled.

  Raises:
    ValueError: for a label without class, a gap in the numbering, or a single class.
  """
  present = np.unique(train[train >= 0])
  if classes is None:
    if not len(present) and test.max(initial=-1) < 0:
      return ()
    if not np.array_equal(present, np.arange(len(present))):
      missing = np.setdiff1d(np.arange(len(present)), present)
      raise ValueError(
        f"{name}: train labels run to {present[-1]} over {len(present)} classes and label "
        f"{missing[0]} has no example; number them 0..{len(present) - 1} with "
        "np.unique(label, return_inverse=True)[1]"
      )
    classes = [str(y) for y in present]
  if len(classes) == 1:
    raise ValueError(
      f"{name}: one class only ({classes[0]!r}); give at least two, or label everything -1 "
      "(unlabelled)"
    )
  highest = max(train.max(initial=-1), test.max(initial=-1))
  if highest >= len(classes):
    raise ValueError(
      f"{name}: label {highest} is out of range for {len(classes)} train classes; number them "
      f"0..{len(classes) - 1}, -1 = unlabelled"
    )
  return tuple(classes)


def threaded(
  function: Callable[[Any], Any], items: Sequence, *, title: str, progress: bool | None = None
) -> Iterator[Any]:
  """Applies a function to many items in threads, in order, and stops at the first error.

  Args:
    function: of one item; worth it where it lets go of the interpreter lock, as decoding does.
    items: what to apply it to.
    title: of the progress bar.
    progress: whether to show the bar; for more than 2,000 items if absent.

  Yields:
    The results in the order of the items.
  """
  # By the chunk: a future per file would take gigabytes for millions of them.
  chunks = [items[i : i + 64] for i in range(0, len(items), 64)]
  show = len(items) > LONG if progress is None else progress
  with (
    futures.ThreadPoolExecutor() as pool,
    tqdm(total=len(items), desc=title, unit="img", disable=not show) as bar,
  ):
    for results in pool.map(lambda chunk: [function(item) for item in chunk], chunks):
      bar.update(len(results))
      yield from results
