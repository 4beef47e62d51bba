"""Losses that ask for another encoder's tokens, in NumPy."""

import numpy as np
from definitions.contrastive import unit
from definitions.masked import TOKENS, hidden, patches
from harness import Case

from repjax.losses import latent

GRID, HEADS = (3, 4), 2


def smooth(error, beta=1.0):
  error = np.abs(error)
  return np.where(error < beta, error**2 / (2 * beta), error - beta / 2)


def latent_prediction(
  prediction, target, mask=None, norm="smooth_l1", beta=1.0, normalize_target=False
):
  rho = {"l1": np.abs, "l2": np.square, "smooth_l1": lambda error: smooth(error, beta)}[norm]
  out = np.zeros(len(target))
  for i in range(len(target)):
    errors = []
    for t in range(target.shape[1]):
      x = target[i, t]
      if normalize_target:
        x = (x - x.mean()) / np.sqrt(np.mean((x - x.mean()) ** 2) + 1e-5)
      if mask is None or mask[i, t]:
        errors.append(np.mean(rho(prediction[i, t] - x)))
    out[i] = np.mean(errors) if errors else 0
  return out


def dmt_targets(tokens, grid, neighbors):
  """Of a window of three; the neighbours in order of likeness, which the sum does not see."""
  height, width = grid
  out = np.zeros_like(tokens)
  for b, image in enumerate(tokens):
    for i, x in enumerate(image):
      row, column = divmod(i, width)
      around = {
        (row + down) % height * width + (column + right) % width
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
      } - {i}
      near = sorted(around, key=lambda j, x=x, image=image: -unit(x) @ unit(image[j]))[:neighbors]
      weights = np.exp([x @ image[j] / np.sqrt(len(x)) for j in near])
      out[b, i] = weights / weights.sum() @ image[near]
  return out


def dmt_prediction(prediction, target):
  return latent.latent_prediction(prediction, latent.dmt_targets(target, GRID, neighbors=3))


def dmt_prediction_defined(prediction, target):
  return latent_prediction(prediction, dmt_targets(target, GRID, 3))


def softmax(x):
  return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def token_relation(student_query, student_key, teacher_query, teacher_key, mask=None):
  out = np.zeros(len(student_query))
  for i in range(len(out)):
    keep = np.arange(TOKENS) if mask is None else np.flatnonzero(mask[i])
    divergences = []
    for head in range(HEADS):
      for query in keep:
        p, q = (
          softmax(keys[i, head, keep] @ queries[i, head, query] / np.sqrt(keys.shape[-1]))
          for queries, keys in ((teacher_query, teacher_key), (student_query, student_key))
        )
        divergences.append(np.sum(p * np.log(p / q)))
    out[i] = np.mean(divergences) if divergences else 0
  return out


def unmasked_alignment(student, teacher, mask=None):
  out = np.zeros(len(student))
  for i in range(len(out)):
    seen = [t for t in range(TOKENS) if mask is None or not mask[i, t]]
    errors = [np.sum((unit(student[i, t]) - unit(teacher[i, t])) ** 2) for t in seen]
    out[i] = np.mean(errors) if errors else 0
  return out


def all_tokens(rng, batch, dim):
  return {k: v for k, v in patches(rng, batch, dim).items() if k != "mask"}


def grids(rng, batch, dim):
  prediction, target = rng.normal(size=(2, batch, GRID[0] * GRID[1], dim))
  return {"prediction": prediction, "target": target}


def heads(rng, batch, dim):
  student_query, student_key = rng.normal(size=(2, batch, HEADS, TOKENS, dim))
  teacher_query, teacher_key = rng.normal(size=(2, batch, HEADS, TOKENS, dim + 2))
  return {
    "student_query": student_query,
    "student_key": student_key,
    "teacher_query": teacher_query,
    "teacher_key": teacher_key,
  }


def some_heads(rng, batch, dim):
  return heads(rng, batch, dim) | {"mask": hidden(rng, batch)}


def visible(rng, batch, dim):
  student, teacher = rng.normal(size=(2, batch, TOKENS, dim))
  return {"student": student, "teacher": teacher}


def some_visible(rng, batch, dim):
  return visible(rng, batch, dim) | {"mask": ~hidden(rng, batch)}


# Differences across beta, where the smooth error has no second derivative, are a little rough.
ROUGH = {"stopped": ("target",), "atol": 1e-7}


def predicted(name, batch=patches, **options):
  loss = latent.latent_prediction
  return Case(name, loss, batch, latent_prediction, options=options, **ROUGH)


RELATED = {"stopped": ("teacher_query", "teacher_key")}
CASES = [
  predicted("latent_prediction", normalize_target=True),
  predicted("latent_prediction_data2vec", beta=0.5),
  predicted("latent_prediction_l1", norm="l1"),
  predicted("latent_prediction_l2", norm="l2", normalize_target=True),
  predicted("latent_prediction_all_tokens", all_tokens),
  Case("dmt_targets", dmt_prediction, grids, dmt_prediction_defined, **ROUGH),
  Case("token_relation", latent.token_relation, heads, token_relation, **RELATED),
  Case("token_relation_mask", latent.token_relation, some_heads, token_relation, **RELATED),
  *(
    Case(name, latent.unmasked_alignment, batch, unmasked_alignment, stopped=("teacher",))
    for name, batch in (
      ("unmasked_alignment", some_visible),
      ("unmasked_alignment_all_tokens", visible),
    )
  ),
]
