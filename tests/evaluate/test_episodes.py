"""Episodes: scikit-learn's classifiers in every episode, draws that two encoders share."""

import functools

import jax
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from repjax.evaluate import Embedded, draw_episodes, episodes, nearest_mean, ridge

KEY = jax.random.key(3)


@functools.cache
def split(seed=0):
  rng = np.random.default_rng(seed)
  label = np.repeat(np.arange(8), 30).astype(np.int32)
  x = 0.8 * rng.normal(size=(8, 6))[label] + rng.normal(size=(240, 6)) + 1
  return Embedded(x.astype(np.float32), label)


def scikit_learns(features, label, shot, make, ways=4, queries=3, count=10):
  accuracies = []
  for rows in draw_episodes(label, key=KEY, count=count, ways=ways, members=queries + 5):
    support, query = rows[:, queries : queries + shot].ravel(), rows[:, :queries].ravel()
    predicted = make(features[support].astype(np.float64), label[support], features[query])
    accuracies.append(np.mean(predicted == label[query]))
  return np.mean(accuracies), 1.96 * np.std(accuracies, ddof=1) / count**0.5


def by_centroid(support, label, query):
  names = np.unique(label)
  mean = np.stack([support[label == name].mean(0) for name in names])
  return KNeighborsClassifier(1).fit(mean, names).predict(query)


def by_unit_centroid(support, label, query):
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  names = np.unique(label)
  mean = unit(np.stack([unit(support)[label == name].mean(0) for name in names]))
  return names[np.argmax(query @ mean.T, 1)]


def by_ridge(support, label, query):
  names = np.unique(label)
  model = Ridge(alpha=np.mean(np.sum(support**2, 1)), fit_intercept=False)
  model.fit(support, (label[:, None] == names[None]).astype(float))
  return names[np.argmax(model.predict(query), 1)]


@pytest.mark.parametrize("shot", [1, 5])
def test_every_episode_is_classified_as_by_scikit_learn(shot):
  data = split()
  ours = episodes(data, data, key=KEY, ways=4, shots=(1, 5), queries=3, count=10)
  for name, make in {
    "nearest_mean": by_centroid,
    "nearest_mean_by_cosine": by_unit_centroid,
    "ridge": by_ridge,
  }.items():
    mean, half = scikit_learns(data.features, data.label, shot, make)
    assert ours[f"{name}_4way_{shot}shot"] == pytest.approx(mean, abs=1e-6), name
    assert ours[f"{name}_4way_{shot}shot_ci95"] == pytest.approx(half, abs=1e-6), name


def test_an_episode_has_different_examples_of_different_classes_and_no_two_are_alike():
  label = split().label
  drawn = draw_episodes(label, key=KEY, count=50, ways=5, members=20)
  assert all(len(np.unique(rows)) == 100 for rows in drawn)
  assert all(len(np.unique(label[rows])) == 5 for rows in drawn)
  assert np.all(label[drawn] == label[drawn[:, :, :1]])
  assert len({tuple(rows[:, 0]) for rows in drawn}) == 50


@pytest.mark.parametrize("classifier", [nearest_mean, ridge])
def test_turning_and_scaling_features_changes_no_episode(classifier):
  data = split()
  turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))
  moved = data._replace(features=(5 * data.features @ turn).astype(np.float32))
  options = {"key": KEY, "ways": 4, "shots": (5,), "count": 20, "classifiers": (classifier,)}
  assert episodes(moved, moved, **options) == pytest.approx(
    episodes(data, data, **options), abs=1e-3
  )


def test_centring_takes_off_the_mean_of_the_train_features():
  data = split()
  options = {"key": KEY, "ways": 4, "shots": (1,), "count": 20, "centre": True}
  moved = data._replace(features=data.features + 3)
  assert episodes(moved, moved, **options) == pytest.approx(
    episodes(data, data, **options), abs=1e-2
  )


def test_what_an_episode_lacks_is_named():
  data = split()
  with pytest.raises(ValueError, match=r"ways=9 of 8 classes; choose at most 8"):
    episodes(data, data, key=KEY, ways=9)
  with pytest.raises(ValueError, match="class 0 has 30 examples, fewer than the 31 of an episode"):
    episodes(data, data, key=KEY, shots=(16,))
