"""kNN, linear probe and few-shot on frozen features: oracles and invariances."""

import functools

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from repjax.evaluate import Embedded, few_shot, knn, linear_probe
from repjax.evaluate.embed import rank_in_class

KEY = jax.random.key(0)


@functools.cache
def digits():
  x, y = load_digits(return_X_y=True)
  order = np.random.default_rng(0).permutation(len(y))
  x, y = (x[order] / 16).astype(np.float32), y[order].astype(np.int32)
  return Embedded(x[:1297], y[:1297]), Embedded(x[1297:], y[1297:])


def each(change, *splits):
  return tuple(change(split) for split in splits)


def shuffled(split, seed=0):
  return split._replace(label=np.random.default_rng(seed).permutation(split.label))


def hidden(split):
  label = np.where(np.arange(len(split.label)) % 3 == 0, -1, split.label)
  return split._replace(label=label)


def kept(split):
  return Embedded(*(x[np.arange(len(x)) % 3 != 0] for x in split))


def rescaled(split):
  length = 2.0 ** np.random.default_rng(0).integers(-3, 4, (len(split.label), 1))
  return split._replace(features=split.features * length.astype(np.float32))


# kNN


def test_knn_accuracy_equals_scikit_learns():
  train, test = digits()
  ours = knn(train, test)
  mean = train.features.mean(0)
  for k in (1, 5, 20, 200):
    theirs = KNeighborsClassifier(k, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.1))
    theirs.fit(train.features - mean, train.label)
    accuracy = theirs.score(test.features - mean, test.label)
    # One example of 500 may turn on float32.
    assert abs(ours[f"knn_{k}"] - accuracy) <= 1 / 500 + 1e-9
  assert ours["knn_1"] > 0.96


def test_knn_without_centring_ignores_the_length_of_features():
  train, test = digits()
  whole = knn(train, test, centre=False, k=(1, 5))
  assert knn(*each(rescaled, train, test), centre=False, k=(1, 5)) == whole


def test_knn_ignores_an_offset_and_a_scale_of_all_features():
  train, test = digits()
  move = lambda split: split._replace(features=4 * split.features + np.float32(2))
  ours, moved = (knn(*pair, k=(1, 5)) for pair in ((train, test), each(move, train, test)))
  for name, accuracy in ours.items():
    assert abs(moved[name] - accuracy) <= 1 / 500 + 1e-9


def test_knn_leaves_out_a_k_beyond_the_bank_and_refuses_when_none_is_left():
  train, test = digits()
  train = Embedded(*(x[:30] for x in train))
  assert list(knn(train, test, k=(1, 200))) == ["knn_1"]
  with pytest.raises(ValueError, match=r"k=\(50, 200\).*30"):
    knn(train, test, k=(50, 200))


# Few-shot


def few_shot_oracle(train, test, shots, draws):
  accuracies = []
  for draw in range(draws):
    rank = rank_in_class(jax.random.fold_in(KEY, draw), train.label)
    support = [i for i in range(len(rank)) if rank[i] < shots]
    cosine = cosine_similarity(test.features.astype(np.float64), train.features[support])
    predicted = [train.label[support[j]] for j in cosine.argmax(1)]
    accuracies.append(np.mean(predicted == test.label))
  return np.mean(accuracies), np.std(accuracies, ddof=1) / draws**0.5


@pytest.mark.parametrize("shots", [1, 5])
def test_few_shot_equals_a_loop_over_draws(shots):
  train, test = digits()
  ours = few_shot(train, test, key=KEY, shots=(1, 5), draws=6)
  mean, error = few_shot_oracle(train, test, shots, 6)
  np.testing.assert_allclose(ours[f"shot_{shots}"], mean, atol=1e-3)
  np.testing.assert_allclose(ours[f"shot_{shots}_stderr"], error, atol=1e-3)


def test_few_shot_on_raw_digits_is_near_the_published_sketch():
  ours = few_shot(*digits(), key=KEY)
  assert abs(ours["shot_1"] - 0.645) < 0.04
  assert abs(ours["shot_5"] - 0.860) < 0.02


def test_encoders_of_equal_angles_meet_equal_draws():
  train, test = digits()
  turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 64)))
  change = lambda split: split._replace(features=split.features @ turn.astype(np.float32))
  ours = few_shot(train, test, key=KEY, draws=5)
  turned = few_shot(*each(change, train, test), key=KEY, draws=5)
  others = few_shot(train, test, key=jax.random.key(1), draws=5)
  for name, number in ours.items():
    assert abs(turned[name] - number) < 1e-3 < abs(others[name] - number)


def test_few_shot_ignores_the_length_of_features():
  train, test = digits()
  whole = few_shot(train, test, key=KEY, draws=3)
  assert few_shot(*each(rescaled, train, test), key=KEY, draws=3) == whole


def test_a_class_with_fewer_examples_than_shots_is_named():
  train, test = digits()
  few = (train.label != 3) | (np.cumsum(train.label == 3) <= 2)
  train = Embedded(*(x[few] for x in train))
  with pytest.raises(ValueError, match=r"class 3 has 2 .*shots=5.*at most 2"):
    few_shot(train, test, key=KEY)
  without = Embedded(*(x[train.label != 3] for x in train))
  with pytest.raises(ValueError, match="class 3 has 0 "):
    few_shot(without, test, key=KEY)


# Linear probe


def test_linear_probe_equals_scikit_learn_at_the_penalty_it_chose():
  train, test = digits()
  for penalty in (1e-2, 1e-4):
    ours = linear_probe(train, test, key=KEY, penalties=(penalty,))
    assert ours["linear_penalty"] == penalty
    scaler = StandardScaler().fit(train.features)
    theirs = LogisticRegression(C=1 / (penalty * 1297), tol=1e-8, max_iter=5000)
    theirs.fit(scaler.transform(train.features), train.label)
    accuracy = theirs.score(scaler.transform(test.features), test.label)
    assert abs(ours["linear"] - accuracy) <= 1 / 500 + 1e-9


def test_linear_probe_ignores_an_invertible_diagonal_scaling():
  train, test = digits()
  scale = 2.0 ** np.random.default_rng(0).integers(-6, 7, (1, 64))
  scale = (scale * np.random.default_rng(1).choice([-1, 1], (1, 64))).astype(np.float32)
  change = lambda split: split._replace(features=split.features * scale)
  ours = linear_probe(train, test, key=KEY, penalties=(1e-2, 1e-3))
  scaled = linear_probe(*each(change, train, test), key=KEY, penalties=(1e-2, 1e-3))
  assert scaled["linear_penalty"] == ours["linear_penalty"]
  assert abs(scaled["linear"] - ours["linear"]) <= 1 / 500 + 1e-9


def test_linear_probe_chooses_without_a_look_at_test_labels():
  train, test = digits()
  ours = linear_probe(train, test, key=KEY)
  other = linear_probe(train, shuffled(test), key=KEY)
  assert other["linear_penalty"] == ours["linear_penalty"]
  assert other["linear"] < 0.2 < 0.9 < ours["linear"]


def test_linear_probe_chooses_the_penalty_that_scikit_learn_would_on_the_same_split():
  train, test = digits()
  # A third of the pixels, and few examples: the penalty matters.
  train, test = (Embedded(x[:, ::3], y) for x, y in (train, test))
  train = train._replace(label=np.where(np.arange(1297) < 1000, -1, train.label))
  ours = linear_probe(train, test, key=KEY, penalties=(1.0, 1e-2, 1e-5), validation=0.3)
  x, y = (part[train.label >= 0] for part in train)
  held = rank_in_class(KEY, y) < np.round(0.3 * np.bincount(y))[y]
  x = StandardScaler().fit_transform(x)
  scores = {}
  for penalty in (1.0, 1e-2, 1e-5):
    theirs = LogisticRegression(C=1 / (penalty * np.sum(~held)), tol=1e-8, max_iter=5000)
    scores[penalty] = theirs.fit(x[~held], y[~held]).score(x[held], y[held])
  assert len(set(scores.values())) == 3
  assert ours["linear_penalty"] == max(scores, key=scores.get)


def test_linear_probe_with_nothing_to_validate_on_says_so():
  one_each = Embedded(np.eye(3, dtype=np.float32), np.arange(3, dtype=np.int32))
  with pytest.raises(ValueError, match="no class of 3 train examples has 2"):
    linear_probe(one_each, one_each, key=KEY)


# All


@pytest.mark.parametrize("protocol", [few_shot, knn, linear_probe])
def test_random_labels_give_chance(protocol):
  numbers = protocol(*each(shuffled, *digits()), key=KEY)
  for name, accuracy in numbers.items():
    if not name.endswith(("_stderr", "_penalty")):
      # Four standard deviations of chance on 500 examples.
      assert abs(accuracy - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 500), name


@pytest.mark.parametrize("protocol", [few_shot, knn, linear_probe])
def test_unlabelled_examples_take_no_part(protocol):
  train, test = digits()
  ours, without = (protocol(*each(change, train, test), key=KEY) for change in (hidden, kept))
  assert ours == without
