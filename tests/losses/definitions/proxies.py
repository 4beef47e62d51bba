"""Losses over learned representatives of the classes, in NumPy."""

import numpy as np
from harness import Case, labelled

from repjax.losses import proxies as losses


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def proxy_nca(embeddings, labels, proxies, temperature=1.0, own_in_sum=True):
  out = []
  for x, label in zip(unit(embeddings), labels, strict=True):
    near = [np.exp(-np.sum((x - p) ** 2) / temperature) for p in unit(proxies)]
    below = [n for c, n in enumerate(near) if own_in_sum or c != label]
    out.append(-np.log(near[label] / np.sum(below)))
  return np.array(out)


def proxy_anchor(embeddings, labels, proxies, margin=0.1, alpha=32.0):
  pull, push, with_examples = 0.0, 0.0, 0
  for c, p in enumerate(unit(proxies)):
    cosines = unit(embeddings) @ p
    positive = [np.exp(-alpha * (s - margin)) for s in cosines[labels == c]]
    negative = [np.exp(alpha * (s + margin)) for s in cosines[labels != c]]
    with_examples += len(positive) > 0
    pull += np.log(1 + np.sum(positive))
    push += np.log(1 + np.sum(negative))
  return pull / with_examples + push / len(proxies)


def soft_triple(embeddings, labels, centers, scale=20.0, gamma=0.1, margin=0.01):
  out = []
  for x, label in zip(unit(embeddings), labels, strict=True):
    logits = []
    for c, of_class in enumerate(unit(centers)):
      weights = [np.exp(x @ w / gamma) for w in of_class]
      similarity = np.average([x @ w for w in of_class], weights=weights)
      logits.append(scale * (similarity - margin * (c == label)))
    out.append(np.log(np.sum(np.exp(logits))) - logits[label])
  return np.array(out)


def six_proxies(rng, dim):
  return {"proxies": rng.normal(size=(6, dim))}


def three_centers_each(rng, dim):
  return {"centers": rng.normal(size=(6, 3, dim))}


def case(name, definition, shared=six_proxies, **options):
  loss = getattr(losses, definition.__name__)
  return Case(name, loss, labelled("embeddings", classes=5), definition, shared, options)


CASES = [
  case("proxy_nca", proxy_nca),
  case("proxy_nca_plus_plus", proxy_nca, temperature=1 / 9),
  case("proxy_nca_without_own", proxy_nca, own_in_sum=False),
  case("proxy_anchor", proxy_anchor),
  case("proxy_anchor_soft", proxy_anchor, margin=0.3, alpha=4.0),
  case("soft_triple", soft_triple, three_centers_each),
  case("soft_triple_soft", soft_triple, three_centers_each, scale=5.0, gamma=0.5, margin=0.2),
]
