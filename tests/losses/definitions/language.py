"""Losses that ask for tokens, in NumPy."""

import numpy as np
from harness import Case

from repjax.losses import language

VOCABULARY = 6


def log_softmax(x):
  return x - np.log(np.sum(np.exp(x)))


def cross_entropy(logits, label, smoothing):
  """Against a target that gives some of its mass to every word."""
  target = np.full(len(logits), smoothing / len(logits))
  target[label] += 1 - smoothing
  return -target @ log_softmax(logits)


def mean(values):
  return np.mean(values) if values else 0.0


def next_token(logits, tokens, mask=None, label_smoothing=0.0):
  out = []
  for i, text in enumerate(tokens):
    asked = [t for t in range(1, len(text)) if text[t] >= 0 and (mask is None or mask[i, t])]
    out.append(mean([cross_entropy(logits[i, t - 1], text[t], label_smoothing) for t in asked]))
  return np.array(out)


def captioning(logits, tokens, pad=0, label_smoothing=0.0):
  return next_token(logits, tokens, tokens != pad, label_smoothing)


def bag_of_words(logits, tokens):
  out = []
  for z, text in zip(logits, tokens, strict=True):
    out.append(mean([-log_softmax(z)[w] for w in sorted(set(text.tolist()) - {-1})]))
  return np.array(out)


def texts(rng, batch, dim):
  tokens = rng.integers(VOCABULARY, size=(batch, dim))
  return {"logits": rng.normal(size=(batch, dim, VOCABULARY)), "tokens": tokens}


def masked_texts(rng, batch, dim):
  out = texts(rng, batch, dim)
  out["tokens"][rng.random((batch, dim)) < 0.2] = -1
  return out | {"mask": rng.random((batch, dim)) < 0.6}


def bags(rng, batch, dim):
  tokens = rng.integers(-1, VOCABULARY, size=(batch, dim))
  return {"logits": rng.normal(size=(batch, VOCABULARY)), "tokens": tokens}


SMOOTH = {"label_smoothing": 0.1}
NEXT = language.next_token
CASES = [
  Case("next_token", NEXT, texts, next_token),
  Case("next_token_masked", NEXT, masked_texts, next_token, options=SMOOTH),
  Case("captioning", language.captioning, texts, captioning),
  Case("captioning_pad", language.captioning, texts, captioning, options={"pad": 3}),
  Case("bag_of_words", language.bag_of_words, bags, bag_of_words),
]
