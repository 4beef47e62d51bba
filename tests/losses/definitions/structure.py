"""Losses that keep a batch's neighbourhoods, in NumPy."""

import numpy as np
from harness import Case

from repjax.losses import structure


def walk(z, temperature):
  z = z / np.linalg.norm(z, axis=1, keepdims=True)
  z = z - z.mean(0)
  out = []
  for x in z:
    terms = np.exp([x @ y / temperature for y in z])
    out.append(terms / terms.sum())
  return np.array(out)


def jensen_shannon(p, q):
  kl = lambda a, b: sum(x * np.log(x / y) for x, y in zip(a, b, strict=True))
  mean = (p + q) / 2
  return (kl(p, mean) + kl(q, mean)) / 2


def structure_preservation(aligned, original, temperature=0.07, levels=1):
  p, q = walk(aligned, temperature), walk(original, temperature)
  out = np.zeros(len(p))
  for level in range(1, levels + 1):
    powers = np.linalg.matrix_power(p, level), np.linalg.matrix_power(q, level)
    out += np.array([jensen_shannon(*rows) for rows in zip(*powers, strict=True)]) / level
  return out / levels


def embeddings(rng, batch, dim):
  original = rng.normal(size=(batch, dim + 2))
  return {"aligned": rng.normal(size=(batch, dim)), "original": original}


LOSS, STOPPED = structure.structure_preservation, ("original",)
DEEP = {"levels": 3, "temperature": 0.3}
CASES = [
  Case("structure_preservation", LOSS, embeddings, structure_preservation, stopped=STOPPED),
  Case(
    "structure_preservation_deep",
    LOSS,
    embeddings,
    structure_preservation,
    options=DEEP,
    stopped=STOPPED,
  ),
]
