"""Losses that ask for examples of one's class before all others, in NumPy."""

import numpy as np
from definitions.weighted_pairs import partners, unit
from harness import Case, labelled

from repjax.losses import ranking


def shares(value, held, step):
  """What a value gives to the two nodes around it, those around the one that is held fixed."""
  lower = int(np.floor(held / step))
  return {lower: lower + 1 - value / step, lower + 1: value / step - lower}


def fast_ap(embeddings, labels, bins=10, fixed=None):
  z, held = unit(embeddings), unit(fixed["embeddings"])
  out = []
  for i in range(len(z)):
    kinds = partners(labels, i)
    if not kinds[0]:
      out.append(0.0)
      continue
    given = np.zeros((2, bins + 2))
    for kind, others in enumerate(kinds):
      for j in others:
        square, at = (np.sum((x[i] - x[j]) ** 2) for x in (z, held))
        for node, share in shares(square, at, 4 / bins).items():
          given[kind, node] += share
    average = 0.0
    for k in range(bins + 1):
      up_to = given[:, : k + 1].sum()
      if up_to > 0:
        average += given[0, k] * given[0, : k + 1].sum() / up_to
    out.append(1 - average / len(kinds[0]))
  return np.array(out)


def smooth_ap(embeddings, labels, temperature=0.01):
  z = unit(embeddings)
  before = lambda a, b: 1 / (1 + np.exp(-(a - b) / temperature))
  out = []
  for i in range(len(z)):
    positive, negative = partners(labels, i)
    ratios = []
    for p in (*positive, i):
      rank = 1 + sum(before(z[i] @ z[j], z[i] @ z[p]) for j in (*positive, i) if j != p)
      ratios.append(rank / (rank + sum(before(z[i] @ z[n], z[i] @ z[p]) for n in negative)))
    out.append(1 - np.mean(ratios) if positive else 0.0)
  return np.array(out)


def histogram(embeddings, labels, bins=100, fixed=None):
  z, held = unit(embeddings), unit(fixed["embeddings"])
  given, count = np.zeros((2, bins + 2)), np.zeros(2)
  for i in range(len(z)):
    for j in range(i):
      kind = int(labels[i] != labels[j])
      count[kind] += 1
      for node, share in shares(z[i] @ z[j] + 1, held[i] @ held[j] + 1, 2 / bins).items():
        given[kind, node] += share
  if not count.all():
    return 0.0
  positive, negative = given / count[:, None]
  return sum(negative[r] * positive[q] for r in range(bins + 1) for q in range(r + 1))


LABELLED = labelled("embeddings")
CASES = [
  Case("fast_ap", ranking.fast_ap, LABELLED, fast_ap),
  Case("fast_ap_fine", ranking.fast_ap, LABELLED, fast_ap, options={"bins": 23}),
  Case("smooth_ap", ranking.smooth_ap, LABELLED, smooth_ap, options={"temperature": 0.1}),
  Case("smooth_ap_sharp", ranking.smooth_ap, LABELLED, smooth_ap, atol=1e-5),
  Case("histogram", ranking.histogram, LABELLED, histogram),
  Case("histogram_coarse", ranking.histogram, LABELLED, histogram, options={"bins": 7}),
]
