"""Losses of variance, invariance and covariance, in NumPy."""

import numpy as np
from harness import Case, normal

from repjax.losses import variance as ours


def lack_of_variance(z, eps=1e-4):
  variance = z.var(0, ddof=1) if len(z) > 1 else np.zeros(z.shape[1])
  return np.mean([max(0, 1 - np.sqrt(v + eps)) for v in variance])


def common(z):
  if len(z) == 1:
    return 0.0
  covariance = np.atleast_2d(np.cov(z.T))
  dim = len(covariance)
  return sum(covariance[i, j] ** 2 for i in range(dim) for j in range(dim) if i != j) / dim


def vicreg(z_1, z_2, invariance_weight=25.0, variance_weight=25.0, covariance_weight=1.0):
  return (
    invariance_weight * np.mean((z_1 - z_2) ** 2)
    + variance_weight * (lack_of_variance(z_1) + lack_of_variance(z_2)) / 2
    + covariance_weight * (common(z_1) + common(z_2))
  )


def matches(place_1, place_2, count):
  """Indices of pairs of an image, closest first."""
  pairs = []
  for i, at in enumerate(place_1):
    apart = [np.sum((at - other) ** 2) for other in place_2]
    j = int(np.argmin(apart))
    pairs.append((apart[j], i, j))
  return [(i, j) for _, i, j in sorted(pairs)[:count]]


def matched(map_1, map_2, place_1, place_2, count):
  """Both sides of the pairs of all images, ``[batch, pairs, dim]``."""
  pairs = [matches(*places, count) for places in zip(place_1, place_2, strict=True)]
  first = [[x[i] for i, _ in p] for x, p in zip(map_1, pairs, strict=True)]
  second = [[y[j] for _, j in p] for y, p in zip(map_2, pairs, strict=True)]
  return np.array(first), np.array(second)


def vicregl(z_1, z_2, map_1, map_2, grid_1, grid_2, alpha=0.75, num_matches=(20, 4), fixed=None):
  total = 0.0
  # What is nearest changes by jumps, between which it stays.
  for place_1, place_2 in ((fixed["map_1"], fixed["map_2"]), (grid_1, grid_2)):
    for count in num_matches:
      for x, y in (
        matched(map_1, map_2, place_1, place_2, count),
        matched(map_2, map_1, place_2, place_1, count),
      ):
        each = [vicreg(x[:, k], y[:, k], covariance_weight=0.5) for k in range(x.shape[1])]
        total += np.mean(each) / 4
  return alpha * vicreg(z_1, z_2, covariance_weight=0.5) + (1 - alpha) * total


def sie(
  invariant_1,
  invariant_2,
  equivariant_1,
  equivariant_2,
  prediction,
  invariance_weight=10.0,
  equivariance_weight=4.5,
):
  z_1 = np.concatenate([invariant_1, equivariant_1], 1)
  z_2 = np.concatenate([invariant_2, equivariant_2], 1)
  lacks = lack_of_variance(z_1) + lack_of_variance(z_2) + lack_of_variance(prediction)
  return (
    invariance_weight * np.mean((invariant_1 - invariant_2) ** 2)
    + equivariance_weight * np.mean((prediction - equivariant_2) ** 2)
    + 10 * lacks / 2
    + common(z_1)
    + common(z_2)
  )


def maps(rng, batch, dim):
  """Two views with maps of 6 and 4 local features, on grids."""
  return normal("z_1", "z_2")(rng, batch, dim) | {
    "map_1": rng.normal(size=(batch, 6, 3)),
    "map_2": rng.normal(size=(batch, 4, 3)),
    "grid_1": rng.uniform(size=(batch, 6, 2)),
    "grid_2": rng.uniform(size=(batch, 4, 2)),
  }


def parts(rng, batch, dim):
  """An invariant part of other width than the equivariant one."""
  invariant = normal("invariant_1", "invariant_2")(rng, batch, dim)
  return invariant | normal("equivariant_1", "equivariant_2", "prediction")(rng, batch, 2)


VIEWS = normal("z_1", "z_2")
OTHER = {"invariance_weight": 3.0, "variance_weight": 7.0, "covariance_weight": 2.0}
FEW = {"num_matches": (3, 2), "alpha": 0.4}
GRIDS = ("grid_1", "grid_2")
CASES = [
  Case("vicreg", ours.vicreg, VIEWS, vicreg),
  Case("vicreg_weights", ours.vicreg, VIEWS, vicreg, options=OTHER),
  Case("vicregl", ours.vicregl, maps, vicregl, options=FEW, stopped=GRIDS),
  Case("vicregl_all_matches", ours.vicregl, maps, vicregl, stopped=GRIDS),
  Case("sie", ours.sie, parts, sie),
  Case("sie_weights", ours.sie, parts, sie, options={"equivariance_weight": 20.0}),
]
