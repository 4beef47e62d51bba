"""Softmax over one vector per class with a margin that the batch sets, in NumPy."""

import numpy as np
from definitions.margin_softmax import cosine, six_centers
from harness import Case, labelled

from repjax.losses.adaptive_margin import madacos


def scale_and_margin(embeddings, labels, centers, alpha, min_scale):
  own = [cosine(x, centers[label]) for x, label in zip(embeddings, labels, strict=True)]
  middle = sorted(range(len(own)), key=lambda i: own[i])[(len(own) - 1) // 2]
  median = own[middle]
  scale = max(np.log(9999999 * (1 - alpha) / alpha) / (1 - median), min_scale)
  others = [w for c, w in enumerate(centers) if c != labels[middle]]
  rest = np.sum([np.exp(scale * cosine(embeddings[middle], w)) for w in others])
  return scale, max(median - np.log(rest * alpha / (1 - alpha)) / scale, 0)


def adaptive(embeddings, labels, centers, alpha=0.02, min_scale=32.0, fixed=None):
  scale, margin = scale_and_margin(**fixed, alpha=alpha, min_scale=min_scale)
  out = []
  for x, label in zip(embeddings, labels, strict=True):
    logits = [scale * (cosine(x, w) - margin * (c == label)) for c, w in enumerate(centers)]
    out.append(np.log(np.sum(np.exp(logits))) - logits[label])
  return np.array(out)


def clustered(rng, batch, dim):
  """Examples near the axes of their classes, so that there is a margin to set."""
  labels = np.arange(batch) % 3
  return {"embeddings": np.eye(3, dim)[labels] + 0.2 * rng.normal(size=(batch, dim))} | {
    "labels": labels
  }


def axes(rng, dim):
  return {"centers": np.eye(6, dim) + 0.3 * rng.normal(size=(6, dim))}


ANYWHERE = labelled("embeddings", classes=5)
CASES = [
  Case("madacos", madacos, clustered, adaptive, axes),
  Case("madacos_early", madacos, ANYWHERE, adaptive, six_centers),
  Case("madacos_mild", madacos, ANYWHERE, adaptive, six_centers, {"alpha": 0.9, "min_scale": 1.0}),
]
