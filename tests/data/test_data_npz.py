"""Archives: what goes in comes out, and what is wrong is named."""

import pathlib
import pickle

import numpy as np
import pytest

from repjax import data


def arrays(n=20, m=8, classes=4):
  rng = np.random.default_rng(0)
  return {
    "train_image": rng.integers(0, 256, (n, 4, 5, 3), dtype=np.uint8),
    "train_label": np.arange(n) % classes,
    "test_image": rng.integers(0, 256, (m, 4, 5, 3), dtype=np.uint8),
    "test_label": np.arange(m) % classes,
  }


def write(path, **replaced):
  """An archive with some arrays replaced, or left out if None."""
  kept = {key: value for key, value in (arrays() | replaced).items() if value is not None}
  np.savez(path / "set.npz", **kept)
  return str(path / "set.npz")


def test_arrays_come_back_as_they_were(tmp_path):
  found, wanted = data.load(f"npz:{write(tmp_path)}"), arrays()
  for split in ("train", "test"):
    source = getattr(found, split)
    np.testing.assert_array_equal(source.image, wanted[f"{split}_image"])
    np.testing.assert_array_equal(source.label, wanted[f"{split}_label"])
  assert found.classes == ("0", "1", "2", "3")


def test_keras_spelling_and_column_labels_are_understood(tmp_path):
  a = arrays()
  path = tmp_path / "keras.npz"
  np.savez(path, x_train=a["train_image"], y_train=a["train_label"][:, None],
           x_test=a["test_image"], y_test=a["test_label"][:, None])  # fmt: skip
  found = data.load(f"npz:{path}")
  np.testing.assert_array_equal(found.train.image, a["train_image"])
  np.testing.assert_array_equal(found.test.label, a["test_label"])


def test_class_names_are_read(tmp_path):
  path = write(tmp_path, classes=np.array(["ant", "bee", "cat", "dog", "elk"]))
  assert data.load(f"npz:{path}").classes == ("ant", "bee", "cat", "dog", "elk")


def test_labels_may_be_absent(tmp_path):
  found = data.load(f"npz:{write(tmp_path, train_label=None, test_label=None)}")
  assert set(found.train.label) == set(found.test.label) == {-1} and found.classes == ()


def test_without_test_arrays_the_seed_splits(tmp_path):
  path = write(tmp_path, test_image=None, test_label=None)
  one, same, other = (data.load(f"npz:{path}", seed=s, test_fraction=0.4) for s in (0, 0, 1))
  np.testing.assert_array_equal(one.test.indices, same.test.indices)
  assert not np.array_equal(one.test.indices, other.test.indices)
  np.testing.assert_array_equal(np.bincount(one.test.label), [2, 2, 2, 2])


def test_images_are_resized_to_the_centre_square(tmp_path):
  image = np.zeros((8, 4, 6, 1), np.uint8)
  image[:, :, 1:5] = 200  # The centre square alone is bright.
  path = write(tmp_path, train_image=image, train_label=np.arange(8) % 4, test_image=image)
  np.testing.assert_array_equal(
    data.load(f"npz:{path}", image_size=4).train.image, np.full((8, 4, 4, 1), 200)
  )


class Trap:
  """Unpickling this would write a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return (open, (str(self.path), "w"))


@pytest.mark.parametrize("key", ["train_image", "train_label", "test_image", "classes"])
def test_pickled_objects_are_refused_and_never_run(tmp_path, key):
  sprung = tmp_path / "sprung"
  path = write(tmp_path, **{key: np.array([Trap(sprung)], object)})
  with pytest.raises(ValueError, match=rf"set.npz: {key} .*pickled.*never loaded; .*{key}=np.st"):
    data.load(f"npz:{path}")
  assert not sprung.exists()


def test_a_bare_pickle_is_refused_and_never_run(tmp_path):
  path, sprung = tmp_path / "set.npz", tmp_path / "sprung"
  path.write_bytes(pickle.dumps(Trap(sprung)))
  with pytest.raises(ValueError, match=r"set.npz .* not an .npz archive"):
    data.load(f"npz:{path}")
  assert not sprung.exists()


IMAGE = arrays()["train_image"]


@pytest.mark.parametrize(
  ("replaced", "message"),
  [
    ({"train_image": None}, r"lacks train_image \(or x_train\), has .*'test_image'.*np.savez"),
    ({"test_image": None}, "has test_label but lacks test_image; save both"),
    ({"test_label": None}, "has train_label but lacks test_label; save both"),
    ({"train_label": None}, "has test_label but lacks train_label; save both"),
    ({"train_image": IMAGE / 255}, "train images are float64, not uint8; .*255"),
    ({"train_label": np.arange(19) % 4}, r"train labels have shape \(19,\) for 20 images"),
    ({"train_label": 1 + np.arange(20) % 4}, r"run to 4 over 4 classes and label 0 .*0\.\.3"),
    ({"train_label": 2 * (np.arange(20) % 4)}, r"run to 6 over 4 classes and label 1 .*0\.\.3"),
    ({"train_label": np.zeros(20, int)}, "one class only .'0'.; give at least two"),
    ({"test_label": np.arange(8)}, r"label 7 is out of range for 4 train classes; .*0\.\.3"),
    ({"train_label": np.arange(20) % 4 - 3}, "train labels go down to -3"),
    ({"test_image": IMAGE[:8, :, :4]}, r"\(4, 5, 3\) but test .*\(4, 4, 3\).*--image_size=N"),
    ({"classes": np.array(["a", "b"])}, "label 3 is out of range for 2 train classes"),
  ],
)
def test_bad_archives_are_refused(tmp_path, replaced, message):
  path = write(tmp_path, **replaced)
  with pytest.raises(ValueError, match=message) as error:
    data.load(f"npz:{path}")
  assert path in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_a_truncated_archive_is_named(tmp_path, keep):
  path = tmp_path / "set.npz"
  whole = pathlib.Path(write(tmp_path)).read_bytes()
  path.write_bytes(whole[: int(keep * len(whole))])
  with pytest.raises(ValueError, match=r"set.npz \(\d+ bytes\) is cut short .*copy it again"):
    data.load(f"npz:{path}")


def test_a_damaged_archive_is_named(tmp_path):
  path = tmp_path / "set.npz"
  whole = bytearray(pathlib.Path(write(tmp_path)).read_bytes())
  whole[400] ^= 255
  path.write_bytes(whole)
  with pytest.raises(ValueError, match=r"set.npz: train_image is damaged .*copy the file again"):
    data.load(f"npz:{path}")


def test_a_missing_archive_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"no file .*none\.npz; --data=npz:PATH"):
    data.load(f"npz:{tmp_path}/none.npz")
