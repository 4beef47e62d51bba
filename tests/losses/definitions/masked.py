"""Losses that ask for what was hidden, in NumPy."""

import numpy as np
from harness import Case

from repjax.losses import masked

TOKENS = 6


def masked_pixels(prediction, target, mask, norm="l1", normalize_target=False):
  out = np.zeros(len(target))
  for i, hidden in enumerate(mask):
    errors = []
    for p in np.flatnonzero(hidden):
      x = target[i, p]
      if normalize_target:
        x = (x - x.mean()) / np.sqrt(((x - x.mean()) ** 2).sum() / (len(x) - 1) + 1e-6)
      error = np.abs(prediction[i, p] - x)
      errors += list(error if norm == "l1" else error**2)
    out[i] = np.mean(errors) if errors else 0
  return out


def masked_tokens(logits, targets, mask=None, label_smoothing=0.0):
  words, out = logits.shape[-1], np.zeros(len(targets))
  target = (1 - label_smoothing) * np.eye(words) + label_smoothing / words
  for i, row in enumerate(targets):
    losses = [
      -target[y] @ np.log(np.exp(logits[i, t]) / np.exp(logits[i, t]).sum())
      for t, y in enumerate(row)
      if y >= 0 and (mask is None or mask[i, t])
    ]
    out[i] = np.mean(losses) if losses else 0
  return out


def hidden(rng, batch):
  """Masks of all kinds; the first hides nothing."""
  mask = rng.uniform(size=(batch, TOKENS)) < 0.6
  mask[0] = batch == 1
  return mask


def patches(rng, batch, dim):
  """With no error near zero, where the absolute one has no derivative."""
  prediction, error = rng.normal(size=(2, batch, TOKENS, dim))
  target = prediction + error + 0.1 * np.sign(error)
  return {"prediction": prediction, "target": target, "mask": hidden(rng, batch)}


def words(rng, batch, dim):
  logits = 2 * rng.normal(size=(batch, TOKENS, dim))
  return {"logits": logits, "targets": rng.integers(-1, dim, size=(batch, TOKENS))}


def masked_words(rng, batch, dim):
  return words(rng, batch, dim) | {"mask": hidden(rng, batch)}


STOPPED = {"stopped": ("target",)}
SMOOTH = {"label_smoothing": 0.1}
MAE = {"norm": "l2", "normalize_target": True}
CASES = [
  Case("masked_pixels", masked.masked_pixels, patches, masked_pixels, **STOPPED),
  Case("masked_pixels_mae", masked.masked_pixels, patches, masked_pixels, options=MAE, **STOPPED),
  Case("masked_tokens", masked.masked_tokens, words, masked_tokens),
  Case("masked_tokens_mask", masked.masked_tokens, masked_words, masked_tokens),
  Case("masked_tokens_smooth", masked.masked_tokens, words, masked_tokens, options=SMOOTH),
]
