"""Dense probe: scikit-learn's scores of label maps and its regression on tokens."""

import importlib

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, jaccard_score
from sklearn.preprocessing import StandardScaler

from repjax.evaluate import Embedded, dense_probe, segmentation_scores

KEY = jax.random.key(0)


def maps(seed, images=24, tokens=9):
  rng = np.random.default_rng(seed)
  label = rng.integers(-1, 4, (images, tokens)).astype(np.int32)
  centre = np.random.default_rng(9).normal(size=(4, 6))
  x = centre[np.maximum(label, 0)] + rng.normal(size=(images, tokens, 6))
  return Embedded(x.astype(np.float32), label)


def test_scores_are_those_of_scikit_learn_over_classes_that_occur():
  rng = np.random.default_rng(0)
  label, predicted = rng.integers(-1, 4, (5, 20)), rng.integers(0, 5, (5, 20))
  ours = segmentation_scores(predicted, label, classes=8)
  true, told = label[label >= 0], predicted[label >= 0]
  assert ours["pixel_accuracy"] == pytest.approx(accuracy_score(true, told))
  assert ours["miou"] == pytest.approx(jaccard_score(true, told, average="macro"))
  assert ours["mean_accuracy"] == pytest.approx(
    np.mean([np.mean(told[true == c] == c) for c in range(4)])
  )


def test_label_maps_are_those_of_scikit_learns_regression_on_tokens():
  train, test = maps(0), maps(1)
  ours = dense_probe(train, test, key=KEY, penalties=(1e-3,))
  rows = train.label >= 0
  scale = StandardScaler().fit(train.features[rows])
  theirs = LogisticRegression(C=1 / (1e-3 * rows.sum()), max_iter=1000, tol=1e-8)
  theirs.fit(scale.transform(train.features[rows]), train.label[rows])
  kept = test.label >= 0
  told = theirs.predict(scale.transform(test.features[kept]))
  assert abs(ours["dense_pixel_accuracy"] - np.mean(told == test.label[kept])) <= 1.5 / kept.sum()
  assert abs(ours["dense_miou"] - jaccard_score(test.label[kept], told, average="macro")) < 0.01


def test_tokens_of_an_image_are_never_on_both_sides_of_the_choice(monkeypatch):
  module = importlib.import_module("repjax.evaluate.dense_probe")
  seen = {}

  def spy(train, test_features, *, held, classes, penalties):
    seen.update(held=held, count=len(train.label))
    return np.zeros((len(test_features), classes)), 1.0

  monkeypatch.setattr(module, "fit_chosen", spy)
  train = maps(0)
  train = train._replace(label=np.abs(train.label))
  module.dense_probe(train, maps(1), key=KEY, validation=0.25)
  held = seen["held"].reshape(24, 9)
  assert np.all(held == held[:, :1]) and held[:, 0].sum() == 6


def test_shapes_that_do_not_fit_are_named():
  train = maps(0)
  with pytest.raises(ValueError, match=r"train tokens .*\(24, 9, 6\) and \(24,\)"):
    dense_probe(train._replace(label=train.label[:, 0]), train, key=KEY)
  with pytest.raises(ValueError, match="classes 0 to 3, but classes=3"):
    segmentation_scores(np.array([3]), np.array([0]), classes=3)
