"""Softmax over some of the classes and of the dimensions, in NumPy."""

import jax
import numpy as np
from definitions.margin_softmax import arcface as full_arcface
from definitions.margin_softmax import cosface as full_cosface
from harness import Case, labelled

from repjax.losses.class_sampling import sample_classes, sample_dimensions
from repjax.losses.margin_softmax import arcface, cosface

KEY = jax.random.key(3)


def partial_arcface(embeddings, labels, centers, axis_name=None):
  labels, centers, _ = sample_classes(KEY, labels, centers, count=18, axis_name=axis_name)
  return arcface(embeddings, labels, centers, scale=8.0)


def arcface_of_some(embeddings, labels, centers):
  """The classes of the batch and, of the others, those of the highest draws."""
  draws = np.asarray(jax.random.uniform(KEY, (len(centers),), np.float32))
  there = sorted(set(labels.tolist()))
  others = sorted((c for c in range(len(centers)) if c not in there), key=lambda c: -draws[c])
  kept = there + others[: 18 - len(there)]
  places = np.array([kept.index(label) for label in labels])
  return full_arcface(embeddings, places, centers[kept], scale=8.0)


def cosface_in_few_dimensions(embeddings, labels, centers):
  embeddings, centers = sample_dimensions(KEY, embeddings, centers, count=3)
  return cosface(embeddings, labels, centers, scale=8.0)


def cosface_of_few(embeddings, labels, centers):
  order = np.asarray(jax.random.permutation(KEY, embeddings.shape[1]))
  kept = sorted(order[:3].tolist())
  return full_cosface(embeddings[:, kept], labels, centers[:, kept], scale=8.0)


def many_centers(rng, dim):
  return {"centers": rng.normal(size=(24, dim))}


DRAW = labelled("embeddings", classes=20)
CASES = [
  Case("partial_arcface", partial_arcface, DRAW, arcface_of_some, many_centers),
  Case("cosface_in_few_dimensions", cosface_in_few_dimensions, DRAW, cosface_of_few, many_centers),
]
