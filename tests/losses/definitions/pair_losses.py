"""Losses of single pairs, in NumPy, pair by pair."""

import functools

import numpy as np
from definitions.triplets import WEIGHTS, clear, members, metric_of, unit
from harness import Case

from repjax.losses import distances, pair_losses


def given_pairs(
  z_1,
  z_2,
  same,
  positive_margin=0.0,
  negative_margin=1.0,
  power=2,
  distance=distances.euclidean,
  normalize=False,
):
  if normalize:
    z_1, z_2 = unit(z_1), unit(z_2)
  out = []
  for x, y, together in zip(z_1, z_2, same, strict=True):
    d = metric_of(distance)(x, y)
    violation = d - positive_margin if together else negative_margin - d
    out.append(max(violation, 0) ** power / power)
  return np.array(out)


def mean(numbers, weights):
  return np.average(numbers, weights=weights) if np.sum(weights) > 0 else 0


def by_margins(x, labels, weights, near, far, power, distance):
  """Mean of the positives beyond a row's near margin, and of the negatives within its far one."""
  d = metric_of(distance)
  out = []
  for i in range(len(x)):
    positive, negative = members(labels, i)
    w = np.ones(len(x)) if weights is None else weights[i]
    too_far = [max(d(x[i], x[j]) - near[i], 0) ** power / power for j in positive]
    too_near = [max(far[i] - d(x[i], x[j]), 0) ** power / power for j in negative]
    out.append(mean(too_far, w[positive]) + mean(too_near, w[negative]))
  return np.array(out)


def contrastive(
  embeddings,
  labels,
  weights=None,
  positive_margin=0.0,
  negative_margin=1.0,
  power=2,
  distance=distances.euclidean,
  normalize=False,
):
  x, one = unit(embeddings) if normalize else embeddings, np.ones(len(labels))
  near, far = positive_margin * one, negative_margin * one
  return by_margins(x, labels, weights, near, far, power, distance)


def margin(embeddings, labels, beta, weights=None, margin=0.2, nu=0.0, normalize=True):
  x = unit(embeddings) if normalize else embeddings
  of_row = np.broadcast_to(beta, (5,))[labels]
  near, far = of_row - margin, of_row + margin
  return by_margins(x, labels, weights, near, far, 1, distances.euclidean) + nu * of_row


def snr(
  embeddings,
  labels,
  weights=None,
  positive_margin=0.0,
  negative_margin=1.0,
  zero_mean=0.0,
  normalize=False,
):
  x, one = unit(embeddings) if normalize else embeddings, np.ones(len(labels))
  near, far = positive_margin * one, negative_margin * one
  loss = by_margins(x, labels, weights, near, far, 1, distances.snr_distance)
  return loss + zero_mean * np.abs(x.sum(1))


def variance_terms(embeddings, labels, weights=None, epsilons=(0.01, 0.01)):
  """How far each pair is on the wrong side of its mean, with its weight, by kind of pair."""
  x, kinds = unit(embeddings), ([], [])
  for i in range(len(x)):
    for kind, group in zip(kinds, members(labels, i), strict=True):
      kind += [(x[i] @ x[j], 1 if weights is None else weights[i, j]) for j in group]
  out = []
  for kind, epsilon, sign in zip(kinds, epsilons, (-1, 1), strict=True):
    cosines, w = np.array(kind).reshape(-1, 2).T
    out.append((sign * (cosines - (1 + sign * epsilon) * mean(cosines, w)), w))
  return out


def variance(embeddings, labels, weights=None, positive_epsilon=0.01, negative_epsilon=0.01):
  terms = variance_terms(embeddings, labels, weights, (positive_epsilon, negative_epsilon))
  return sum(mean(np.maximum(x, 0) ** 2, w) for x, w in terms)


def instance(z_1, z_2, labels, class_weights, scale=1.0, normalize=False):
  if normalize:
    z_1, z_2, class_weights = unit(z_1), unit(z_2), unit(class_weights)
  out = []
  for x, y, label in zip(z_1, z_2, labels, strict=True):
    probabilities = [np.exp(scale * class_weights @ z) for z in (x, y)]
    out.append(-sum(np.log(p[label] / p.sum()) for p in probabilities))
  return np.array(out)


def of_pairs(near, far, distance=distances.euclidean, normalize=False):
  """Hinges of all pairs."""

  def kinks(x, labels):
    x, d, out = unit(x) if normalize else x, metric_of(distance), []
    for i in range(len(x)):
      positive, negative = members(labels, i)
      out += [d(x[i], x[j]) - near for j in positive] + [d(x[i], x[j]) - far for j in negative]
    return out

  return kinks


def of_means(x, labels):
  return [v for values, _ in variance_terms(x, labels) for v in values]


def of_noise(x, labels):
  return of_pairs(0.0, 1.0, distances.snr_distance)(x, labels) + list(x.sum(1))


def two(rng, batch, dim):
  """Pairs, of which no two that are to be far lie near the margin."""
  z_1, z_2 = rng.normal(size=(2, batch, dim))
  same = np.arange(batch) % 3 == 0
  z_2[1::3] = z_1[1::3] + 0.3 * unit(z_2[1::3])
  return {"z_1": z_1, "z_2": z_2, "same": same}


def named(rng, batch, dim):
  z_1, z_2 = rng.normal(size=(2, batch, dim))
  return {"z_1": z_1, "z_2": z_2, "labels": rng.integers(3, size=batch)}


def boundaries(rng, dim):
  return {"beta": np.full(5, 1.2)}


def classifier(rng, dim):
  return {"class_weights": rng.normal(size=(3, dim))}


SMALL = {"normalize": True, "power": 1, "positive_margin": 0.3, "negative_margin": 1.1}
CUBIC = {"distance": functools.partial(distances.lp_distance, p=3), "negative_margin": 2.0}
OF_UNIT = of_pairs(1.0, 1.4, normalize=True)
CASES = [
  Case("contrastive_pairs", pair_losses.contrastive_pairs, two, given_pairs),
  Case(
    "contrastive_pairs_cosine",
    pair_losses.contrastive_pairs,
    two,
    given_pairs,
    options={"distance": distances.cosine_distance, "negative_margin": 0.5, "power": 1},
  ),
  Case(
    "contrastive_margin",
    pair_losses.contrastive_margin,
    clear(of_pairs(0.0, 1.0)),
    contrastive,
  ),
  Case(
    "contrastive_margin_absolute",
    pair_losses.contrastive_margin,
    clear(of_pairs(0.3, 1.1, normalize=True)),
    contrastive,
    options=SMALL,
  ),
  Case(
    "contrastive_margin_weights",
    pair_losses.contrastive_margin,
    clear(of_pairs(0.0, 2.0, CUBIC["distance"]), weights=True),
    contrastive,
    options=CUBIC,
    **WEIGHTS,
  ),
  Case("margin_loss", pair_losses.margin_loss, clear(OF_UNIT), margin, boundaries, {"nu": 0.1}),
  Case(
    "margin_loss_one_boundary",
    pair_losses.margin_loss,
    clear(OF_UNIT, weights=True),
    margin,
    lambda rng, dim: {"beta": np.array(1.2)},
    **WEIGHTS,
  ),
  Case(
    "snr_contrastive",
    pair_losses.snr_contrastive,
    clear(of_noise),
    snr,
    options={"zero_mean": 0.3},
  ),
  Case("intra_pair_variance", pair_losses.intra_pair_variance, clear(of_means), variance),
  Case("instance_loss", pair_losses.instance_loss, named, instance, classifier),
  Case(
    "instance_loss_cosine",
    pair_losses.instance_loss,
    named,
    instance,
    classifier,
    {"scale": 8.0, "normalize": True},
  ),
]
