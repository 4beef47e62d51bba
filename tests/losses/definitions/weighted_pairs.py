"""Losses over labelled pairs in which a pair weighs more the harder it is, in NumPy."""

import numpy as np
from harness import Case, labelled

from repjax.losses import weighted_pairs


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def partners(labels, i):
  """The others of the class of i, and those of other classes."""
  return (
    [j for j in range(len(labels)) if j != i and labels[j] == labels[i]],
    [j for j in range(len(labels)) if labels[j] != labels[i]],
  )


def multi_similarity(
  embeddings, labels, alpha=2.0, beta=50.0, base=0.5, mining_margin=None, fixed=None
):
  z, held = unit(embeddings), unit(fixed["embeddings"])
  out = []
  for i in range(len(z)):
    positive, negative = partners(labels, i)
    if mining_margin is not None:
      lowest = min((held[i] @ held[p] for p in positive), default=np.inf)
      highest = max((held[i] @ held[n] for n in negative), default=-np.inf)
      positive = [p for p in positive if held[i] @ held[p] - mining_margin < highest]
      negative = [n for n in negative if held[i] @ held[n] + mining_margin > lowest]
    pull = sum(np.exp(-alpha * (z[i] @ z[p] - base)) for p in positive)
    push = sum(np.exp(beta * (z[i] @ z[n] - base)) for n in negative)
    out.append(np.log1p(pull) / alpha + np.log1p(push) / beta)
  return np.array(out)


def circle(embeddings, labels, margin=0.4, gamma=80.0, fixed=None):
  z, held = unit(embeddings), unit(fixed["embeddings"])
  out = []
  for i in range(len(z)):
    total = 0.0
    positive, negative = partners(labels, i)
    for p in positive:
      for n in negative:
        pull = max(1 + margin - held[i] @ held[p], 0) * (z[i] @ z[p] - (1 - margin))
        push = max(held[i] @ held[n] + margin, 0) * (z[i] @ z[n] - margin)
        total += np.exp(gamma * (push - pull))
    out.append(np.log1p(total))
  return np.array(out)


def angular(embeddings, labels, alpha=40.0):
  z, square = unit(embeddings), np.tan(alpha * np.pi / 180) ** 2
  out = []
  for i in range(len(z)):
    positive, negative = partners(labels, i)
    losses = [
      np.log1p(
        sum(
          np.exp(4 * square * (z[i] + z[p]) @ z[n] - 2 * (1 + square) * z[i] @ z[p])
          for n in negative
        )
      )
      for p in positive
    ]
    out.append(np.mean(losses) if positive else 0.0)
  return np.array(out)


def ranked_list(
  embeddings, labels, margin=0.4, alpha=1.2, t_p=0.0, t_n=10.0, balance=0.5, fixed=None
):
  z, held = unit(embeddings), unit(fixed["embeddings"])
  distance = lambda z, i, j: np.linalg.norm(z[i] - z[j])
  near = alpha - margin
  out = []
  for i in range(len(z)):
    positive, negative = partners(labels, i)
    positive = [p for p in positive if distance(held, i, p) > near]
    negative = [n for n in negative if distance(held, i, n) < alpha]
    loss = 0.0
    if positive:
      weights = np.exp([t_p * (distance(held, i, p) - near) for p in positive])
      excess = np.array([distance(z, i, p) - near for p in positive])
      loss += (1 - balance) * (weights @ excess) / weights.sum()
    if negative:
      weights = np.exp([t_n * (alpha - distance(held, i, n)) for n in negative])
      excess = np.array([alpha - distance(z, i, n) for n in negative])
      loss += balance * (weights @ excess) / weights.sum()
    out.append(loss)
  return np.array(out)


LABELLED = labelled("embeddings")
STEEP = {"margin": 0.2, "t_p": 3.0, "t_n": 6.0, "balance": 0.3}
CASES = [
  Case("multi_similarity", weighted_pairs.multi_similarity, LABELLED, multi_similarity),
  Case(
    "multi_similarity_mined",
    weighted_pairs.multi_similarity,
    LABELLED,
    multi_similarity,
    options={"mining_margin": 0.1, "base": 1.0},
  ),
  Case("circle", weighted_pairs.circle, LABELLED, circle),
  Case(
    "circle_faces",
    weighted_pairs.circle,
    LABELLED,
    circle,
    options={"margin": 0.25, "gamma": 32.0},
  ),
  Case("angular", weighted_pairs.angular, LABELLED, angular),
  Case("angular_steep", weighted_pairs.angular, LABELLED, angular, options={"alpha": 55.0}),
  Case("ranked_list", weighted_pairs.ranked_list, LABELLED, ranked_list),
  Case("ranked_list_steep", weighted_pairs.ranked_list, LABELLED, ranked_list, options=STEEP),
]
