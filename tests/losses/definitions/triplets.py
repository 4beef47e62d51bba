"""Losses over triplets, in NumPy, triplet by triplet."""

import functools

import numpy as np
from harness import Case, normal

from repjax.losses import distances, triplets


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def euclidean(x, y):
  return np.sqrt(np.sum((x - y) ** 2))


def squared(x, y):
  return np.sum((x - y) ** 2)


def cosine(x, y):
  return 1 - unit(x) @ unit(y)


def manhattan(x, y):
  return np.sum(np.abs(x - y))


def cubic(x, y):
  return np.sum(np.abs(x - y) ** 3) ** (1 / 3)


def noise_to_signal(x, y):
  return np.var(x - y) / np.var(x)


METRICS = {
  distances.euclidean: euclidean,
  distances.squared_euclidean: squared,
  distances.cosine_distance: cosine,
  distances.snr_distance: noise_to_signal,
}


def metric_of(distance):
  """The same distance of two vectors."""
  if isinstance(distance, functools.partial):
    return {1: manhattan, 3: cubic}[distance.keywords["p"]]
  return METRICS[distance]


def members(labels, i):
  """Who is of a row's class, and who is of another."""
  positive = [j for j in range(len(labels)) if labels[j] == labels[i] and j != i]
  return positive, [j for j in range(len(labels)) if labels[j] != labels[i]]


def penalty(x, soft):
  return np.log1p(np.exp(x)) if soft else max(x, 0)


def given(
  anchor,
  positive,
  negative,
  margin=0.2,
  soft=False,
  distance=distances.euclidean,
  normalize=False,
):
  d = metric_of(distance)
  if normalize:
    anchor, positive, negative = unit(anchor), unit(positive), unit(negative)
  rows = zip(anchor, positive, negative, strict=True)
  return np.array([penalty(margin + d(a, p) - d(a, n), soft) for a, p, n in rows])


def violations(
  embeddings, labels, margin=0.2, distance=distances.euclidean, normalize=False, weights=None
):
  """Of each row, how far each triplet violates the margin, with its weight."""
  x = unit(embeddings) if normalize else embeddings
  d, w = metric_of(distance), np.ones((len(x), len(x))) if weights is None else weights
  out = []
  for i in range(len(x)):
    positive, negative = members(labels, i)
    near, far = ({j: d(x[i], x[j]) for j in group} for group in (positive, negative))
    pairs = [(p, n) for p in positive for n in negative]
    out.append([(margin + near[p] - far[n], w[i, p] * w[i, n]) for p, n in pairs])
  return out


def batch_all(embeddings, labels, weights=None, soft=False, active_only=False, **options):
  out = []
  for of_anchor in violations(embeddings, labels, weights=weights, **options):
    total = sum(w * penalty(v, soft) for v, w in of_anchor)
    count = sum(w for v, w in of_anchor if v > 0 or not active_only)
    out.append(total / count if count else 0)
  return np.array(out)


def everything(
  embeddings,
  labels,
  weights=None,
  margin=0.2,
  soft=False,
  active_only=False,
  distance=distances.euclidean,
  normalize=False,
):
  options = {"margin": margin, "distance": distance, "normalize": normalize}
  return batch_all(embeddings, labels, weights, soft, active_only, **options)


def hard(embeddings, labels, margin=0.2, soft=False, distance=distances.euclidean, normalize=False):
  triplets = violations(embeddings, labels, margin, distance, normalize)
  return np.array([penalty(max(v for v, _ in t), soft) if t else 0 for t in triplets])


def semi_hard(
  embeddings,
  labels,
  margin=0.2,
  farthest_otherwise=False,
  distance=distances.squared_euclidean,
  normalize=True,
):
  x, d = unit(embeddings) if normalize else embeddings, metric_of(distance)
  out = []
  for i in range(len(x)):
    positive, negative = members(labels, i)
    far = sorted(d(x[i], x[j]) for j in negative)
    losses = []
    for p in positive:
      near = d(x[i], x[p])
      chosen = [f for f in far if f > near][:1]
      if farthest_otherwise and not chosen:
        chosen = far[-1:]
      losses += [max(margin + near - chosen[0], 0) if chosen else 0]
    out.append(np.mean(losses) if losses else 0)
  return np.array(out)


def centroid(embeddings, labels, margin=0.3, distance=distances.euclidean, normalize=False):
  x, d = unit(embeddings) if normalize else embeddings, metric_of(distance)
  out = []
  for i in range(len(x)):
    positive, negative = members(labels, i)
    others = {labels[j] for j in negative}
    if not positive or not others:
      out.append(0)
      continue
    far = [d(x[i], x[labels == c].mean(0)) for c in others]
    out.append(max(margin + d(x[i], x[positive].mean(0)) - min(far), 0))
  return np.array(out)


def clear(kinks, classes=4, weights=False):
  """Draws a batch of which no number that decides about a formula is about to change its sign.

  Differences of the definition would straddle a kink otherwise. Of the classes one has a single
  member.

  Args:
    kinks: (embeddings, labels) -> the numbers.
    classes: with several members each.
    weights: whether to draw weights of pairs too, a third of which are 0.
  """

  def draw(rng, batch, dim):
    labels = np.append(np.arange(batch - 1) % classes, classes)
    for _ in range(10_000):
      embeddings = rng.normal(size=(batch, dim))
      numbers = np.array(kinks(embeddings, labels))
      if np.all(np.abs(numbers) > 0.008 * max(1.0, 12 / batch)) or batch > 12:
        break
    else:
      raise RuntimeError("every draw was close to a kink")
    arrays = {"embeddings": embeddings, "labels": labels}
    if weights:
      drawn = rng.uniform(0.5, 2, (batch, batch)) * (rng.random((batch, batch)) > 1 / 3)
      arrays["weights"] = drawn
    return arrays

  return draw


def of_triplets(**options):
  """Hinges of all triplets."""
  return lambda x, labels: [v for t in violations(x, labels, **options) for v, _ in t]


def of_order(**options):
  """Hinges of all triplets, and what decides which negative is the nearest to a positive."""

  def kinks(x, labels):
    pairs = violations(x, labels, **{**options, "margin": 0})
    return of_triplets(**options)(x, labels) + [v for t in pairs for v, _ in t]

  return kinks


def of_hardest(**options):
  """Hinges of the hardest triplets, and how clearly they are the hardest."""

  def kinks(x, labels):
    ranked = [sorted(v for v, _ in t)[::-1] for t in violations(x, labels, **options)]
    return [t[0] for t in ranked if t] + [t[0] - t[1] for t in ranked if len(t) > 1]

  return kinks


def nothing(x, labels):
  return []


SQUARED = {"distance": distances.squared_euclidean, "normalize": True}
MANHATTAN = {"distance": functools.partial(distances.lp_distance, p=1)}
COSINE = {"distance": distances.cosine_distance, "margin": 0.3}
WEIGHTS = {"square": ("weights",), "stopped": ("weights",)}
THREE = normal("anchor", "positive", "negative")
CASES = [
  Case("triplet", triplets.triplet, THREE, given, options={"margin": 0.5}),
  Case("triplet_soft", triplets.triplet, THREE, given, options={"margin": 0.0, "soft": True}),
  Case("triplet_squared", triplets.triplet, THREE, given, options=SQUARED),
  Case("triplet_all", triplets.triplet_all, clear(of_triplets()), everything),
  Case(
    "triplet_all_cosine",
    triplets.triplet_all,
    clear(of_triplets(**COSINE)),
    everything,
    options=COSINE,
  ),
  Case(
    "triplet_all_active",
    triplets.triplet_all,
    clear(of_triplets(**SQUARED)),
    everything,
    options={"active_only": True, **SQUARED},
  ),
  Case(
    "triplet_all_weights",
    triplets.triplet_all,
    clear(of_triplets(), weights=True),
    everything,
    **WEIGHTS,
  ),
  Case(
    "triplet_all_soft",
    triplets.triplet_all,
    clear(nothing, weights=True),
    everything,
    options={"soft": True},
    **WEIGHTS,
  ),
  Case("triplet_hard", triplets.triplet_hard, clear(of_hardest()), hard),
  Case(
    "triplet_hard_soft",
    triplets.triplet_hard,
    clear(of_hardest(**MANHATTAN)),
    hard,
    options={"soft": True, **MANHATTAN},
  ),
  Case("triplet_semi_hard", triplets.triplet_semi_hard, clear(of_order(**SQUARED)), semi_hard),
  Case(
    "triplet_semi_hard_otherwise",
    triplets.triplet_semi_hard,
    clear(of_order(distance=distances.euclidean)),
    semi_hard,
    options={
      "farthest_otherwise": True,
      "distance": distances.euclidean,
      "normalize": False,
    },
  ),
  Case("centroid_triplet", triplets.centroid_triplet, clear(nothing), centroid),
  Case(
    "centroid_triplet_squared",
    triplets.centroid_triplet,
    clear(nothing),
    centroid,
    options={"margin": 1.0, **SQUARED},
  ),
]
