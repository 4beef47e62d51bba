"""Losses that have a student keep a teacher's relations in a batch, in NumPy."""

import numpy as np
from definitions.contrastive import unit
from definitions.latent import smooth
from harness import Case

from repjax.losses import relational


def relational_distance(student, teacher):
  n = len(student)

  def distances(x):
    d = np.array([[np.linalg.norm(x[i] - x[j]) for j in range(n)] for i in range(n)])
    return d / np.mean(d[~np.eye(n, dtype=bool)]) if n > 1 else d

  return smooth(distances(student) - distances(teacher)).mean(1)


def relational_angle(student, teacher):
  n = len(student)

  def cosine(x, i, j, k):
    return 0 if j in (i, k) else unit(x[i] - x[j]) @ unit(x[k] - x[j])

  return np.array(
    [
      sum(
        smooth(cosine(student, i, j, k) - cosine(teacher, i, j, k))
        for i in range(n)
        for k in range(n)
      )
      / n**2
      for j in range(n)
    ]
  )


def similarity_preserving(student, teacher):
  return ((unit(student @ student.T) - unit(teacher @ teacher.T)) ** 2).mean(1)


def kernel_match(student, teacher, weight):
  def kernel(x):
    x = x - x.mean(0)
    return unit(x) @ unit(x).T if len(x) > 1 else np.zeros((1, 1))

  teacher = teacher * weight if weight.ndim == 1 else teacher @ weight
  return np.sqrt(np.mean((kernel(student) - kernel(teacher)) ** 2) + 1e-8)


def draw(rng, batch, dim):
  return {"student": rng.normal(size=(batch, dim)), "teacher": rng.normal(size=(batch, dim + 2))}


def gates(rng, dim):
  return {"weight": rng.uniform(size=dim + 2)}


def linear(rng, dim):
  return {"weight": rng.normal(size=(dim + 2, 3))}


def case(name, loss, *shared):
  ours = getattr(relational, loss.__name__)
  return Case(name, ours, draw, loss, *shared, stopped=("teacher",))


CASES = [
  case("relational_distance", relational_distance),
  case("relational_angle", relational_angle),
  case("similarity_preserving", similarity_preserving),
  case("kernel_match", kernel_match, gates),
  case("kernel_match_linear", kernel_match, linear),
]
