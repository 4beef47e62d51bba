"""Losses of sentence embeddings, in NumPy."""

import numpy as np
from harness import Case

from repjax.losses import sentence


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def misranking(similarity, score, temperature):
  total = 1.0
  for i in range(len(score)):
    for j in range(len(score)):
      if score[i] > score[j]:
        total += np.exp((similarity[j] - similarity[i]) / temperature)
  return np.log(total)


def cosent(z_1, z_2, score, temperature=0.05):
  return misranking(np.sum(unit(z_1) * unit(z_2), -1), score, temperature)


def angle(z_1, z_2, score, temperature=0.05):
  def complex_of(z):
    z = np.append(unit(z), np.zeros((len(z), z.shape[1] % 2)), 1)
    real, imaginary = np.split(z, 2, 1)
    return real + 1j * imaginary

  product = np.sum(complex_of(z_1) * complex_of(z_2).conj(), -1)
  return misranking(np.abs(product.real + product.imag), score, temperature)


def guided_info_nce(
  query,
  key,
  guide_query,
  guide_key,
  temperature=0.01,
  margin=0.0,
  query_to_query=True,
  key_to_key=True,
):
  q, k, gq, gk = map(unit, (query, key, guide_query, guide_key))
  sides = [(q, k, gq, gk)]
  sides += [(q, q, gq, gq)] if query_to_query else []
  sides += [(k, k, gk, gk)] if key_to_key else []
  out = []
  for i in range(len(q)):
    logits = [q[i] @ k[i] / temperature]
    for x, y, guide_x, guide_y in sides:
      for j in range(len(q)):
        if j != i and guide_x[i] @ guide_y[j] <= gq[i] @ gk[i] - margin:
          logits.append(x[i] @ y[j] / temperature)
    peak = max(logits)
    out.append(peak + np.log(np.sum(np.exp(np.array(logits) - peak))) - logits[0])
  return np.array(out)


def margin_mse(student, teacher):
  out = []
  for s, t in zip(student, teacher, strict=True):
    out.append(np.mean([((s[0] - s[j]) - (t[0] - t[j])) ** 2 for j in range(1, len(s))]))
  return np.array(out)


def scored(rng, batch, dim):
  z_1, z_2 = rng.normal(size=(2, batch, dim))
  return {"z_1": z_1, "z_2": z_2, "score": rng.integers(5, size=batch) / 4}


def guided(rng, batch, dim):
  names = ("query", "key", "guide_query", "guide_key")
  out = {name: rng.normal(size=(batch, dim + 1 if "guide" in name else dim)) for name in names}
  # A guide that finds partners alike lets some negatives through.
  out["guide_key"] += out["guide_query"]
  return out


def scores(rng, batch, dim):
  return {name: rng.normal(size=(batch, dim)) for name in ("student", "teacher")}


GUIDES = ("guide_query", "guide_key")
FAR = {"temperature": 0.1, "margin": 0.2, "query_to_query": False}
ONE_WAY = {"temperature": 0.2, "query_to_query": False, "key_to_key": False}
GIST = sentence.guided_info_nce
CASES = [
  Case("cosent", sentence.cosent, scored, cosent, stopped=("score",)),
  Case(
    "cosent_warm", sentence.cosent, scored, cosent, stopped=("score",), options={"temperature": 1.0}
  ),
  Case("angle", sentence.angle, scored, angle, stopped=("score",)),
  Case("guided_info_nce", GIST, guided, guided_info_nce, stopped=GUIDES),
  Case("guided_info_nce_margin", GIST, guided, guided_info_nce, stopped=GUIDES, options=FAR),
  Case("guided_info_nce_one_way", GIST, guided, guided_info_nce, stopped=GUIDES, options=ONE_WAY),
  Case("margin_mse", sentence.margin_mse, scores, margin_mse, stopped=("teacher",)),
]
