"""Contrastive losses with more than one positive, in NumPy."""

import numpy as np
from harness import Case, labelled, normal

from repjax import losses


def cosines(query, key):
  query, key = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, key))
  return query @ key.T


def sup_con(embeddings, labels, temperature=0.1, form="out"):
  e = np.exp(cosines(embeddings, embeddings) / temperature)
  n, out = len(embeddings), []
  for i in range(n):
    others = [a for a in range(n) if a != i]
    p = [e[i, j] / e[i, others].sum() for j in others if labels[j] == labels[i]]
    mean = np.mean(np.log(p)) if form == "out" and p else np.log(np.mean(p)) if p else 0
    out.append(-mean)
  return np.array(out)


def multi_positive(embeddings, labels, temperature=0.1):
  e = np.exp(cosines(embeddings, embeddings) / temperature)
  n, out = len(embeddings), []
  for i in range(n):
    negatives = sum(e[i, j] for j in range(n) if labels[j] != labels[i])
    terms = [
      -np.log(e[i, j] / (e[i, j] + negatives))
      for j in range(n)
      if j != i and labels[j] == labels[i]
    ]
    out.append(np.mean(terms) if terms else 0)
  return np.array(out)


def soft_target(query, key, target, key_target=None, temperature=0.1, exclude_self=False):
  if key_target is not None:
    target = target @ key_target.T
  e = np.exp(cosines(query, key) / temperature)
  n, out = len(query), []
  for i in range(n):
    keys = [j for j in range(n) if not (exclude_self and i == j)]
    mass = sum(target[i, j] for j in keys)
    p = {j: e[i, j] / sum(e[i, k] for k in keys) for j in keys}
    out.append(-sum(target[i, j] / mass * np.log(p[j]) for j in keys) if mass else 0)
  return np.array(out)


def graded(rng, batch, dim):
  degrees = rng.uniform(size=(batch, batch)) * (rng.uniform(size=(batch, batch)) < 0.5)
  return normal("query", "key")(rng, batch, dim) | {"target": degrees}


def multi_label(rng, batch, dim):
  hot = lambda: (rng.uniform(size=(batch, 4)) < 0.4).astype(float)
  return normal("query", "key")(rng, batch, dim) | {"target": hot(), "key_target": hot()}


LABELLED = labelled("embeddings")
STOPPED = {"stopped": ("target", "key_target")}
CASES = [
  Case("sup_con", losses.sup_con, LABELLED, sup_con),
  Case("sup_con_in", losses.sup_con, LABELLED, sup_con, options={"form": "in"}),
  Case("multi_positive_info_nce", losses.multi_positive_info_nce, LABELLED, multi_positive),
  Case(
    "soft_target_info_nce",
    losses.soft_target_info_nce,
    graded,
    soft_target,
    stopped=("target",),
    square=("target",),
  ),
  Case("soft_target_multi_label", losses.soft_target_info_nce, multi_label, soft_target, **STOPPED),
  Case(
    "soft_target_of_others",
    losses.soft_target_info_nce,
    multi_label,
    soft_target,
    options={"exclude_self": True},
    **STOPPED,
  ),
]
