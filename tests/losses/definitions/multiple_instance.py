"""Losses in which one of several candidates is the partner, in NumPy."""

import numpy as np
from harness import Case

from repjax.losses import multiple_instance


def mil_nce(clip, captions, temperature=1.0, normalize=False):
  if normalize:
    clip, captions = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (clip, captions))
  score = lambda i, j: np.exp(captions[j] @ clip[i] / temperature).sum()
  out = []
  for i in range(len(clip)):
    negatives = sum(score(i, j) + score(j, i) for j in range(len(clip)) if j != i)
    out.append(-np.log(score(i, i) / (score(i, i) + negatives)))
  return np.array(out)


def clips(rng, batch, dim):
  return {"clip": rng.normal(size=(batch, dim)), "captions": rng.normal(size=(batch, 3, dim))}


UNIT = {"normalize": True, "temperature": 0.2}
CASES = [
  Case("mil_nce", multiple_instance.mil_nce, clips, mil_nce),
  Case("mil_nce_unit", multiple_instance.mil_nce, clips, mil_nce, options=UNIT),
]
