"""Losses of images that carry several tags, in NumPy."""

import numpy as np
from harness import Case

from repjax.losses import tagging


def asymmetric(
  logits,
  labels,
  gamma_positive=1.0,
  gamma_negative=4.0,
  clip=0.05,
  through_weights=True,
  fixed=None,
):
  sigmoid = lambda x: 1 / (1 + np.exp(-x))
  p, held = sigmoid(logits), sigmoid(logits if through_weights else fixed["logits"])
  out = np.zeros(len(logits))
  for i in range(len(logits)):
    for c in range(logits.shape[1]):
      if labels[i, c] == 1:
        out[i] -= (1 - held[i, c]) ** gamma_positive * np.log(p[i, c])
      elif labels[i, c] == 0:
        weight = max(held[i, c] - clip, 0) ** gamma_negative
        out[i] -= weight * np.log(1 - max(p[i, c] - clip, 0))
  return out


def tags(rng, batch, dim):
  logits = 2 * rng.normal(size=(batch, dim))
  return {"logits": logits, "labels": rng.integers(-1, 2, size=(batch, dim))}


# Powers below 2 have a kink where negatives are left out, at which no input lies.
PLAIN = {"gamma_positive": 0.0, "gamma_negative": 0.0, "clip": 0.0}
MILD = {"gamma_positive": 0.5, "gamma_negative": 1.5, "clip": 0.1}
HELD = {"through_weights": False}
CASES = [
  Case("asymmetric", tagging.asymmetric_multi_label, tags, asymmetric),
  Case("asymmetric_mild", tagging.asymmetric_multi_label, tags, asymmetric, options=MILD),
  Case("asymmetric_plain", tagging.asymmetric_multi_label, tags, asymmetric, options=PLAIN),
  Case("asymmetric_held", tagging.asymmetric_multi_label, tags, asymmetric, options=HELD),
]
