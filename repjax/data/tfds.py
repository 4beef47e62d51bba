"""Data sets prepared by TensorFlow Datasets, read at random without TensorFlow's pipeline."""

import os
import warnings
from collections.abc import Sequence

import numpy as np

from repjax.data.resize import fit_array
from repjax.data.source import Dataset, check_labels, holdout


class Tfds:
  """One split of a TFDS data set, decoded when asked for.

  Args:
    rows: random access to dictionaries with ``image`` and ``label``.
    image_shape: ``(height, width, channels)`` that every image has once decoded.
    image_size: side to resize the centre square to; as stored if absent.
    name: what to call the data in errors.
  """

  def __init__(
    self,
    rows: Sequence[dict],
    image_shape: tuple[int, int, int],
    image_size: int | None,
    name: str,
  ):
    self.rows = rows
    self.image_shape = image_shape
    self.image_size = image_size
    self.name = name

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, i: int) -> dict[str, np.ndarray]:
    row = self.rows[i]
    image = fit_array(row["image"], self.image_size)
    if image.shape != self.image_shape or image.dtype != np.uint8:
      raise ValueError(
        f"{self.name}: example {i} is {image.dtype} {image.shape} but was to be uint8 "
        f"{self.image_shape}; prepare the data again"
      )
    return {"image": image, "label": np.int32(row["label"])}


def load_tfds(
  name: str, *, image_size: int | None = None, seed: int = 0, test_fraction: float = 0.2
) -> Dataset:
  """Opens a TFDS data set, preparing it first if that was never done.

  It is looked for under ``TFDS_DATA_DIR`` (``~/tensorflow_datasets`` if unset). The test split is
  ``test`` where it is labelled, else ``validation``, else held out of ``train`` by the seed.

  Args:
    name: as TFDS has it: ``mnist``, ``name/config:version``.
    image_size: side to resize to; needed where sizes differ.
    seed: of the split, where there is none.
    test_fraction: share to hold out, where there is no test split.

  Returns:
    The data set, read from disk on demand.

  Raises:
    ImportError: if TFDS is not installed.
    ValueError: if the name is unknown, the data cannot be prepared, or has no image and label.
  """
  flag = f"--data=tfds:{name}"
  builder = _prepare(name, flag)
  features = builder.info.features
  # A set whose splits are not written down, as under TFDS's own mock, has the usual two.
  splits = list(builder.info.splits) or ["train", "test"]
  if "train" not in splits:
    raise ValueError(f"{flag} has splits {sorted(splits)}, no train split; choose another set")
  if not {"image", "label"} <= set(features):
    raise ValueError(
      f"{flag} has features {sorted(features)}; image and label are needed, choose another set"
    )
  if features["image"].np_dtype != np.uint8:
    raise ValueError(f"{flag} has {features['image'].np_dtype} images, not uint8; choose another")
  classes = getattr(features["label"], "names", None)
  if classes is None:
    raise ValueError(f"{flag} has label {features['label']}, no class label; choose another")
  height, width, channels = features["image"].shape
  if image_size is not None:
    height = width = image_size
  if None in (height, width):
    raise ValueError(f"{flag} has images of mixed sizes; give one size with --image_size=N")

  def source(split):
    return Tfds(builder.as_data_source(split), (height, width, channels), image_size, flag)

  train = source("train")
  judged = [split for split in ("test", "validation") if split in splits]
  if judged:
    test = source(judged[0])
    # Competitions publish test images with label -1.
    if len(judged) == 2 and test[0]["label"] < 0:
      test = source(judged[1])
  else:
    train, test = holdout(train, test_fraction, seed)
  nothing = np.zeros(0, np.int32)
  return Dataset(f"tfds:{name}", train, test, check_labels(flag, nothing, nothing, classes))


def _prepare(name, flag):
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # TensorFlow's imports warn of their own accord.
      import tensorflow_datasets as tfds
  except ImportError as error:
    raise ImportError(f"{flag} needs TFDS: pip install 'repjax[tfds]'") from error
  where = os.environ.get("TFDS_DATA_DIR", os.path.join("~", "tensorflow_datasets"))
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      builder = tfds.builder(
        name, data_dir=os.path.expanduser(where), file_format=tfds.core.FileFormat.ARRAY_RECORD
      )
      builder.download_and_prepare()
      return builder
  except tfds.core.DatasetNotFoundError:
    raise ValueError(
      f"{flag} is no data set that TFDS knows, nor prepared under {where}; see "
      "https://www.tensorflow.org/datasets/catalog, or set TFDS_DATA_DIR to where it lies"
    ) from None
  except Exception as error:  # Network, disk and generators raise what they like.
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    raise ValueError(
      f"{flag} cannot be prepared under {where} ({reason}); run 'tfds build {name} "
      "--file_format=array_record' where there is a network and set TFDS_DATA_DIR to the result"
    ) from error
