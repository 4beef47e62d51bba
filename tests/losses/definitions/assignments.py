"""Balanced assignments, in NumPy."""

import jax.numpy as jnp
import numpy as np
from harness import Case, normal

from repjax.losses.assignments import sinkhorn as ours


def sinkhorn(scores, epsilon=0.05, iterations=3):
  q = np.exp((scores - scores.max()) / epsilon)
  n, k = q.shape
  for _ in range(iterations):
    for j in range(k):
      q[:, j] *= n / k / q[:, j].sum()
    for i in range(n):
      q[i] /= q[i].sum()
  return q


def similarity(scores, *, epsilon=0.5, iterations=3, where=None, axis_name=None):
  """How well each example likes what it was assigned to."""
  options = {"epsilon": epsilon, "iterations": iterations, "where": where, "axis_name": axis_name}
  return jnp.sum(jnp.asarray(scores) * ours(scores, **options), -1)


def defined(scores, epsilon=0.5, iterations=3):
  return np.sum(scores * sinkhorn(scores, epsilon, iterations), -1)


CASES = [
  Case("sinkhorn", similarity, normal("scores"), defined),
  Case("sinkhorn_often", similarity, normal("scores"), defined, options={"iterations": 20}),
  Case("sinkhorn_once", similarity, normal("scores"), defined, options={"iterations": 1}),
]
