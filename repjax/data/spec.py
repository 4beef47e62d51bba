"""From ``--data=...`` to a data set."""

import os

from repjax.data.embedded import digits
from repjax.data.folder import load_folder
from repjax.data.npz import load_npz
from repjax.data.source import Dataset
from repjax.data.tfds import load_tfds


def load(
  spec: str,
  *,
  image_size: int | None = None,
  seed: int = 0,
  test_fraction: float = 0.2,
  skip_unreadable: bool = False,
  progress: bool | None = None,
  any_size: bool = False,
) -> Dataset:
  """Opens a data set by name.

  Args:
    spec: ``digits``, ``npz:PATH``, ``folder:PATH`` or ``tfds:NAME``.
    image_size: side to resize images to, > 0; as they are if absent.
    seed: of the split, for data without a test split.
    test_fraction: share of the examples to hold out, for data without a test split.
    skip_unreadable: leave out files that do not decode (``folder:`` only).
    progress: whether to show a bar while headers are read (``folder:`` only); for more than 2,000
      files if absent.
    any_size: leave the images of a ``folder:`` as they are, in RGB; the other kinds have one size.

  Returns:
    The data set; only ``folder:`` and ``tfds:`` are read lazily.

  Raises:
    FileNotFoundError: if there is nothing at the path.
    ValueError: if the spec or the data is not as described.
  """
  kind, _, where = spec.partition(":")
  if (kind == "digits") == bool(where) or kind not in ("digits", "npz", "folder", "tfds"):
    raise ValueError(f"--data={spec} is not one of digits, npz:PATH, folder:PATH, tfds:NAME")
  if image_size is not None and image_size < 1:
    raise ValueError(f"--image_size={image_size} is not positive; choose at least 1")
  if kind == "digits":
    return digits(image_size)
  if kind == "tfds":
    return load_tfds(where, image_size=image_size, seed=seed, test_fraction=test_fraction)
  where = os.path.expanduser(where)
  options = {"image_size": image_size, "seed": seed, "test_fraction": test_fraction}
  if kind == "npz":
    return load_npz(where, **options)
  return load_folder(
    where, **options, skip_unreadable=skip_unreadable, progress=progress, any_size=any_size
  )
