"""Retrieval: scikit-learn's and float64's answers, lone classes, any device count."""

import functools
import pathlib

import jax
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from repjax.evaluate import Embedded, ranking_scores, retrieval
from repjax.train import make_mesh

FROZEN = np.load(pathlib.Path(__file__).parents[1] / "oracles/frozen.npz")
# pytorch-metric-learning's names.
CALCULATOR = {"map_at_r": "mean_average_precision_at_r"}


@functools.cache
def sets(seed=0):
  rng = np.random.default_rng(seed)
  label = rng.integers(0, 7, 130).astype(np.int32)
  label[[0, 100]] = [8, 9]  # alone in what will be the gallery, and among the queries
  x = (rng.normal(size=(10, 5))[label] + rng.normal(size=(130, 5))).astype(np.float32)
  return Embedded(x[:90], label[:90]), Embedded(x[90:], label[90:])


def cosines(query, gallery):
  unit = lambda x: x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True)
  return unit(query) @ unit(gallery).T


def by_definition(query, gallery, within, ks):
  """A plain loop over queries in float64."""
  rows = {}
  for i, cosine in enumerate(cosines(query.features, gallery.features)):
    there = np.arange(len(cosine)) != (i if within else -1)
    relevant, cosine = gallery.label[there] == query.label[i], cosine[there]
    count = relevant.sum()
    if not count:
      continue
    ranked = relevant[np.argsort(-cosine, kind="stable")]
    places = np.flatnonzero(ranked) + 1
    found = {
      "precision_at_1": float(ranked[0]),
      "r_precision": ranked[:count].mean(),
      "map_at_r": sum((n + 1) / r for n, r in enumerate(places) if r <= count) / count,
      "map": average_precision_score(relevant, cosine),
    }
    for k in ks:
      found[f"recall_at_{k}"] = float(places[0] <= k)
      found[f"ndcg_at_{k}"] = ndcg_score(relevant[None].astype(float), cosine[None], k=k)
    for name, value in found.items():
      rows.setdefault(name, []).append(value)
  return {name: np.mean(values) for name, values in rows.items()}


@pytest.mark.parametrize("within", [False, True])
def test_scores_are_those_of_scikit_learn_and_the_definition(within):
  train, test = sets()
  ours = retrieval(train, test, within=within, ks=(1, 5, 10), query_tile=16)
  assert ours.pop("queries_left_out") == pytest.approx(1 / 40)
  expected = by_definition(test, test if within else train, within, (1, 5, 10))
  assert ours.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(ours[name], value, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("within", [False, True])
def test_scores_are_those_of_other_libraries(within):
  train, test = (
    Embedded(FROZEN[name], FROZEN[f"{name}_label"].astype(np.int32))
    for name in ("gallery", "query")
  )
  ours = retrieval(train, test, within=within)
  wanted = {}
  for name in ("precision_at_1", "r_precision", "map_at_r"):
    theirs = CALCULATOR.get(name, name)
    wanted[name] = FROZEN[f"calculator/{'within' if within else 'across'}/{theirs}"]
  if not within:
    of = "torchmetrics/"
    wanted |= {key.removeprefix(of): FROZEN[key] for key in FROZEN if key.startswith(of)}
  assert len(wanted) == (3 if within else 10)
  for name, value in wanted.items():
    np.testing.assert_allclose(ours[name], value, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("within", [False, True])
def test_without_the_end_of_the_ranking_all_else_is_the_same(within):
  train, test = sets()
  whole = retrieval(train, test, within=within)
  del whole["map"]
  searched = retrieval(train, test, within=within, full_ranking=False)
  assert searched == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("full_ranking", [True, False])
def test_split_over_devices_every_query_counts_once(full_ranking):
  train, test = sets()
  options = {"full_ranking": full_ranking, "query_tile": 16}
  dense = retrieval(train, test, **options)
  spread = retrieval(train, test, mesh=make_mesh("data:8"), **options)
  assert spread == pytest.approx(dense, abs=1e-6)


def test_unlabelled_examples_neither_ask_nor_answer():
  train, test = sets()
  hide = lambda split: split._replace(
    label=np.where(np.arange(len(split.label)) % 4, split.label, -1)
  )
  keep = lambda split: Embedded(*(x[np.arange(len(x)) % 4 > 0] for x in split))
  assert retrieval(hide(train), hide(test)) == pytest.approx(
    retrieval(keep(train), keep(test)), abs=1e-6
  )


def test_a_perfect_ranking_scores_one_and_a_reversed_one_by_closed_form():
  relevant = np.arange(10)[None] < 4
  perfect = ranking_scores(relevant, np.array([4]), ks=(1, 10))
  for name, value in perfect.items():
    np.testing.assert_allclose(value, 1, rtol=1e-6, err_msg=name)
  worst = ranking_scores(relevant[:, ::-1], np.array([4]), ks=(1, 10))
  assert worst["precision_at_1"] == worst["recall_at_1"] == worst["r_precision"] == 0
  np.testing.assert_allclose(worst["average_precision"], np.mean([1 / 7, 2 / 8, 3 / 9, 4 / 10]))


def test_turning_and_scaling_features_changes_nothing():
  train, test = sets()
  turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))
  move = lambda split: split._replace(features=(3 * split.features @ turn).astype(np.float32))
  assert retrieval(move(train), move(test)) == pytest.approx(retrieval(train, test), abs=1e-6)


def test_a_gallery_without_an_answer_is_named():
  train, test = sets()
  with pytest.raises(ValueError, match="of 40 queries 0 have one of their class among 90 others"):
    retrieval(train._replace(label=np.full(90, 20, np.int32)), test)
  with pytest.raises(ValueError, match=r"ks=\(1, 11\) of 10 ranks"):
    jax.eval_shape(
      functools.partial(ranking_scores, ks=(1, 11)), np.ones((1, 10), bool), np.array([3])
    )
