"""The merged index: a plain loop over queries, and what merging and balance do."""

import numpy as np
import pytest

from repjax.evaluate import Embedded, merged_retrieval, retrieval
from repjax.train import make_mesh


def domain(seed, size=60, classes=12, shift=0.0):
  rng = np.random.default_rng(seed)
  label = rng.integers(0, classes, size).astype(np.int32)
  x = rng.normal(size=(classes, 5))[label] + 0.7 * rng.normal(size=(size, 5)) + shift
  return Embedded(x.astype(np.float32), label)


def parts(split, count):
  return Embedded(*(x[:count] for x in split)), Embedded(*(x[count:] for x in split))


DOMAINS = {"a": parts(domain(0), 40), "b": (domain(1), None), "c": parts(domain(2, 90), 70)}


def by_definition(domains):
  index = [
    (x / np.linalg.norm(x), name, int(c))
    for name, (gallery, _) in domains.items()
    for x, c in zip(gallery.features.astype(np.float64), gallery.label, strict=True)
  ]
  numbers = {}
  for name, (gallery, query) in domains.items():
    recalls, precisions = [], []
    for i, (x, c) in enumerate(zip(*(query or gallery), strict=True)):
      own = [j for j, row in enumerate(index) if row[1] == name][i] if query is None else None
      others = [row for j, row in enumerate(index) if j != own]
      answers = sum(row[1:] == (name, int(c)) for row in others)
      if not answers:
        continue
      others.sort(key=lambda row: -row[0] @ x.astype(np.float64))
      right = [row[1:] == (name, int(c)) for row in others]
      recalls.append(right[0])
      precisions.append(np.mean(right[: min(answers, 5)]))
    numbers[f"recall_at_1/{name}"] = np.mean(recalls)
    numbers[f"mmp_at_5/{name}"] = np.mean(precisions)
  for metric in ("recall_at_1", "mmp_at_5"):
    numbers[metric] = np.mean([numbers[f"{metric}/{name}"] for name in domains])
  return numbers


def test_scores_are_those_of_a_loop_over_queries():
  ours = merged_retrieval(DOMAINS)
  for name, value in by_definition(DOMAINS).items():
    assert ours[name] == pytest.approx(value, abs=1e-9), name


def test_split_over_devices_the_answer_is_the_same():
  assert merged_retrieval(DOMAINS, mesh=make_mesh("data:8")) == merged_retrieval(DOMAINS)


def test_one_domain_alone_is_plain_retrieval():
  gallery, query = DOMAINS["a"]
  alone = merged_retrieval({"a": (gallery, query)})
  assert alone["same_domain_at_1"] == 1
  assert alone["recall_at_1"] == pytest.approx(retrieval(gallery, query)["recall_at_1"], abs=1e-6)


def test_domains_that_lie_apart_do_not_disturb_one_another_and_those_that_mix_do():
  turned = lambda split: split._replace(features=np.pad(split.features, ((0, 0), (5, 0))))
  first = lambda split: split._replace(features=np.pad(split.features, ((0, 0), (0, 5))))
  a, b = DOMAINS["a"], (DOMAINS["b"][0], None)
  apart = merged_retrieval({"a": tuple(map(first, a)), "b": (turned(b[0]), None)})
  for name, pair in (("a", a), ("b", b)):
    assert apart[f"mmp_at_5/{name}"] == merged_retrieval({name: pair})["mmp_at_5"]
  mixed = merged_retrieval({"a": a, "b": b})
  assert apart["same_domain_at_1"] == 1 > mixed["same_domain_at_1"]
  assert mixed["recall_at_1"] < apart["recall_at_1"]


def test_what_does_not_fit_together_is_named():
  thin = lambda split: split._replace(features=split.features[:, :3])
  with pytest.raises(ValueError, match=r"features of dims \[3, 5\]"):
    merged_retrieval({"a": DOMAINS["a"], "b": (thin(domain(1)), None)})
  lone = Embedded(DOMAINS["b"][0].features[:3], np.array([0, 1, 2], np.int32))
  with pytest.raises(ValueError, match="domain 'b' has no query with an answer"):
    merged_retrieval({"a": DOMAINS["a"], "b": (lone, None)})
