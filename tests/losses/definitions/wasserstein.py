"""Dependence of two variables by a critic whose slope is bounded, in NumPy."""

import jax
import numpy as np
from definitions.contrastive import log_sum_exp
from harness import Case, normal

from repjax.losses import wasserstein

KEY = jax.random.key(3)


def matrix(x):
  return np.sin(np.arange(x.shape[-1] ** 2)).reshape(x.shape[-1], -1).astype(x.dtype)


def critic(x, y):
  return x @ matrix(x) @ y + y @ y / 2


def dependency(x, y):
  scores = [[critic(a, b) for b in y] for a in x]
  out = []
  for i in range(len(x)):
    others = [score for j, score in enumerate(scores[i]) if j != i]
    out.append(np.mean(others) - scores[i][i] if others else 0.0)
  return np.array(out)


def predictive(x, y):
  return np.array(
    [log_sum_exp([critic(a, b) for b in y]) - critic(a, y[i]) for i, a in enumerate(x)]
  )


def gradient_penalty(x, y, other):
  out = []
  for i, u in enumerate(np.asarray(jax.random.uniform(KEY, (len(y),), np.float32), np.float64)):
    between = u * y[i] + (1 - u) * other[i]
    slope = np.concatenate([matrix(x) @ between, matrix(x).T @ x[i] + between])
    out.append((np.linalg.norm(slope) - 1) ** 2)
  return np.array(out)


PAIR, CRITIC = normal("x", "y"), {"critic": critic}
CASES = [
  Case(
    "wasserstein_dependency", wasserstein.wasserstein_dependency, PAIR, dependency, options=CRITIC
  ),
  Case(
    "wasserstein_predictive", wasserstein.wasserstein_predictive, PAIR, predictive, options=CRITIC
  ),
  Case(
    "gradient_penalty",
    wasserstein.gradient_penalty,
    normal("x", "y", "other"),
    gradient_penalty,
    options={**CRITIC, "key": KEY},
    permutes=False,
  ),
]
