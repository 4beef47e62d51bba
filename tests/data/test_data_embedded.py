"""The embedded digits: the pixels, the split, and what raw pixels make of it."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from repjax import data


@pytest.fixture(scope="module")
def digits():
  return data.load("digits")


def test_the_split_is_the_whole_set_once(digits):
  assert (len(digits.train), len(digits.test)) == (1297, 500)
  whole = np.concatenate([digits.train.image, digits.test.image])[..., 0]
  label = np.concatenate([digits.train.label, digits.test.label])
  bunch = load_digits()
  rows = lambda pixels, y: sorted(map(tuple, np.c_[pixels.reshape(1797, 64), y].astype(int)))
  # 0..16 to 0..255 keeps all 17 levels apart, so it can be undone.
  assert rows(np.round(whole * (16 / 255)), label) == rows(bunch.images, bunch.target)
  assert whole.max() == 255 and len(digits.classes) == 10


def test_the_split_never_changes(digits):
  assert digits.test.label[:20].tolist() == [
    1, 7, 6, 5, 2, 2, 9, 1, 8, 5, 5, 0, 1, 0, 6, 2, 7, 5, 5, 8
  ]  # fmt: skip


@pytest.mark.parametrize(("shots", "wanted", "slack"), [(1, 0.645, 0.02), (5, 0.860, 0.01)])
def test_raw_pixels_score_as_stated(digits, shots, wanted, slack):
  flat = lambda source: source.image.reshape(len(source), -1).astype(np.float64)
  train, test = flat(digits.train), flat(digits.test)
  scores = []
  for draw in range(20):
    rng = np.random.default_rng(draw)
    members = (np.flatnonzero(digits.train.label == y) for y in range(10))
    shown = np.concatenate([rng.choice(m, shots, replace=False) for m in members])
    knn = KNeighborsClassifier(1, metric="cosine").fit(train[shown], digits.train.label[shown])
    scores.append(knn.score(test, digits.test.label))
  assert np.mean(scores) == pytest.approx(wanted, abs=slack)


def test_images_can_be_resized():
  assert data.load("digits", image_size=12).train.image_shape == (12, 12, 1)
  halved = data.load("digits", image_size=4).train.image[0, ..., 0]
  blocks = data.load("digits").train.image[0, ..., 0].reshape(4, 2, 4, 2).mean((1, 3))
  assert np.corrcoef(halved.ravel(), blocks.ravel())[0, 1] > 0.95
