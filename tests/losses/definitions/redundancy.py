"""Losses that keep the dimensions of an embedding in use, in NumPy."""

import functools

import numpy as np
from definitions.siamese import cosine
from harness import Case, normal

from repjax.losses import redundancy


def barlow_twins(z_1, z_2, redundancy_weight=5e-3, eps=1e-5):
  n, dim = z_1.shape
  standard = lambda z: (z - z.mean(0)) / np.sqrt(z.var(0) + eps)
  z_1, z_2 = standard(z_1), standard(z_2)
  total = 0.0
  for i in range(dim):
    for j in range(dim):
      correlation = np.sum(z_1[:, i] * z_2[:, j]) / n
      total += (1 - correlation) ** 2 if i == j else redundancy_weight * correlation**2
  return total


def whitened(z, eps):
  if len(z) == 1:
    return np.zeros_like(z)
  covariance = (1 - eps) * np.cov(z.T) + eps * np.eye(z.shape[1])
  return (z - z.mean(0)) @ np.linalg.inv(np.linalg.cholesky(covariance)).T


def w_mse(z_1, z_2, eps=1e-4):
  if len(z_1) == 1:
    return np.full(1, 2.0)  # of two zero vectors
  pairs = zip(whitened(z_1, eps), whitened(z_2, eps), strict=True)
  return np.array([2 - 2 * cosine(x, y) for x, y in pairs])


@functools.wraps(redundancy.tico)
def tico_loss(*args, **kwargs):
  return redundancy.tico(*args, **kwargs)[0]


def tico(z_1, z_2, covariance, decay=0.9, contrast_weight=8.0, fixed=None):
  unit = lambda z: z / np.linalg.norm(z, axis=1, keepdims=True)
  z_1, z_2, held = unit(z_1), unit(z_2), unit(fixed["z_1"])
  now = sum(np.outer(z, z) for z in held) / len(held)
  covariance = decay * fixed["covariance"] + (1 - decay) * now
  pairs = zip(z_1, z_2, strict=True)
  return np.array([1 - x @ y + contrast_weight * x @ covariance @ x for x, y in pairs])


def past_batches(rng, dim):
  z = rng.normal(size=(20, dim))
  return {"covariance": z.T @ z / 20}


VIEWS = normal("z_1", "z_2")
STRONG = {"redundancy_weight": 0.3, "eps": 1e-2}
CASES = [
  Case("barlow_twins", redundancy.barlow_twins, VIEWS, barlow_twins),
  Case("barlow_twins_strong", redundancy.barlow_twins, VIEWS, barlow_twins, options=STRONG),
  Case("w_mse", redundancy.w_mse, VIEWS, w_mse, options={"eps": 0.05}),
  Case("tico", tico_loss, VIEWS, tico, past_batches, stopped=("covariance",)),
]
