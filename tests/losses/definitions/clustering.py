"""Losses whose classes are clusters, in NumPy."""

import jax.numpy as jnp
import numpy as np
from definitions.contrastive import unit
from definitions.prototypes import log_softmax, softmax
from harness import Case, labelled, normal

from repjax.losses import clustering as ours


def rows(function, x):
  return np.array([function(row) for row in x])


def deepcluster(embeddings, prototypes, labels, temperature=0.1):
  out = []
  for z, label in zip(unit(embeddings), labels, strict=True):
    logits = [z @ c / temperature for c in unit(prototypes)]
    out.append(-log_softmax(np.array(logits))[label])
  return np.array(out)


def scan(anchors, neighbors, entropy_weight=5.0):
  p, q = rows(softmax, anchors), rows(softmax, neighbors)
  agreement = [np.log(x @ y) for x, y in zip(p, q, strict=True)]
  return -np.mean(agreement) + entropy_weight * sum(m * np.log(m) for m in p.mean(0))


def self_label(weak, strong, threshold=0.99, balance=True):
  losses = {}
  for logits, view in zip(weak, strong, strict=True):
    p = softmax(logits)
    if p.max() > threshold:
      losses.setdefault(p.argmax(), []).append(-log_softmax(view)[p.argmax()])
  if not losses:
    return 0
  means = [np.mean(x) for x in losses.values()]
  return np.mean(means if balance else np.concatenate(list(losses.values())))


def depict_targets(logits):
  p = rows(softmax, logits)
  q = np.array([[x / sum(p[:, k]) ** 0.5 for k, x in enumerate(row)] for row in p])
  return np.array([row / row.sum() for row in q])


def elr(logits, targets):
  p = np.clip(rows(softmax, logits), 1e-4, 1 - 1e-4)
  return np.array([np.log(1 - x @ t) for x, t in zip(p, targets, strict=True)])


def elr_targets(targets, logits, momentum=0.7):
  p = np.clip(rows(softmax, logits), 1e-4, 1 - 1e-4)
  return np.array(
    [momentum * t + (1 - momentum) * x / x.sum() for x, t in zip(p, targets, strict=True)]
  )


def depict(logits, predictions, *, where=None, axis_name=None):
  """The cross entropy of targets and predictions from noisy inputs."""
  q = ours.depict_targets(logits, where=where, axis_name=axis_name)
  return jnp.sum(q * jnp.asarray(predictions, q.dtype), -1)


def defined_depict(logits, predictions):
  return np.sum(depict_targets(logits) * predictions, -1)


def moved(targets, logits, *, momentum=0.7):
  return jnp.sum(ours.elr_targets(targets, logits, momentum=momentum) ** 2, -1)


def defined_moved(targets, logits, momentum=0.7):
  return np.sum(elr_targets(targets, logits, momentum) ** 2, -1)


def draw_confident(rng, batch, dim):
  return {"weak": 3 * rng.normal(size=(batch, dim)), "strong": rng.normal(size=(batch, dim))}


def draw_targets(rng, batch, dim):
  targets = rows(softmax, rng.normal(size=(batch, dim)))
  return {"logits": rng.normal(size=(batch, dim)), "targets": 0.9 * targets}


def draw_prototypes(rng, dim):
  return {"prototypes": rng.normal(size=(3, dim))}


LOGITS, PREDICTED, WEAK = normal("anchors", "neighbors"), normal("logits", "predictions"), ("weak",)
SURE = {"threshold": 0.6}
CASES = [
  Case("deepcluster", ours.deepcluster, labelled("embeddings"), deepcluster, draw_prototypes),
  Case("scan", ours.scan, LOGITS, scan),
  Case("scan_weighted", ours.scan, LOGITS, scan, options={"entropy_weight": 2.0}),
  Case("self_label", ours.self_label, draw_confident, self_label, options=SURE, stopped=WEAK),
  Case(
    "self_label_unbalanced",
    ours.self_label,
    draw_confident,
    self_label,
    options=SURE | {"balance": False},
    stopped=WEAK,
  ),
  Case("depict_targets", depict, PREDICTED, defined_depict, stopped=("logits",)),
  Case("elr", ours.elr, draw_targets, elr, stopped=("targets",)),
  Case("elr_targets", moved, draw_targets, defined_moved, stopped=("logits", "targets")),
]
