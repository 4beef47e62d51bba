"""Coding rates, in NumPy."""

import numpy as np
from definitions.contrastive import unit
from harness import Case, normal

from repjax.losses import coding_rates as ours


def rate(z, weights, scale):
  """Half the log-determinant, by eigenvalues."""
  gram = sum(w * np.outer(x, x) for x, w in zip(z, weights, strict=True))
  return np.sum(np.log1p(scale * np.linalg.eigvalsh(gram))) / 2


def coding_rate(z, epsilon=0.5):
  n, d = z.shape
  return rate(unit(z), np.ones(n), d / (n * epsilon**2))


def coding_rate_reduction(z, membership, epsilon=0.5):
  n, d = z.shape
  within = 0
  for weights in membership.T:
    size = weights.sum()
    within += size / n * rate(unit(z), weights, d / (size * epsilon**2))
  return coding_rate(z, epsilon) - within


def mlc(z, cluster_z, epsilon=0.5, entropy_weight=0.1, iterations=50):
  d = z.shape[1]
  gamma = np.exp(unit(cluster_z) @ unit(cluster_z).T / entropy_weight)
  for _ in range(iterations):
    gamma /= gamma.sum(0, keepdims=True)
    gamma /= gamma.sum(1, keepdims=True)
  within = np.mean([rate(unit(z), row, d / epsilon**2) for row in gamma])
  return within - coding_rate(z, epsilon)


def draw_members(rng, batch, dim):
  membership = rng.exponential(size=(batch, 3))
  membership /= membership.sum(-1, keepdims=True)
  return {"z": rng.normal(size=(batch, dim)), "membership": membership}


HEADS, OPTIONS = normal("z", "cluster_z"), {"epsilon": 0.8, "entropy_weight": 0.3, "iterations": 4}
CASES = [
  Case("coding_rate", ours.coding_rate, normal("z"), coding_rate),
  Case(
    "coding_rate_reduction",
    ours.coding_rate_reduction,
    draw_members,
    coding_rate_reduction,
    options={"epsilon": 0.7},
  ),
  Case("mlc", ours.mlc, HEADS, mlc),
  Case("mlc_few_iterations", ours.mlc, HEADS, mlc, options=OPTIONS),
]
