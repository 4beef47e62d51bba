"""Losses that spread a batch out, in NumPy."""

import numpy as np
from definitions.siamese import cosine
from harness import Case, normal

from repjax.losses import spread


def unit(z):
  return z / np.linalg.norm(z, axis=-1, keepdims=True)


def koleo(z, eps=1e-8):
  z, out = unit(z), []
  for i, row in enumerate(z):
    distances = [np.linalg.norm(row - other) for j, other in enumerate(z) if j != i]
    out.append(-np.log(min(distances) + eps) if distances else 0.0)
  return np.array(out)


def mmcr(z, local_weight=0.0):
  z = unit(z)
  nuclear = lambda matrix: np.linalg.norm(matrix, "nuc")
  own = np.mean([nuclear(views) for views in z])
  return local_weight * own - nuclear(z.mean(1))


def frossl(z, invariance_weight=1.0):
  views = [z[:, v] / np.linalg.norm(z[:, v], axis=0) for v in range(z.shape[1])]
  mean, total = sum(views) / len(views), 0.0
  for view in views:
    covariance = view.T @ view
    covariance /= np.trace(covariance)
    total += np.log(np.sum(covariance**2))
    error = np.mean((view - mean) ** 2)
    total += invariance_weight * len(views) * view.shape[1] * error
  return total


def emp_ssl(z, invariance_weight=200.0, eps=0.2):
  z = unit(z)
  n, k, dim = z.shape
  rates = []
  for v in range(k):
    spread_of_view = np.eye(dim) + dim / (n * eps) * z[:, v].T @ z[:, v]
    rates.append(np.linalg.slogdet(spread_of_view)[1] / 2)
  cosines = [cosine(z[i, v], z[i].mean(0)) for i in range(n) for v in range(k)]
  return -np.mean(rates) - invariance_weight * np.mean(cosines)


def views(rng, batch, dim):
  """Four views of each example, of which the third is a faint copy of the first."""
  z = rng.normal(size=(batch, 4, dim))
  z[:, 2] = 0.1 * z[:, 0] + 0.02 * z[:, 2]
  return {"z": z}


LOCAL = {"local_weight": 0.5}
FIRM = {"invariance_weight": 3.0, "eps": 0.5}
CASES = [
  Case("koleo", spread.koleo, normal("z"), koleo),
  Case("koleo_eps", spread.koleo, normal("z"), koleo, options={"eps": 0.1}),
  Case("mmcr", spread.mmcr, views, mmcr),
  Case("mmcr_local", spread.mmcr, views, mmcr, options=LOCAL),
  Case("frossl", spread.frossl, views, frossl),
  Case("frossl_invariance", spread.frossl, views, frossl, options={"invariance_weight": 5.0}),
  Case("emp_ssl", spread.emp_ssl, views, emp_ssl),
  Case("emp_ssl_firm", spread.emp_ssl, views, emp_ssl, options=FIRM),
]
