"""TFDS without a network: its own mock, and a real data set prepared on disk."""

import itertools
import warnings

import numpy as np
import pytest

from repjax import data

with warnings.catch_warnings():
  warnings.simplefilter("ignore")
  tfds = pytest.importorskip("tensorflow_datasets")
  from tensorflow_datasets.core import registered

CLASSES = ("ant", "bee", "cat")


def pixels(split, i, size):
  seed = {"train": 0, "validation": 1, "test": 2}[split]
  return np.random.default_rng([seed, i]).integers(0, 256, (*size, 3), dtype=np.uint8)


# Unregistered, they are found by their files alone, as a set prepared elsewhere is.
with registered.skip_registration():

  class Tiny(tfds.core.GeneratorBasedBuilder):
    """Nine images to learn from, three to be judged on."""

    VERSION = tfds.core.Version("1.0.0")
    SIZE = (6, 8)
    SPLITS = ("train", "test")

    def _info(self):
      image = tfds.features.Image(shape=(*self.SIZE, 3), encoding_format="png")
      label = tfds.features.ClassLabel(names=CLASSES)
      return tfds.core.DatasetInfo(
        builder=self, features=tfds.features.FeaturesDict({"image": image, "label": label})
      )

    def _split_generators(self, dl_manager):
      return {split: self._generate_examples(split) for split in self.SPLITS}

    def _generate_examples(self, split):
      for i in range(9 if split == "train" else 3):
        yield i, self._example(split, i)

    def _example(self, split, i):
      return {"image": pixels(split, i, self.SIZE), "label": i % 3}

  class TinyMixed(Tiny):
    """Images of mixed sizes, judged on a validation split as the test labels are kept back."""

    SIZE = (None, None)
    SPLITS = ("train", "validation", "test")

    def _example(self, split, i):
      return {"image": pixels(split, i, (6 + i, 8)), "label": -1 if split == "test" else i % 3}

  class TinyTrain(Tiny):
    """No test split."""

    SPLITS = ("train",)

  class TinyBoxes(Tiny):
    """Neither image nor label by these names."""

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self, features=tfds.features.FeaturesDict({"picture": np.uint8, "box": np.float32})
      )

    def _example(self, split, i):
      return {"picture": 0, "box": 0.0}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  where = tmp_path_factory.mktemp("tfds")
  for builder in (Tiny, TinyMixed, TinyTrain, TinyBoxes):
    builder(data_dir=where, file_format="array_record").download_and_prepare()
  return where


@pytest.fixture
def load(prepared, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
  return lambda name, **options: data.load(f"tfds:{name}", **options)


def key(image):
  return image.tobytes()


def test_what_was_prepared_is_read(load):
  found = load("tiny")
  assert found.classes == CLASSES and found.train.image_shape == (6, 8, 3)
  for split, source, n in (("train", found.train, 9), ("test", found.test, 3)):
    arrays = data.in_memory(source)
    # TFDS shuffles once when it prepares; the set of examples is what must be kept.
    wanted = {key(pixels(split, i, (6, 8))): i % 3 for i in range(n)}
    assert {key(x): y for x, y in zip(arrays.image, arrays.label, strict=True)} == wanted


def test_access_is_random_and_repeatable(load):
  source = load("tiny").train
  forward = [source[i]["image"] for i in range(9)]
  for i in reversed(range(9)):
    np.testing.assert_array_equal(source[i]["image"], forward[i])


def test_it_streams_each_example_once_an_epoch(load):
  stream = data.batches(load("tiny").train, batch_size=3, seed=0)
  epoch = [key(x) for batch in itertools.islice(stream, 3) for x in batch["image"]]
  stream.close()
  assert set(epoch) == {key(pixels("train", i, (6, 8))) for i in range(9)}


def test_mixed_sizes_need_an_image_size(load):
  with pytest.raises(ValueError, match=r"--data=tfds:tiny_mixed has .*mixed.*--image_size=N"):
    load("tiny_mixed")
  found = load("tiny_mixed", image_size=8)
  assert data.in_memory(found.train).image.shape == (9, 8, 8, 3)
  # The test labels are all -1, so the validation split is the one to be judged on.
  assert sorted(data.in_memory(found.test).label) == [0, 1, 2]


def test_without_a_test_split_the_seed_makes_one(load):
  found = load("tiny_train", seed=3, test_fraction=0.3)
  images = [key(x) for s in (found.train, found.test) for x in data.in_memory(s).image]
  assert (len(found.train), len(found.test)) == (6, 3)
  assert set(images) == {key(pixels("train", i, (6, 8))) for i in range(9)}


def test_tfds_mock_data_goes_through(load):
  with tfds.testing.mock_data(num_examples=7):
    found = load("cifar10")
    assert len(found.train) == len(found.test) == 7 and len(found.classes) == 10
    arrays = data.in_memory(found.train)
  assert arrays.image.shape == (7, 32, 32, 3) and set(arrays.label) <= set(range(10))


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("tiny_boxes", r"has features \['box', 'picture'\]; image and label are needed"),
    ("no_such_set", "is no data set that TFDS knows, nor prepared under .*catalog.*TFDS_DATA_DIR"),
    ("mnist", r"cannot be prepared under .*tfds build mnist --file_format=array_record"),
  ],
)
def test_what_cannot_be_had_is_named_with_the_way_out(load, monkeypatch, name, message):
  def no_network(*args, **kwargs):
    raise ConnectionError("no route to host")

  monkeypatch.setattr("requests.Session.request", no_network)
  with pytest.raises(ValueError, match=f"^--data=tfds:{name} {message}") as error:
    load(name)
  assert "\n" not in str(error.value)
