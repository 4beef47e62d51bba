"""Verification: scikit-learn's ROC, the equal error rate by root finding, folds by a plain loop."""

import jax
import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_auc_score, roc_curve

from repjax.evaluate import Embedded, draw_pairs, fold_accuracy, verification, verification_scores

KEY = jax.random.key(0)


def pairs(count=400, digits=None, seed=0):
  rng = np.random.default_rng(seed)
  same = rng.random(count) < 0.4
  score = rng.normal(size=count) + 1.2 * same
  return (score if digits is None else np.round(score, digits)), same


@pytest.mark.parametrize("digits", [None, 1], ids=["distinct", "ties"])
def test_rates_are_those_of_scikit_learn(digits):
  score, same = pairs(digits=digits)
  ours = verification_scores(score, same, fars=(0.3, 0.1, 0.01))
  far, tar, _ = roc_curve(same, score, drop_intermediate=False)
  for rate in (0.3, 0.1, 0.01):
    assert ours[f"tar_at_far_{rate:g}"] == tar[far <= rate].max()
  assert ours["auc"] == pytest.approx(roc_auc_score(same, score), abs=1e-12)
  root = brentq(lambda x: 1 - x - interp1d(far, tar)(x), 0, 1, xtol=1e-12)
  assert ours["eer"] == pytest.approx(root, abs=1e-9)


def test_only_the_order_of_scores_counts():
  score, same = pairs()
  assert verification_scores(np.exp(2 * score), same) == verification_scores(score, same)


def test_separate_pairs_are_told_without_an_error_and_equal_scores_by_chance():
  same = np.arange(200) % 2 == 0
  perfect = verification_scores(same.astype(float), same, fars=(0.01,))
  assert perfect == {"tar_at_far_0.01": 1, "auc": 1, "eer": 0}
  constant = verification_scores(np.zeros(200), same, fars=(0.01,))
  assert constant == {"tar_at_far_0.01": 0, "auc": 0.5, "eer": 0.5}


def test_a_fold_is_judged_at_the_threshold_of_the_others():
  score, same = pairs(120, digits=1)
  fold = np.arange(120) % 10
  accuracies = []
  for held in range(10):
    train = fold != held
    value = np.unique(score[train])
    edges = [-np.inf, *(value[1:] + value[:-1]) / 2, np.inf]
    best = max(edges, key=lambda edge: (np.sum((score[train] >= edge) == same[train]), -edge))
    accuracies.append(np.mean((score[~train] >= best) == same[~train]))
  mean, error = fold_accuracy(score, same, fold)
  assert mean == pytest.approx(np.mean(accuracies), abs=1e-12)
  assert error == pytest.approx(np.std(accuracies, ddof=1) / 10**0.5, abs=1e-12)


def test_pairs_of_a_kind_are_drawn_equally_often():
  label = np.array([0, 0, 0, 1, 1, 2])
  one, other, same = draw_pairs(label, key=KEY, count=24_000)
  np.testing.assert_array_equal(label[one] == label[other], same)
  assert same.mean() == 0.5 and np.all(one != other)
  low, high = np.minimum(one, other), np.maximum(one, other)
  for kind, number in ((True, 4), (False, 11)):
    _, counts = np.unique(6 * low[same == kind] + high[same == kind], return_counts=True)
    expected = 12_000 / number
    assert len(counts) == number
    np.testing.assert_allclose(counts, expected, atol=5 * expected**0.5)


def test_the_evaluator_scores_pairs_by_their_cosine():
  rng = np.random.default_rng(0)
  label = rng.integers(0, 5, 60).astype(np.int32)
  split = Embedded((rng.normal(size=(5, 4))[label] + rng.normal(size=(60, 4))).astype("f"), label)
  ours = verification(split, split, key=KEY, pairs=200)
  one, other, same = draw_pairs(label, key=KEY, count=200)
  unit = split.features / np.linalg.norm(split.features, axis=1, keepdims=True)
  assert ours["auc"] == pytest.approx(
    roc_auc_score(same, np.sum(unit[one] * unit[other], 1)), abs=1e-4
  )
  scaled = split._replace(features=split.features * (1 + label[:, None]).astype("f"))
  assert verification(scaled, scaled, key=KEY, pairs=200) == pytest.approx(ours, abs=1e-6)


def test_what_cannot_be_told_is_named():
  score, same = pairs(100)
  with pytest.raises(ValueError, match=r"rate of 0.001 cannot be told with \d+ pairs"):
    verification_scores(score, same, fars=(0.001,))
  with pytest.raises(ValueError, match="100 of 100 pairs are of one class"):
    verification_scores(score, np.ones(100, bool))
  with pytest.raises(ValueError, match="pairs of 1 classes"):
    draw_pairs(np.zeros(4, int), key=KEY, count=2)
