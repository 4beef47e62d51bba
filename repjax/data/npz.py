"""Data sets in one NumPy archive."""

import os
import zipfile
import zlib

import numpy as np

from repjax.data.resize import fit_array
from repjax.data.source import Arrays, Dataset, check_labels, holdout

# The second spelling is that of Keras.
KEYS = {
  "train_image": ("train_image", "x_train"),
  "train_label": ("train_label", "y_train"),
  "test_image": ("test_image", "x_test"),
  "test_label": ("test_label", "y_test"),
  "classes": ("classes",),
}


def load_npz(
  path: str, *, image_size: int | None = None, seed: int = 0, test_fraction: float = 0.2
) -> Dataset:
  """Reads ``train_image, train_label, test_image, test_label`` (or ``x_train, y_train, ...``).

  Labels may be absent (unlabelled), and so may the test arrays (then part of the train arrays is
  held out). Class names may be given as an array of strings, ``classes``.

  Args:
    path: an ``.npz`` file.
    image_size: side to resize to; as stored if absent.
    seed: of the split, where the file has none.
    test_fraction: share of the examples to hold out, where the file has no test arrays.

  Returns:
    The data set in memory.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged, lacks images, or holds anything but uint8 images and integer
      labels. Pickled objects are never loaded.
  """
  arrays = _read(path)
  if "train_image" not in arrays:
    raise ValueError(
      f"{path} lacks train_image (or x_train), has {sorted(arrays)}; save it with "
      "np.savez(path, train_image=..., train_label=..., test_image=..., test_label=...)"
    )
  if "test_label" in arrays and "test_image" not in arrays:
    raise ValueError(f"{path} has test_label but lacks test_image; save both or neither")
  if "test_image" in arrays and ("train_label" in arrays) != ("test_label" in arrays):
    has, lacks = ("train_label", "test_label")[:: 1 if "train_label" in arrays else -1]
    raise ValueError(f"{path} has {has} but lacks {lacks}; save both or neither")

  def source(split):
    try:
      found = Arrays(arrays[f"{split}_image"], arrays.get(f"{split}_label"))
    except ValueError as error:
      raise ValueError(f"{path}: {split} {error}") from None
    if image_size is None:
      return found
    return Arrays(np.stack([fit_array(x, image_size) for x in found.image]), found.label)

  train = source("train")
  if "test_image" in arrays:
    test = source("test")
  else:
    train, test = holdout(train, test_fraction, seed)
  if train.image_shape != test.image_shape:
    raise ValueError(
      f"{path}: train images are {train.image_shape} but test images are {test.image_shape}; "
      "give one size with --image_size=N"
    )
  classes = arrays.get("classes")
  classes = None if classes is None else [str(c) for c in classes]
  return Dataset(f"npz:{path}", train, test, check_labels(path, train.label, test.label, classes))


def _read(path):
  if not os.path.isfile(path):
    raise FileNotFoundError(f"no file {path}; --data=npz:PATH takes an .npz file")
  if not zipfile.is_zipfile(path):
    raise ValueError(
      f"{path} ({os.path.getsize(path)} bytes) is cut short or not an .npz archive; copy it again, "
      "or write it with np.savez"
    )
  arrays = {}
  with np.load(path, allow_pickle=False) as archive:
    for name, spellings in KEYS.items():
      for key in spellings:
        if key not in archive:
          continue
        try:
          arrays[name] = archive[key]
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
          raise ValueError(f"{path}: {key} is damaged ({error}); copy the file again") from None
        except ValueError as error:
          raise ValueError(
            f"{path}: {key} is no plain array ({str(error).splitlines()[0]}): pickled objects can "
            "run code and are never loaded; save numbers with np.savez(path, "
            f"{key}=np.stack(...))"
          ) from None
  return arrays
