"""Losses that tell an example's partner from the rest of its batch, in NumPy."""

import numpy as np
from harness import Case, normal

from repjax import losses


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def log_sum_exp(x):
  """Over a list of numbers; -inf for none."""
  return np.log(np.sum(np.exp(x))) if len(x) else -np.inf


def info_nce(query, key, negatives=None, temperature=0.1, in_batch=True, normalize=True):
  if normalize:
    query, key = unit(query), unit(key)
  out = []
  for i, q in enumerate(query):
    logits = [q @ key[i] / temperature]
    if in_batch:
      logits += [q @ k / temperature for j, k in enumerate(key) if j != i]
    if negatives is not None:
      own = negatives if negatives.ndim == 2 else negatives[i]
      logits += [q @ (unit(n) if normalize else n) / temperature for n in own]
    out.append(log_sum_exp(logits) - logits[0])
  return np.array(out)


def nt_xent(z_1, z_2, temperature=0.5):
  z = unit(np.concatenate([z_1, z_2]))
  n = len(z_1)
  out = []
  for i in range(2 * n):
    logits = z @ z[i] / temperature
    others = [logits[k] for k in range(2 * n) if k != i]
    out.append(log_sum_exp(others) - logits[(i + n) % (2 * n)])
  return (np.array(out[:n]) + out[n:]) / 2


def dcl(z_1, z_2, temperature=0.1, weight=1.0):
  z, n = unit(np.concatenate([z_1, z_2])), len(z_1)
  if n == 1:
    return np.zeros(1)
  out = []
  for i in range(2 * n):
    logits = z @ z[i] / temperature
    negatives = [logits[k] for k in range(2 * n) if k % n != i % n]
    out.append(log_sum_exp(negatives))
  positive = np.sum(z[:n] * z[n:], -1) / temperature
  return (np.array(out[:n]) + out[n:]) / 2 - weight * positive


def dclw(z_1, z_2, temperature=0.1, sigma=0.5, fixed=None):
  strength = np.exp(np.sum(unit(fixed["z_1"]) * unit(fixed["z_2"]), -1) / sigma)
  return dcl(z_1, z_2, temperature, 2 - strength / strength.mean())


def hardness_weighted(query, key, temperature=0.02, alpha=0.5, fixed=None):
  def one_way(query, key, query_fixed, key_fixed):
    out = []
    for i, q in enumerate(query):
      hardness = alpha * key_fixed @ query_fixed[i]
      hardness[i] = 0
      logits = key @ q / temperature
      out.append(log_sum_exp(logits + hardness) - logits[i])
    return np.array(out)

  query, key = unit(query), unit(key)
  held = unit(fixed["query"]), unit(fixed["key"])
  return (one_way(query, key, *held) + one_way(key, query, *held[::-1])) / 2


def queue(rng, dim):
  return {"negatives": rng.normal(size=(6, dim))}


def own_negatives(rng, batch, dim):
  return normal("query", "key")(rng, batch, dim) | {"negatives": rng.normal(size=(batch, 3, dim))}


PAIR, VIEWS = normal("query", "key"), normal("z_1", "z_2")
CASES = [
  Case("info_nce", losses.info_nce, PAIR, info_nce),
  Case("info_nce_plain", losses.info_nce, PAIR, info_nce, options={"normalize": False}),
  Case("info_nce_queue", losses.info_nce, PAIR, info_nce, queue, {"temperature": 0.3}),
  Case("info_nce_moco", losses.info_nce, PAIR, info_nce, queue, {"in_batch": False}),
  Case("info_nce_own_negatives", losses.info_nce, own_negatives, info_nce),
  Case("nt_xent", losses.nt_xent, VIEWS, nt_xent, options={"temperature": 0.2}),
  Case("dcl", losses.dcl, VIEWS, dcl),
  Case("dclw", losses.dclw, VIEWS, dclw, options={"sigma": 0.4}),
  Case("hardness_weighted_info_nce", losses.hardness_weighted_info_nce, PAIR, hardness_weighted),
]
