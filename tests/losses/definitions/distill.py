"""Losses that have a student imitate a teacher, in NumPy."""

import numpy as np
from definitions.contrastive import unit
from definitions.latent import HEADS, smooth, softmax
from definitions.masked import TOKENS, hidden
from harness import Case, normal

from repjax.losses import distill


def divergence(student, teacher):
  p, q = softmax(teacher), softmax(student)
  return np.sum(p * np.log(p / q))


def soft_labels(student, teacher, temperature=4.0):
  pairs = zip(student / temperature, teacher / temperature, strict=True)
  return temperature**2 * np.array([divergence(s, t) for s, t in pairs])


def feature_cosine(student, teacher):
  cosines = np.sum(unit(student) * unit(teacher), -1)
  return 1 - cosines.reshape(len(student), -1).mean(1)


def feature_l2(student, teacher):
  return np.square(student - teacher).reshape(len(student), -1).mean(1)


def feature_smooth_l1(student, teacher, beta=1.0, normalize_target=False):
  if normalize_target:
    teacher = teacher - teacher.mean(-1, keepdims=True)
    teacher = teacher / np.sqrt(np.mean(teacher**2, -1, keepdims=True) + 1e-5)
  return smooth(student - teacher, beta).reshape(len(student), -1).mean(1)


def gram(student, teacher, mask=None, normalize=True, clamp_negatives=False):
  out = np.zeros(len(student))
  for b, pair in enumerate(zip(student, teacher, strict=True)):
    keep = np.arange(TOKENS) if mask is None else np.flatnonzero(mask[b])
    errors = []
    for i in keep:
      for j in keep:
        s, t = (unit(x[i]) @ unit(x[j]) if normalize else x[i] @ x[j] for x in pair)
        if clamp_negatives:
          s, t = max(s, 0), max(t, 0)
        errors.append((s - t) ** 2)
    out[b] = np.mean(errors) if errors else 0
  return out


def attention_kl(student, teacher, mask=None):
  out = np.zeros(len(student))
  for b in range(len(out)):
    keep = np.arange(TOKENS) if mask is None else np.flatnonzero(mask[b])
    rows = [(student[b, h, i, keep], teacher[b, h, i, keep]) for h in range(HEADS) for i in keep]
    out[b] = np.mean([divergence(*row) for row in rows]) if rows else 0
  return out


def tokens(rng, batch, dim):
  student, teacher = rng.normal(size=(2, batch, TOKENS, dim))
  return {"student": student, "teacher": teacher}


def wider_tokens(rng, batch, dim):
  return tokens(rng, batch, dim) | {"teacher": rng.normal(size=(batch, TOKENS, dim + 2))}


def some_tokens(rng, batch, dim):
  return tokens(rng, batch, dim) | {"mask": hidden(rng, batch)}


def maps(rng, batch, dim):
  student, teacher = rng.normal(size=(2, batch, HEADS, TOKENS, TOKENS))
  return {"student": student, "teacher": teacher}


def some_maps(rng, batch, dim):
  return maps(rng, batch, dim) | {"mask": hidden(rng, batch)}


VECTORS = normal("student", "teacher")
CASES = [
  Case(name, getattr(distill, loss.__name__), batch, loss, options=options, stopped=("teacher",))
  for name, loss, batch, options in (
    ("soft_labels", soft_labels, VECTORS, {}),
    ("soft_labels_sharp", soft_labels, VECTORS, {"temperature": 0.5}),
    ("feature_cosine", feature_cosine, VECTORS, {}),
    ("feature_cosine_tokens", feature_cosine, tokens, {}),
    ("feature_l2", feature_l2, VECTORS, {}),
    ("feature_l2_tokens", feature_l2, tokens, {}),
    ("feature_smooth_l1", feature_smooth_l1, VECTORS, {"beta": 0.7}),
    ("feature_smooth_l1_tokens", feature_smooth_l1, tokens, {"normalize_target": True}),
    ("gram", gram, wider_tokens, {}),
    ("gram_mask", gram, some_tokens, {}),
    ("gram_clamped", gram, tokens, {"clamp_negatives": True}),
    ("gram_plain", gram, tokens, {"normalize": False}),
    ("attention_kl", attention_kl, maps, {}),
    ("attention_kl_mask", attention_kl, some_maps, {}),
  )
]
