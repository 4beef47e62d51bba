"""Losses that predict how other views are assigned to prototypes, in NumPy."""

import functools

import jax.numpy as jnp
import numpy as np
from definitions.assignments import sinkhorn
from definitions.contrastive import unit
from harness import Case

from repjax.losses import prototypes as ours


def softmax(x):
  e = np.exp(x - x.max())
  return e / e.sum()


def log_softmax(x):
  return x - x.max() - np.log(np.sum(np.exp(x - x.max())))


def cross_entropy(target, logits):
  return -np.sum(target * log_softmax(logits))


def swav(scores, assignments, temperature=0.1):
  """Arrays ``[batch, views, prototypes]``."""
  out = []
  for s, q in zip(scores, assignments, strict=True):
    pairs = [(g, v) for g in range(len(q)) for v in range(len(s)) if g != v]
    out.append(np.mean([cross_entropy(q[g], s[v] / temperature) for g, v in pairs]))
  return np.array(out)


def pmsn(
  anchors,
  targets,
  prototypes,
  prior=None,
  temperature=0.1,
  sharpening=0.25,
  iterations=3,
  regularizer_weight=1.0,
  fixed=None,
):
  k = len(prototypes)
  probabilities = lambda z, c: np.array([softmax(unit(c) @ x / temperature) for x in unit(z)])
  target = probabilities(fixed["targets"], fixed["prototypes"]) ** (1 / sharpening)
  target /= target.sum(1, keepdims=True)
  if iterations:
    target = sinkhorn(np.log(target), 1.0, iterations)
  entropy, predictions = [], []
  for views, q in zip(anchors, target, strict=True):
    for p in probabilities(views, prototypes):
      entropy.append(-np.sum(q * np.log(p)))
      predictions.append(p)
  if prior is None:
    prior = np.array([j**-0.25 for j in range(1, k + 1)])
    prior /= prior.sum()
  mean = np.mean(predictions, 0)
  return np.mean(entropy) + regularizer_weight * np.sum(mean * np.log(mean / prior))


def msn(anchors, targets, prototypes, temperature=0.1, sharpening=0.25, iterations=3, fixed=None):
  uniform = np.full(len(prototypes), 1 / len(prototypes))
  options = {"temperature": temperature, "sharpening": sharpening, "iterations": iterations}
  return pmsn(anchors, targets, prototypes, uniform, **options, fixed=fixed)


def obow(logits, targets):
  return np.array([cross_entropy(y, x) for x, y in zip(logits, targets, strict=True)])


def word_distances(features, vocabulary):
  return [[[np.sum((f - v) ** 2) for v in vocabulary] for f in image] for image in features]


def obow_targets(features, vocabulary, distance=0.7, inverse_delta=15.0):
  out = []
  for image in word_distances(features, vocabulary):
    codes = [softmax(-inverse_delta * np.array(d) / distance) for d in image]
    bag = np.max(codes, 0)
    out.append(bag / bag.sum())
  return np.array(out)


def batch_first(loss, *names):
  """The loss of arrays whose views come after the batch, as the harness draws them."""

  @functools.wraps(loss)
  def run(**options):
    moved = {k: jnp.swapaxes(x, 0, 1) if k in names else x for k, x in options.items()}
    return loss(**moved)

  return run


def bag(features, vocabulary, *, inverse_delta=15.0):
  """A number for each bag of words."""
  targets = ours.obow_targets(features, vocabulary, 0.7, inverse_delta=inverse_delta)
  return jnp.sum(targets**2, -1)


def defined_bag(features, vocabulary, inverse_delta=15.0):
  return np.sum(obow_targets(features, vocabulary, 0.7, inverse_delta) ** 2, -1)


def step(features, vocabulary, *, where=None, axis_name=None):
  """How far the distance moves."""
  options = {"momentum": 0.9, "where": where, "axis_name": axis_name}
  return ours.update_word_distance(0.7, features, vocabulary, **options) - 0.7


def defined_step(features, vocabulary):
  nearest = [min(d) for image in word_distances(features, vocabulary) for d in image]
  return 0.1 * (np.mean(nearest) - 0.7)


def draw_views(rng, batch, dim):
  assignments = rng.exponential(size=(batch, 2, dim))
  assignments /= assignments.sum(-1, keepdims=True)
  return {"scores": rng.uniform(-1, 1, (batch, 4, dim)), "assignments": assignments}


def draw_one_target(rng, batch, dim):
  drawn = draw_views(rng, batch, dim)
  return drawn | {"assignments": drawn["assignments"][:, :1]}


def draw_masked(rng, batch, dim):
  return {"anchors": rng.normal(size=(batch, 2, dim)), "targets": rng.normal(size=(batch, dim))}


def draw_prototypes(rng, dim):
  return {"prototypes": rng.normal(size=(6, dim))}


def draw_prior(rng, dim):
  prior = rng.uniform(0.5, 2, 6)
  return draw_prototypes(rng, dim) | {"prior": prior / prior.sum()}


def draw_bags(rng, batch, dim):
  targets = rng.exponential(size=(batch, dim))
  targets /= targets.sum(-1, keepdims=True)
  return {"logits": rng.normal(size=(batch, dim)), "targets": targets}


def draw_features(rng, batch, dim):
  return {"features": rng.normal(size=(batch, 9, dim))}


def draw_words(rng, dim):
  return {"vocabulary": rng.normal(size=(6, dim))}


SWAV = batch_first(ours.swav, "scores", "assignments")
MSN, PMSN = (batch_first(loss, "anchors") for loss in (ours.msn, ours.pmsn))
UNBALANCED = {"iterations": 0, "temperature": 0.3, "sharpening": 0.5, "regularizer_weight": 2.0}
ASSIGNED, TARGETS = ("assignments",), ("targets",)
WORDS = ("features", "vocabulary")
CASES = [
  Case("swav", SWAV, draw_views, swav, stopped=ASSIGNED),
  Case("swav_one_target", SWAV, draw_one_target, swav, stopped=ASSIGNED),
  Case("msn", MSN, draw_masked, msn, draw_prototypes, stopped=TARGETS),
  Case("pmsn", PMSN, draw_masked, pmsn, draw_prototypes, stopped=TARGETS),
  Case("pmsn_prior", PMSN, draw_masked, pmsn, draw_prior, UNBALANCED, stopped=TARGETS),
  Case("obow", ours.obow, draw_bags, obow, stopped=TARGETS),
  Case("obow_targets", bag, draw_features, defined_bag, draw_words, stopped=WORDS),
  Case("obow_distance", step, draw_features, defined_step, draw_words, stopped=WORDS),
]
