"""Losses that have a student keep a teacher's relations in a batch, in NumPy."""

import numpy as np
from definitions.contrastive import unit
from definitions.distill import divergence
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


def affinity_mimicking(
  student_query, student_key, teacher_query, teacher_key, temperature, teacher_temperature=None
):
  sides = (
    (student_query, student_key, temperature),
    (teacher_query, teacher_key, teacher_temperature or temperature),
  )
  student, teacher = (unit(query) @ unit(key).T / t for query, key, t in sides)
  return np.array([divergence(s, t) for s, t in zip(student, teacher, strict=True)])


def kernel_match(student, teacher, weight):
  def kernel(x):
    x = x - x.mean(0)
    return unit(x) @ unit(x).T if len(x) > 1 else np.zeros((1, 1))

  teacher = teacher * weight if weight.ndim == 1 else teacher @ weight
  return np.sqrt(np.mean((kernel(student) - kernel(teacher)) ** 2) + 1e-8)


def draw(rng, batch, dim):
  return {"student": rng.normal(size=(batch, dim)), "teacher": rng.normal(size=(batch, dim + 2))}


def draw_pairs(rng, batch, dim):
  query, key = draw(rng, batch, dim), draw(rng, batch, dim)
  return {
    f"{side}_{name}": part[side]
    for name, part in (("query", query), ("key", key))
    for side in ("student", "teacher")
  }


def gates(rng, dim):
  return {"weight": rng.uniform(size=dim + 2)}


def linear(rng, dim):
  return {"weight": rng.normal(size=(dim + 2, 3))}


def case(name, loss, *shared):
  ours = getattr(relational, loss.__name__)
  return Case(name, ours, draw, loss, *shared, stopped=("teacher",))


def affinities(name, **options):
  loss, stopped = relational.affinity_mimicking, ("teacher_query", "teacher_key")
  return Case(name, loss, draw_pairs, affinity_mimicking, options=options, stopped=stopped)


CASES = [
  case("relational_distance", relational_distance),
  case("relational_angle", relational_angle),
  case("similarity_preserving", similarity_preserving),
  affinities("affinity_mimicking", temperature=0.3),
  affinities("affinity_mimicking_teacher", temperature=0.1, teacher_temperature=0.2),
  case("kernel_match", kernel_match, gates),
  case("kernel_match_linear", kernel_match, linear),
]
