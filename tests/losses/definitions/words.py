"""Losses of word vectors, in NumPy."""

import numpy as np
from harness import Case, normal

from repjax.losses import words


def skip_gram(word, context, negatives):
  """By the probability of being told right."""
  sigmoid = lambda x: 1 / (1 + np.exp(-x))
  out = []
  for v, u, drawn in zip(word, context, negatives, strict=True):
    likelihood = sigmoid(v @ u) * np.prod([1 - sigmoid(v @ n) for n in drawn])
    out.append(-np.log(likelihood))
  return np.array(out)


def glove(score, count, cutoff=100.0, power=0.75):
  out = []
  for s, x in zip(score, count, strict=True):
    weight = (x / cutoff) ** power if x < cutoff else 1
    out.append(weight * (s - np.log(x)) ** 2 if x > 0 else 0)
  return np.array(out)


def neighbours(rng, batch, dim):
  negatives = {"negatives": rng.normal(size=(batch, 4, dim))}
  return normal("word", "context")(rng, batch, dim) | negatives


def counts(rng, batch, dim):
  count = np.floor(10 ** rng.uniform(-1, 3, size=batch))
  return {"score": rng.normal(size=batch), "count": count}


STEEP = {"cutoff": 10.0, "power": 1.0}
CASES = [
  Case("skip_gram", words.skip_gram, neighbours, skip_gram),
  Case("glove", words.glove, counts, glove, stopped=("count",)),
  Case("glove_steep", words.glove, counts, glove, options=STEEP, stopped=("count",)),
]
