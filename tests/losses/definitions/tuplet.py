"""Losses that set a positive against all negatives, in NumPy, positive by positive."""

import numpy as np
from definitions.contrastive import log_sum_exp
from definitions.triplets import (
  SQUARED,
  WEIGHTS,
  clear,
  euclidean,
  members,
  metric_of,
  nothing,
  unit,
)
from harness import Case, normal

from repjax.losses import distances, tuplet


def n_pairs(anchor, positive, labels=None, l2=0.0):
  labels = np.arange(len(anchor)) if labels is None else labels
  out = []
  for i, a in enumerate(anchor):
    others = [j for j in range(len(anchor)) if labels[j] != labels[i]]
    loss = np.log(1 + sum(np.exp(a @ positive[j] - a @ positive[i]) for j in others))
    out.append(loss + l2 * (a @ a + positive[i] @ positive[i]))
  return np.array(out)


def weighted(logits, weights, i, group):
  """Logits of the pairs that have a weight, with its logarithm added."""
  w = np.ones(len(group)) if weights is None else weights[i, group]
  return [logit + np.log(x) for logit, x in zip(logits, w, strict=True) if x > 0]


def mean(numbers, weights, i, group):
  w = np.ones(len(group)) if weights is None else weights[i, group]
  return np.average(numbers, weights=w) if np.sum(w) > 0 else 0


def tuplet_margin(embeddings, labels, weights=None, margin=0.1, scale=64.0):
  x, out = unit(embeddings), []
  for i in range(len(x)):
    positive, negative = members(labels, i)
    others = weighted([scale * x[i] @ x[j] for j in negative], weights, i, negative)
    angles = [np.arccos(x[i] @ x[j]) for j in positive]
    losses = [
      np.log1p(np.sum(np.exp(np.array(others) - scale * np.cos(a - margin)))) for a in angles
    ]
    out.append(mean(losses, weights, i, positive))
  return np.array(out)


def lifted(embeddings, labels, weights=None, margin=1.0, normalize=False):
  x, out = unit(embeddings) if normalize else embeddings, []

  def of_negatives(i):
    _, negative = members(labels, i)
    logits = [margin - euclidean(x[i], x[k]) for k in negative]
    return weighted(logits, weights, i, negative)

  for i in range(len(x)):
    positive, _ = members(labels, i)
    losses = []
    for j in positive:
      others = log_sum_exp(of_negatives(i) + of_negatives(j))
      losses += [max(euclidean(x[i], x[j]) + others, 0) ** 2 / 2]
    out.append(mean(losses, weights, i, positive))
  return np.array(out)


def generalized_lifted(
  embeddings,
  labels,
  weights=None,
  positive_margin=0.0,
  negative_margin=1.0,
  normalize=False,
):
  x, out = unit(embeddings) if normalize else embeddings, []
  for i in range(len(x)):
    positive, negative = members(labels, i)
    far = [euclidean(x[i], x[j]) - positive_margin for j in positive]
    near = [negative_margin - euclidean(x[i], x[j]) for j in negative]
    far = log_sum_exp(weighted(far, weights, i, positive))
    near = log_sum_exp(weighted(near, weights, i, negative))
    out.append(max(far + near, 0))
  return np.array(out)


def nca(
  embeddings,
  labels,
  weights=None,
  scale=1.0,
  distance=distances.squared_euclidean,
  normalize=False,
):
  x, out = unit(embeddings) if normalize else embeddings, []
  d = metric_of(distance)
  for i in range(len(x)):
    positive, negative = members(labels, i)
    own, other = (
      log_sum_exp(weighted([-scale * d(x[i], x[j]) for j in group], weights, i, group))
      for group in (positive, negative)
    )
    out.append(np.logaddexp(own, other) - own if own > -np.inf else 0)
  return np.array(out)


def pairs_of_classes(rng, batch, dim):
  labels = {"labels": rng.integers(3, size=batch)}
  return normal("anchor", "positive")(rng, batch, dim) | labels


FREE, WEIGHTED = clear(nothing), clear(nothing, weights=True)
UNIT = {"normalize": True}
CASES = [
  Case("n_pairs", tuplet.n_pairs, normal("anchor", "positive"), n_pairs, options={"l2": 0.02}),
  Case("n_pairs_of_classes", tuplet.n_pairs, pairs_of_classes, n_pairs),
  Case("tuplet_margin", tuplet.tuplet_margin, FREE, tuplet_margin, options={"scale": 8.0}),
  Case(
    "tuplet_margin_weights",
    tuplet.tuplet_margin,
    WEIGHTED,
    tuplet_margin,
    options={"scale": 4.0, "margin": 0.3},
    **WEIGHTS,
  ),
  Case("lifted_structure", tuplet.lifted_structure, FREE, lifted),
  Case(
    "lifted_structure_weights",
    tuplet.lifted_structure,
    WEIGHTED,
    lifted,
    options=UNIT,
    **WEIGHTS,
  ),
  Case(
    "generalized_lifted_structure",
    tuplet.generalized_lifted_structure,
    FREE,
    generalized_lifted,
  ),
  Case(
    "generalized_lifted_structure_weights",
    tuplet.generalized_lifted_structure,
    WEIGHTED,
    generalized_lifted,
    options={"positive_margin": 0.2, "negative_margin": 1.5, **UNIT},
    **WEIGHTS,
  ),
  Case("nca", tuplet.nca, FREE, nca, options={"scale": 0.5}),
  Case("nca_weights", tuplet.nca, WEIGHTED, nca, options=SQUARED, **WEIGHTS),
]
