"""Losses of a student that predicts its teacher, in NumPy."""

import jax.numpy as jnp
import numpy as np
from definitions.contrastive import unit
from definitions.prototypes import batch_first, cross_entropy, softmax, swav
from harness import Case
from jax import lax

from repjax.losses import self_distillation as ours


def dino(student, teacher, center, student_temperature=0.1, teacher_temperature=0.04):
  """Arrays ``[batch, views, prototypes]``."""
  out = []
  for s, t in zip(student, teacher, strict=True):
    losses = []
    for g, logits in enumerate(t):
      target = softmax((logits - center) / teacher_temperature)
      losses += [cross_entropy(target, s[v] / student_temperature) for v in range(len(s)) if v != g]
    out.append(np.mean(losses))
  return np.array(out)


def ibot(student, teacher, mask, center, student_temperature=0.1, teacher_temperature=0.04):
  out = []
  for s, t, hidden in zip(student, teacher, mask, strict=True):
    losses = [
      cross_entropy(softmax((t[p] - center) / teacher_temperature), s[p] / student_temperature)
      for p in np.flatnonzero(hidden)
    ]
    out.append(np.mean(losses) if losses else 0)
  return np.array(out)


def koleo(z, fixed):
  """Of embeddings whose nearest neighbours do not change."""
  z, out = unit(z), []
  for i, x in enumerate(z):
    apart = {j: np.linalg.norm(unit(fixed)[i] - unit(fixed)[j]) for j in range(len(z)) if j != i}
    nearest = min(apart, key=apart.get, default=None)
    out.append(0 if nearest is None else -np.log(np.linalg.norm(x - z[nearest]) + 1e-8))
  return np.array(out)


def dinov2(student, assignments, student_patches, patch_assignments, mask, embeddings, fixed):
  """Arrays ``[batch, views, ...]``."""
  loss = swav(student, assignments)
  for g in range(mask.shape[1]):
    hidden = zip(student_patches[:, g], patch_assignments[:, g], mask[:, g], strict=True)
    for i, (s, q, m) in enumerate(hidden):
      if m.any():
        loss[i] += np.mean([cross_entropy(q[p], s[p] / 0.1) for p in np.flatnonzero(m)]) / 2
    loss += 0.1 * koleo(embeddings[:, g], fixed["embeddings"][:, g])
  return loss


def step(center, teacher, *, where=None, axis_name=None):
  """How far the centre moves."""
  teacher = jnp.swapaxes(teacher, 0, 1)
  moved = ours.update_center(center, teacher, momentum=0.8, where=where, axis_name=axis_name)
  return jnp.sum((moved - lax.stop_gradient(jnp.asarray(center, moved.dtype))) ** 2)


def defined_step(center, teacher):
  mean = np.mean([t for views in teacher for t in views], 0)
  return np.sum((0.8 * center + 0.2 * mean - center) ** 2)


def draw_crops(rng, batch, dim):
  """Logits about as far apart as those of a trained head."""
  return {
    "student": 0.3 * rng.normal(size=(batch, 4, dim)),
    "teacher": 0.1 * rng.normal(size=(batch, 2, dim)),
  }


def draw_teacher(rng, batch, dim):
  return {"teacher": draw_crops(rng, batch, dim)["teacher"]}


def draw_patches(rng, batch, dim):
  mask = rng.uniform(size=(batch, 6)) < 0.5
  mask[0] = False
  return {
    "student": 0.3 * rng.normal(size=(batch, 6, dim)),
    "teacher": 0.1 * rng.normal(size=(batch, 6, dim)),
    "mask": mask,
  }


def draw_all(rng, batch, dim):
  assignments, patches = rng.dirichlet(np.ones(dim), (batch, 2)), (batch, 2, 3)
  mask = rng.uniform(size=patches) < 0.5
  mask[0] = False
  return {
    "student": 0.3 * rng.normal(size=(batch, 4, dim)),
    "assignments": assignments,
    "student_patches": 0.3 * rng.normal(size=(*patches, 4)),
    "patch_assignments": rng.dirichlet(np.ones(4), patches),
    "mask": mask,
    "embeddings": rng.normal(size=(batch, 2, dim)),
  }


def draw_center(rng, dim):
  return {"center": 0.1 * rng.normal(size=dim)}


DINO = batch_first(ours.dino, "student", "teacher")
DINOV2 = batch_first(
  ours.dinov2,
  "student",
  "assignments",
  "student_patches",
  "patch_assignments",
  "mask",
  "embeddings",
)
HELD, ASSIGNED = ("teacher", "center"), ("assignments", "patch_assignments")
WARM = {"student_temperature": 0.2, "teacher_temperature": 0.07}
CASES = [
  Case("dino", DINO, draw_crops, dino, draw_center, stopped=HELD),
  Case("dino_warm", DINO, draw_crops, dino, draw_center, WARM, stopped=HELD),
  Case("ibot", ours.ibot, draw_patches, ibot, draw_center, stopped=HELD),
  Case("dinov2", DINOV2, draw_all, dinov2, stopped=ASSIGNED),
  Case("dino_center", step, draw_teacher, defined_step, draw_center, stopped=HELD),
]
