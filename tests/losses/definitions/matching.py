"""Whether an image and a text belong together, in NumPy."""

import numpy as np
from harness import Case

from repjax.losses import matching


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def image_text_matching(positive, negatives, mask=None):
  """By probabilities."""
  sigmoid = lambda x: 1 / (1 + np.exp(-x))
  out = []
  for i, s in enumerate(positive):
    terms = [-np.log(sigmoid(s))]
    for j, wrong in enumerate(negatives[i]):
      if mask is None or mask[i, j]:
        terms.append(-np.log(1 - sigmoid(wrong)))
    out.append(np.mean(terms))
  return np.array(out)


def transport_plan(cost, beta, iterations):
  """Algorithm 1 of IPOT between uniform distributions, with one inner step."""
  n, m = cost.shape
  kernel, plan, b = np.exp(-cost / beta), np.ones((n, m)), np.full(n, 1 / n)
  for _ in range(iterations):
    q = kernel * plan
    a = 1 / (m * (b @ q))
    b = 1 / (n * (q @ a))
    plan = np.diag(b) @ q @ np.diag(a)
  return plan


def word_region_alignment(
  words, regions, word_mask=None, region_mask=None, beta=0.5, iterations=50, fixed=None
):
  """Without the padding, the plan from what is held fixed."""
  out = []
  for i in range(len(words)):
    pick = [slice(None) if mask is None else mask[i] for mask in (word_mask, region_mask)]
    cost, held = (
      1 - unit(w[i][pick[0]]) @ unit(r[i][pick[1]]).T
      for w, r in ((words, regions), (fixed["words"], fixed["regions"]))
    )
    out.append(np.sum(transport_plan(held, beta, iterations) * cost) if cost.size else 0.0)
  return np.array(out)


def masked_soft_labels(logits, target, mask):
  out = []
  for z, q, hidden in zip(logits, target, mask, strict=True):
    terms = []
    for r in np.flatnonzero(hidden):
      p = np.exp(z[r]) / np.sum(np.exp(z[r]))
      terms.append(sum(b * np.log(b / a) for a, b in zip(p, q[r], strict=True) if b > 0))
    out.append(np.mean(terms) if terms else 0.0)
  return np.array(out)


def pairs(rng, batch, dim):
  return {"positive": rng.normal(size=batch), "negatives": rng.normal(size=(batch, 2))}


def masked_pairs(rng, batch, dim):
  return pairs(rng, batch, dim) | {"mask": rng.random((batch, 2)) < 0.5}


def sequences(rng, batch, dim):
  return {"words": rng.normal(size=(batch, 4, dim)), "regions": rng.normal(size=(batch, 3, dim))}


def padded(rng, batch, dim):
  word_mask, region_mask = rng.random((batch, 4)) < 0.6, rng.random((batch, 3)) < 0.6
  word_mask[1:2], region_mask[2:3] = False, False  # of some examples one side is all padding
  return sequences(rng, batch, dim) | {"word_mask": word_mask, "region_mask": region_mask}


def soft_labels(rng, batch, dim):
  target = rng.uniform(size=(batch, 4, dim)) * (rng.random((batch, 4, dim)) < 0.7) + 1e-3
  target /= target.sum(-1, keepdims=True)
  mask = rng.random((batch, 4)) < 0.5
  return {"logits": rng.normal(size=target.shape), "target": target, "mask": mask}


FEW = {"beta": 0.2, "iterations": 7}
ALIGN, MATCH = matching.word_region_alignment, matching.image_text_matching
SOFT = matching.masked_soft_labels
CASES = [
  Case("image_text_matching", MATCH, pairs, image_text_matching),
  Case("image_text_matching_masked", MATCH, masked_pairs, image_text_matching),
  Case("word_region_alignment", ALIGN, sequences, word_region_alignment),
  Case("word_region_alignment_padded", ALIGN, padded, word_region_alignment, options=FEW),
  Case("masked_soft_labels", SOFT, soft_labels, masked_soft_labels, stopped=("target",)),
]
