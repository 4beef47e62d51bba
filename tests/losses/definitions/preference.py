"""Losses of preferences, in NumPy."""

import numpy as np
from harness import Case

from repjax.losses import preference


def bradley_terry(chosen, rejected, temperature=1.0, margin=0.0):
  """By the probability of the better answer."""
  return -np.log(1 / (1 + np.exp(-(chosen - rejected - margin) / temperature)))


def general_preference(chosen, rejected, temperature=0.1, margin=0.0):
  """With the paper's operator, blocks of rotations by 90 degrees."""
  turn = np.kron(np.eye(chosen.shape[1] // 2), [[0, -1], [1, 0]])
  score = np.array([(turn @ v) @ u for v, u in zip(chosen, rejected, strict=True)])
  return bradley_terry(score, 0, temperature, margin)


def rewards(rng, batch, dim):
  return dict(zip(("chosen", "rejected"), rng.normal(size=(2, batch)), strict=True))


def embeddings(rng, batch, dim):
  return dict(zip(("chosen", "rejected"), rng.normal(size=(2, batch, 2 * dim)), strict=True))


FAR = {"temperature": 0.5, "margin": 0.3}
TERRY, GENERAL = preference.bradley_terry, preference.general_preference
CASES = [
  Case("bradley_terry", TERRY, rewards, bradley_terry),
  Case("bradley_terry_margin", TERRY, rewards, bradley_terry, options=FAR),
  Case("general_preference", GENERAL, embeddings, general_preference, options={"temperature": 1.0}),
  Case("general_preference_margin", GENERAL, embeddings, general_preference, options=FAR),
]
