"""Losses that tell what comes next, or belongs together, from what does not, in NumPy."""

import numpy as np
from definitions.contrastive import log_sum_exp
from harness import Case

from repjax.losses import predictive


def cpc(prediction, target, temperature=1.0, over_time=False):
  batch, steps, _ = prediction.shape
  out = np.zeros(batch)
  for i in range(batch):
    for k in range(steps):
      choices = [(j, k) for j in range(batch)]
      if over_time:
        choices = [(j, m) for j in range(batch) for m in range(steps)]
      logits = [prediction[i, k] @ target[choice] / temperature for choice in choices]
      out[i] += (log_sum_exp(logits) - logits[choices.index((i, k))]) / steps
  return out


def block(x):
  """The mean of a block, or what is none."""
  return x if x.ndim == 1 else np.mean(x, 0)


def margins(anchor, positive, negative):
  return np.array([anchor @ (block(positive) - block(n)) for n in negative])


def curl_logistic(anchor, positive, negative):
  return np.array(
    [
      np.log2(1 + np.sum(np.exp(-margins(*example))))
      for example in zip(anchor, positive, negative, strict=True)
    ]
  )


def curl_hinge(anchor, positive, negative, fixed=None):
  held = zip(fixed["anchor"], fixed["positive"], fixed["negative"], strict=True)
  out = []
  for example, same in zip(zip(anchor, positive, negative, strict=True), held, strict=True):
    closest = np.argmin(margins(*same))
    active = margins(*same)[closest] < 1
    out.append(active * (1 - margins(*example)[closest]))
  return np.array(out)


def sequences(rng, batch, dim):
  return {name: rng.normal(size=(batch, 3, dim)) for name in ("prediction", "target")}


def triples(rng, batch, dim):
  return {
    "anchor": rng.normal(size=(batch, dim)),
    "positive": rng.normal(size=(batch, dim)),
    "negative": rng.normal(size=(batch, 4, dim)),
  }


def blocks(rng, batch, dim):
  return triples(rng, batch, dim) | {
    "positive": rng.normal(size=(batch, 3, dim)),
    "negative": rng.normal(size=(batch, 2, 3, dim)),
  }


CASES = [
  Case("cpc", predictive.cpc, sequences, cpc, options={"temperature": 0.7}),
  Case("cpc_over_time", predictive.cpc, sequences, cpc, options={"over_time": True}),
  Case("curl_logistic", predictive.curl_logistic, triples, curl_logistic),
  Case("curl_logistic_blocks", predictive.curl_logistic, blocks, curl_logistic),
  Case("curl_hinge", predictive.curl_hinge, triples, curl_hinge),
  Case("curl_hinge_blocks", predictive.curl_hinge, blocks, curl_hinge),
]
