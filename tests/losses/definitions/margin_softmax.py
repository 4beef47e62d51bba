"""Softmax over one vector per class with margins, in NumPy, by angles."""

import numpy as np
from harness import Case, labelled

from repjax.losses import margin_softmax


def cosine(x, y):
  return x @ y / (np.linalg.norm(x) * np.linalg.norm(y))


def cross_entropy(logits, label):
  return np.log(np.sum(np.exp(logits))) - logits[label]


def softmax_with(embeddings, labels, centers, of_own, of_other):
  """Cross entropy of logits that are one function for the own class and another for the rest."""
  out = []
  for x, label in zip(embeddings, labels, strict=True):
    of = [of_own if c == label else of_other for c in range(len(centers))]
    out.append(cross_entropy([f(x, w) for f, w in zip(of, centers, strict=True)], label))
  return np.array(out)


def normalized_softmax(embeddings, labels, centers, temperature=0.05):
  logit = lambda x, w: cosine(x, w) / temperature
  return softmax_with(embeddings, labels, centers, logit, logit)


def cosface(embeddings, labels, centers, margin=0.35, scale=64.0):
  own = lambda x, w: scale * (cosine(x, w) - margin)
  return softmax_with(embeddings, labels, centers, own, lambda x, w: scale * cosine(x, w))


def added(cos, margin, easy_margin):
  angle = np.arccos(cos)
  if easy_margin:
    return np.cos(angle + margin) if angle < np.pi / 2 else np.cos(angle)
  beyond = angle + margin > np.pi
  return np.cos(angle) - margin * np.sin(margin) if beyond else np.cos(angle + margin)


def arcface(embeddings, labels, centers, margin=0.5, scale=64.0, easy_margin=False):
  own = lambda x, w: scale * added(cosine(x, w), margin, easy_margin)
  return softmax_with(embeddings, labels, centers, own, lambda x, w: scale * cosine(x, w))


def sub_center_arcface(embeddings, labels, centers, margin=0.5, scale=64.0, easy_margin=False):
  nearest = lambda x, ws: max(cosine(x, w) for w in ws)
  own = lambda x, ws: scale * added(nearest(x, ws), margin, easy_margin)
  return softmax_with(embeddings, labels, centers, own, lambda x, ws: scale * nearest(x, ws))


def multiplied(cos, margin, ease):
  angle = np.arccos(cos)
  k = np.floor(margin * angle / np.pi)
  harder = (-1) ** k * np.cos(margin * angle) - 2 * k
  return (ease * cos + harder) / (1 + ease)


def sphereface(embeddings, labels, centers, margin=4, scale=1.0, ease=0.0):
  length = np.linalg.norm
  own = lambda x, w: scale * length(x) * multiplied(cosine(x, w), margin, ease)
  other = lambda x, w: scale * length(x) * cosine(x, w)
  return softmax_with(embeddings, labels, centers, own, other)


def large_margin_softmax(embeddings, labels, centers, margin=4, scale=1.0, ease=0.0):
  length = np.linalg.norm
  own = lambda x, w: scale * length(x) * length(w) * multiplied(cosine(x, w), margin, ease)
  return softmax_with(embeddings, labels, centers, own, lambda x, w: scale * x @ w)


def p2s_grad(embeddings, labels, centers):
  error = lambda x, c, label: (cosine(x, centers[c]) - (c == label)) ** 2
  of_each = lambda x, label: [error(x, c, label) for c in range(len(centers))]
  return np.array([np.mean(of_each(x, y)) for x, y in zip(embeddings, labels, strict=True)])


def six_centers(rng, dim):
  return {"centers": rng.normal(size=(6, dim))}


def sub_centers(rng, dim):
  return {"centers": rng.normal(size=(6, 3, dim))}


def case(name, definition, shared=six_centers, **options):
  loss = getattr(margin_softmax, definition.__name__)
  return Case(name, loss, labelled("embeddings", classes=5), definition, shared, options)


CASES = [
  case("normalized_softmax", normalized_softmax),
  case("normalized_softmax_warm", normalized_softmax, temperature=0.5),
  case("cosface", cosface),
  case("cosface_soft", cosface, margin=0.2, scale=8.0),
  case("arcface", arcface),
  case("arcface_beyond_pi", arcface, margin=2.0, scale=8.0),  # for about half of the examples
  case("arcface_easy", arcface, scale=8.0, easy_margin=True),
  case("sub_center_arcface", sub_center_arcface, sub_centers),
  case("sub_center_arcface_soft", sub_center_arcface, sub_centers, margin=1.5, scale=8.0),
  case("sphereface", sphereface),
  case("sphereface_3_eased", sphereface, margin=3, scale=2.0, ease=5.0),
  case("large_margin_softmax", large_margin_softmax),
  case("large_margin_softmax_2_eased", large_margin_softmax, margin=2, ease=0.5),
  case("p2s_grad", p2s_grad),
]
