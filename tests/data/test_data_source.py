"""Sources in memory: validation, subsets, holding out."""

import numpy as np
import pytest

from repjax import data


def some(n=40, classes=4, seed=0):
  rng = np.random.default_rng(seed)
  image = rng.integers(0, 256, (n, 5, 6, 3), dtype=np.uint8)
  return data.Arrays(image, rng.integers(-1, classes, n))


class Lazy:
  """The same examples without their arrays in sight."""

  def __init__(self, source):
    self.source, self.image_shape = source, source.image_shape

  def __len__(self):
    return len(self.source)

  def __getitem__(self, i):
    return self.source[i]


def test_in_memory_keeps_every_example_in_its_place():
  source = some(150)
  subset = data.Subset(source, np.arange(0, 150, 3))
  for lazy in (Lazy(source), subset, Lazy(subset)):
    found = data.in_memory(lazy, progress=False)
    assert len(found) == len(lazy)
    for i in range(len(lazy)):
      np.testing.assert_array_equal(found.image[i], lazy[i]["image"])
      assert found.label[i] == lazy[i]["label"]
  assert data.nbytes(source) == source.image.nbytes


def test_take_agrees_with_reading_one_by_one():
  source = some()
  where = np.array([3, 3, 0, 17])
  for view in (source, data.Subset(source, np.arange(40)[::-1]), Lazy(source)):
    batch = data.take(view, where)
    for row, i in enumerate(where):
      np.testing.assert_array_equal(batch["image"][row], view[i]["image"])
      assert batch["label"][row] == view[i]["label"]
    assert batch["label"].dtype == np.int32


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_holdout_is_disjoint_and_covers(fraction, lazy):
  source = Lazy(some()) if lazy else some()
  rest, held = data.holdout(source, fraction, 0)
  both = np.concatenate([rest.indices, held.indices])
  np.testing.assert_array_equal(np.sort(both), np.arange(40))
  assert abs(len(held) - 40 * fraction) <= 3


def test_holdout_takes_the_same_share_of_every_class():
  label = np.repeat([0, 1, 2, -1], [10, 20, 50, 20])
  rest, held = data.holdout(data.Arrays(np.zeros((100, 2, 2, 1), np.uint8), label), 0.2, 5)
  np.testing.assert_array_equal(np.bincount(held.label + 1), [4, 2, 4, 10])
  np.testing.assert_array_equal(np.bincount(rest.label + 1), [16, 8, 16, 40])


def test_holdout_leaves_no_class_without_an_example_to_learn_from():
  label = np.array([0, 0, 1, 2, 2, 2])
  rest, held = data.holdout(data.Arrays(np.zeros((6, 2, 2, 1), np.uint8), label), 0.99, 0)
  assert set(rest.label) == {0, 1, 2} and set(held.label) == {0, 2}


def test_holdout_depends_on_its_seed_alone():
  draws = [tuple(data.holdout(some(), 0.3, seed)[1].indices) for seed in (0, 0, 1)]
  assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize(
  ("image", "label", "message"),
  [
    (np.zeros((2, 4, 4), np.float32), [0, 1], "images are float32, not uint8; save pixels as 0"),
    (np.zeros((2, 4), np.uint8), [0, 1], r"shape \(2, 4\); expected \[n, height"),
    (np.zeros((0, 4, 4, 1), np.uint8), [], r"shape \(0, 4, 4, 1\); expected"),
    (np.zeros((2, 3, 32, 32), np.uint8), [0, 1], r"\(2, 3, 32, 32\), channels first; move"),
    (np.zeros((2, 4, 4), np.uint8), [0], r"labels have shape \(1,\) for 2 images"),
    (np.zeros((2, 4, 4), np.uint8), [0.0, 1.0], "labels are float64; save them as integers"),
    (np.zeros((2, 4, 4), np.uint8), [0, -2], "labels go down to -2; number classes from 0"),
    (np.zeros((2, 4, 4), np.uint8), [0, 2**40], f"labels go up to {2**40}; number classes"),
  ],
)
def test_bad_arrays_are_refused(image, label, message):
  with pytest.raises(ValueError, match=message) as error:
    data.Arrays(image, np.array(label))
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("fraction", [0, 1, -0.5])
def test_holding_out_nothing_or_everything_is_refused(fraction):
  with pytest.raises(ValueError, match=rf"fraction of {fraction}; choose one between 0 and 1"):
    data.holdout(some(), fraction, 0)


def test_holding_out_of_singletons_is_refused():
  with pytest.raises(ValueError, match="of 2 examples with one a class; give a test split"):
    data.holdout(data.Arrays(np.zeros((2, 2, 2), np.uint8), np.array([0, 1])), 0.5, 0)
