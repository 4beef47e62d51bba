"""Losses over groups of pixels, in NumPy."""

import jax.numpy as jnp
import numpy as np
from definitions.contrastive import log_sum_exp, unit
from definitions.prototypes import softmax
from definitions.self_distillation import ibot
from harness import Case

from repjax.losses import slots as ours


def group_pixels(features, prototypes, temperature=0.07):
  slots = []
  for image in features:
    cosines = unit(image) @ unit(prototypes).T
    weights = np.array([softmax(row / temperature) + 1e-6 for row in cosines])
    slots.append([w @ image / w.sum() for w in weights.T])
  return np.array(slots)


def slot_info_nce(query, key, query_wins, key_wins, temperature=0.2):
  places = [(i, k) for i in range(len(query)) for k in range(query.shape[1])]
  keys = [place for place in places if key_wins[place]]
  losses = []
  for place in keys:
    if query_wins[place]:
      logits = [unit(query[place]) @ unit(key[other]) / temperature for other in keys]
      losses.append(log_sum_exp(logits) - logits[keys.index(place)])
  return 2 * temperature * np.mean(losses) if losses else 0


def slotcon(
  student_scores,
  teacher_scores,
  query,
  key,
  query_wins,
  key_wins,
  center,
  group_weight=0.5,
  temperature=0.2,
):
  everywhere = np.ones(student_scores.shape[:2], bool)
  grouping = ibot(student_scores, teacher_scores, everywhere, center, 0.1, 0.07)
  contrast = slot_info_nce(query, key, query_wins, key_wins, temperature)
  return group_weight * np.mean(grouping) + (1 - group_weight) * contrast


def spread(features, prototypes, *, temperature=0.07):
  """A number that depends on all slots and scores of an image."""
  slots, scores, wins = ours.group_pixels(features, prototypes, temperature=temperature)
  return jnp.sum(slots**2, (1, 2)) + jnp.sum(scores**2, (1, 2)) + jnp.sum(wins, 1)


def defined_spread(features, prototypes, temperature=0.07):
  scores = unit(features) @ unit(prototypes).T
  wins = [len(set(np.argmax(image, -1))) for image in scores]
  slots = group_pixels(features, prototypes, temperature)
  return np.sum(slots**2, (1, 2)) + np.sum(scores**2, (1, 2)) + np.array(wins)


def draw_slots(rng, batch, dim):
  query, key = rng.normal(size=(2, batch, 4, dim))
  query_wins, key_wins = rng.uniform(size=(2, batch, 4)) < 0.7
  return {"query": query, "key": key, "query_wins": query_wins, "key_wins": key_wins}


def draw_views(rng, batch, dim):
  student, teacher = rng.uniform(-0.3, 0.3, (2, batch, 9, 4))
  return {"student_scores": student, "teacher_scores": teacher} | draw_slots(rng, batch, dim)


def draw_center(rng, dim):
  return {"center": rng.uniform(-0.2, 0.2, 4)}


def draw_pixels(rng, batch, dim):
  return {"features": rng.normal(size=(batch, 9, dim))}


def draw_prototypes(rng, dim):
  return {"prototypes": rng.normal(size=(4, dim))}


HELD = ("teacher_scores", "key", "center")
WEIGHTED = {"group_weight": 0.3, "temperature": 0.4}
CASES = [
  Case("slot_info_nce", ours.slot_info_nce, draw_slots, slot_info_nce, stopped=("key",)),
  Case("slotcon", ours.slotcon, draw_views, slotcon, draw_center, stopped=HELD),
  Case("slotcon_weighted", ours.slotcon, draw_views, slotcon, draw_center, WEIGHTED, stopped=HELD),
  Case("group_pixels", spread, draw_pixels, defined_spread, draw_prototypes),
]
