"""Losses that keep partners close and everything else spread out, in NumPy."""

import numpy as np
from definitions.contrastive import unit
from harness import Case, normal

from repjax.losses import sphere


def alignment(z_1, z_2, alpha=2.0, normalize=True):
  if normalize:
    z_1, z_2 = unit(z_1), unit(z_2)
  return np.linalg.norm(z_1 - z_2, axis=1) ** alpha


def uniformity(z, t=2.0, normalize=True):
  if normalize:
    z = unit(z)
  pairs = [(i, j) for i in range(len(z)) for j in range(i)]
  potentials = [np.exp(-t * np.sum((z[i] - z[j]) ** 2)) for i, j in pairs]
  return np.log(np.mean(potentials)) if pairs else 0.0


def joint_entropy(common, salient, t=1.0):
  kernel = lambda x, i: np.exp(-t * np.sum((x - x[i]) ** 2, -1))
  common = unit(common)
  return np.array(
    [np.log(np.mean(kernel(common, i) * kernel(salient, i))) for i in range(len(common))]
  )


def at_most(z, held, mu):
  """Shortens the rows that are too long where they are held fixed."""
  long = [np.linalg.norm(row) > np.sqrt(mu) for row in held]
  return np.where(np.array(long)[:, None], np.sqrt(mu) * unit(z), z)


def spectral_contrastive(z_1, z_2, mu=None, fixed=None):
  if mu is not None:
    z_1, z_2 = at_most(z_1, fixed["z_1"], mu), at_most(z_2, fixed["z_2"], mu)
  out = []
  for i in range(len(z_1)):
    others = [(z_1[i] @ z_2[j]) ** 2 for j in range(len(z_2)) if j != i]
    out.append((np.mean(others) if others else 0) - 2 * z_1[i] @ z_2[i])
  return np.array(out) / (mu or 1)


VIEWS, ONE, CODES = normal("z_1", "z_2"), normal("z"), normal("common", "salient")
PLAIN = {"normalize": False}
CASES = [
  Case("alignment", sphere.alignment, VIEWS, alignment),
  Case("alignment_plain", sphere.alignment, VIEWS, alignment, options={"alpha": 1.0, **PLAIN}),
  Case("uniformity", sphere.uniformity, ONE, uniformity),
  Case("uniformity_plain", sphere.uniformity, ONE, uniformity, options={"t": 0.3, **PLAIN}),
  Case("joint_entropy", sphere.joint_entropy, CODES, joint_entropy, options={"t": 0.4}),
  Case("spectral_contrastive", sphere.spectral_contrastive, VIEWS, spectral_contrastive),
  Case(
    "spectral_contrastive_short",
    sphere.spectral_contrastive,
    VIEWS,
    spectral_contrastive,
    options={"mu": 3.0},
  ),
]
