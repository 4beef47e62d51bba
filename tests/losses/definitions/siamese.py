"""Losses that pull one view towards another, in NumPy."""

import numpy as np
from harness import Case, normal

from repjax.losses import siamese


def cosine(x, y):
  return sum(x * y) / np.sqrt(sum(x * x) * sum(y * y))


def simsiam(prediction, target):
  return np.array([-cosine(p, z) for p, z in zip(prediction, target, strict=True)])


def byol(prediction, target):
  unit = lambda x: x / np.sqrt(sum(x * x))
  pairs = zip(prediction, target, strict=True)
  return np.array([np.linalg.norm(unit(p) - unit(z)) ** 2 for p, z in pairs])


DRAW = normal("prediction", "target")
CASES = [
  Case("byol", siamese.byol, DRAW, byol, stopped=("target",)),
  Case("simsiam", siamese.simsiam, DRAW, simsiam, stopped=("target",)),
]
