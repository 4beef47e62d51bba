"""Data sets as folders of image files, one folder a class."""

import functools
import os
from collections.abc import Sequence

import numpy as np
from absl import logging

from repjax.data.decode import decode, read_shape
from repjax.data.source import Dataset, check_labels, holdout, threaded

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
TEST_NAMES = ("test", "val", "valid", "validation")


class Folder:
  """Image files, decoded when asked for.

  Args:
    files: ``[n]`` paths.
    label: ``[n]`` int32.
    image_shape: ``(height, width, channels)`` that every image has once decoded; 1 channel is
      grey, 3 are RGB, transparency is dropped. Height and width of 0 are any.
    image_size: side to resize the centre square to; files are taken as they are if absent.
  """

  def __init__(
    self,
    files: Sequence[str],
    label: np.ndarray,
    image_shape: tuple[int, int, int],
    image_size: int | None = None,
  ):
    self.files = files
    self.label = label
    self.image_shape = image_shape
    self.image_size = image_size

  def __len__(self) -> int:
    return len(self.files)

  def __getitem__(self, i: int) -> dict[str, np.ndarray]:
    image = decode(self.files[i], self.image_shape[2], self.image_size)
    if image.shape != self.image_shape and self.image_shape[0]:
      raise ValueError(
        f"{self.files[i]} is {image.shape} but was to be {self.image_shape}; it changed since it "
        "was first read, start again"
      )
    return {"image": image, "label": self.label[i]}


def load_folder(
  path: str,
  *,
  image_size: int | None = None,
  seed: int = 0,
  test_fraction: float = 0.2,
  skip_unreadable: bool = False,
  progress: bool | None = None,
  any_size: bool = False,
) -> Dataset:
  """Finds ``train/CLASS/*`` and ``test/CLASS/*``, or ``CLASS/*`` to be split by the seed.

  ``val``, ``valid`` or ``validation`` stand in for ``test`` where it is absent. Classes and files
  are in the order of their names. Every file's header is read before this returns; pixels are
  decoded when asked for, upright (EXIF). Without ``image_size`` all images must have one size and
  be all grey or all coloured. With it the centre square of each is resized, and one coloured image
  makes all of them RGB.

  Args:
    path: the folder.
    image_size: side to resize to, > 0.
    seed: of the split, where there is none.
    test_fraction: share of each class to hold out, where there is no test folder.
    skip_unreadable: leave out files that do not decode, with a warning and their names in the
      result. Every file is then decoded once in advance.
    progress: whether to show a bar while headers are read; for more than 2,000 files if absent.
    any_size: leave images as they are, whatever their sizes, in RGB; for `Fitted`.

  Returns:
    The data set, read from disk on demand.

  Raises:
    FileNotFoundError: if there is no such folder or no image in it.
    ValueError: for unreadable files, mixed shapes, a single class, or a test class never trained.
  """
  if not os.path.isdir(path):
    raise FileNotFoundError(f"no folder {path}; --data=folder:PATH takes PATH/train/CLASS/*.jpg")
  splits = {"train": path}
  if os.path.isdir(os.path.join(path, "train")):
    splits["train"] = os.path.join(path, "train")
    found = [t for name in TEST_NAMES if os.path.isdir(t := os.path.join(path, name))]
    # A test folder of unlabelled images, beside a labelled val, is passed over.
    found = [t for t in found if _folders(t)] or found
    if found:
      splits["test"] = found[0]
  listed = {split: _list(where) for split, where in splits.items()}

  classes = tuple(listed["train"])
  for name in listed.get("test", ()):
    if name not in classes:
      raise ValueError(
        f"class {name!r} is in {splits['test']} but not in {splits['train']}, which has "
        f"{len(classes)} classes; add it there or remove it"
      )
  check_labels(path, np.arange(len(classes)), np.zeros(0, np.int32), classes)

  everything = [
    (split, file, y)
    for split, found in listed.items()
    for y, name in enumerate(classes)
    for file in found.get(name, ())
  ]
  files = [file for _, file, _ in everything]
  probe = functools.partial(_probe, verify=skip_unreadable)
  shapes = []
  probed = threaded(probe, files, title="scan", progress=progress)
  for file, shape in zip(files, probed, strict=True):
    if isinstance(shape, str) and not skip_unreadable:
      raise ValueError(shape)
    shapes.append((file, shape))
  skipped = tuple(file for file, shape in shapes if isinstance(shape, str))
  if skipped:
    logging.warning(
      "--skip_unreadable: left out %d of %d files under %s, the first is %s",
      *(len(skipped), len(files), path, skipped[0]),
    )
  if any_size:
    image_shape = (0, 0, 3)
  else:
    image_shape = _one_shape([x for x in shapes if not isinstance(x[1], str)], image_size, path)

  def source(split):
    kept = [
      (file, y)
      for (where, file, y), (_, shape) in zip(everything, shapes, strict=True)
      if where == split and not isinstance(shape, str)
    ]
    label = np.array([y for _, y in kept], np.int32)
    empty = set(listed[split]) - {classes[y] for y in label}
    if empty:
      raise ValueError(
        f"no file of class {min(empty)!r} in {splits[split]} is readable; mend or remove the class"
      )
    return Folder([file for file, _ in kept], label, image_shape, image_size)

  train = source("train")
  if "test" in splits:
    test = source("test")
  else:
    train, test = holdout(train, test_fraction, seed)
  return Dataset(f"folder:{path}", train, test, classes, skipped)


def _folders(path):
  with os.scandir(path) as entries:
    return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _list(path):
  """``{class: [files]}``, both sorted by name."""
  found = {}
  for name in _folders(path):
    folder = os.path.join(path, name)
    with os.scandir(folder) as entries:
      # Names with a leading dot are what systems leave behind, such as ._a.jpg.
      names = sorted(
        e.name
        for e in entries
        if e.name.lower().endswith(EXTENSIONS) and not e.name.startswith(".")
      )
    if not names:
      raise FileNotFoundError(
        f"class folder {folder} holds no image ({' '.join(EXTENSIONS)}); fill it or remove it"
      )
    found[name] = [os.path.join(folder, n) for n in names]
  if not found:
    raise FileNotFoundError(
      f"{path} holds no class folders; put images into {path}/CLASS/, or into {path}/train/CLASS/ "
      f"and {path}/test/CLASS/"
    )
  return found


def _probe(file, *, verify):
  """Shape of an image from its header, or the reason why there is none."""
  try:
    if verify:
      decode(file, 3)
    return read_shape(file)
  except ValueError as error:
    return str(error)


def _one_shape(shapes, image_size, path):
  if not shapes:
    raise ValueError(f"no file under {path} is readable; --skip_unreadable left none")
  first, shape = shapes[0]
  if image_size is not None:
    return image_size, image_size, max(shape[2] for _, shape in shapes)
  for file, other in shapes:
    if other != shape:
      a, b = ("{1}x{0} with {2} channel(s)".format(*s) for s in (shape, other))
      raise ValueError(
        f"{first} is {a} but {file} is {b}; bring all images to one size and colour with "
        "--image_size=N"
      )
  return shape
