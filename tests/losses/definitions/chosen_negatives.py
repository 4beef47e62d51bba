"""Contrast with some of the rest of a batch, in NumPy."""

import math

import numpy as np
from definitions.contrastive import log_sum_exp, unit
from harness import Case, labelled, normal

from repjax.losses import chosen_negatives


def choose(query, key, temperature, negatives):
  """Picks the key of each query out of it and the given ones."""
  query, key = unit(query), unit(key)
  out = []
  for i, q in enumerate(query):
    logits = [q @ key[j] / temperature for j in (i, *negatives(i))]
    out.append(log_sum_exp(logits) - logits[0])
  return np.array(out)


def clustered_info_nce(query, key, labels, temperature=0.1):
  same = lambda i: [j for j in range(len(key)) if j != i and labels[j] == labels[i]]
  return choose(query, key, temperature, same)


def hard_info_nce(query, key, share=0.1, temperature=0.1, fixed=None):
  held = unit(fixed["query"]) @ unit(fixed["key"]).T

  def hardest(i):
    others = [j for j in np.argsort(-held[i]) if j != i]
    return others[: math.ceil(round(share * len(others), 6))]

  return choose(query, key, temperature, hardest)


def averaged_info_nce(query, key, temperature=0.1):
  scores = np.exp(unit(query) @ unit(key).T / temperature)
  out = []
  for i, row in enumerate(scores):
    others = np.delete(row, i)
    out.append(-np.log(row[i] / (row[i] + (np.mean(others) if len(others) else 0))))
  return np.array(out)


def gated_info_nce(query, key, gate, query_labels=None, key_labels=None, temperature=0.1):
  out = []
  for i, g in enumerate(gate):
    logits = unit(g * key) @ unit(g * query[i]) / temperature
    keep = np.ones(len(key), bool)
    if key_labels is not None:
      keep = (key_labels != query_labels[i]) & (key_labels != key_labels[i])
      keep[i] = True
    out.append(log_sum_exp(logits[keep]) - logits[i])
  return np.array(out)


def of_two_classes(rng, batch, dim):
  labels = {f"{side}_labels": rng.integers(4, size=batch) for side in ("query", "key")}
  return normal("query", "key", "gate")(rng, batch, dim) | labels


PAIR = normal("query", "key")
CASES = [
  Case(
    "clustered_info_nce",
    chosen_negatives.clustered_info_nce,
    labelled("query", "key"),
    clustered_info_nce,
  ),
  Case("hard_info_nce", chosen_negatives.hard_info_nce, PAIR, hard_info_nce),
  Case(
    "hard_info_nce_half",
    chosen_negatives.hard_info_nce,
    PAIR,
    hard_info_nce,
    options={"share": 0.5, "temperature": 0.3},
  ),
  Case("averaged_info_nce", chosen_negatives.averaged_info_nce, PAIR, averaged_info_nce),
  Case(
    "gated_info_nce",
    chosen_negatives.gated_info_nce,
    normal("query", "key", "gate"),
    gated_info_nce,
  ),
  Case(
    "gated_info_nce_of_classes",
    chosen_negatives.gated_info_nce,
    of_two_classes,
    gated_info_nce,
  ),
]
