"""Writes frozen.npz: answers of pytorch-metric-learning, torchmetrics and rsatoolbox on features.

pip install -r tests/oracles/requirements.txt && python tests/oracles/frozen.py
"""

from pathlib import Path

import numpy as np
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from rsatoolbox.rdm import RDMs, compare
from torchmetrics import retrieval

KS = (1, 5, 10)


def sets():
  """Gallery and queries; every class has members in both."""
  rng = np.random.default_rng(0)
  label = np.concatenate(
    [np.arange(7), rng.integers(0, 7, 73), np.arange(7), rng.integers(0, 7, 23)]
  )
  x = rng.normal(size=(7, 5))[label] + rng.normal(size=(len(label), 5))
  return {
    "gallery": x[:80].astype(np.float32),
    "gallery_label": label[:80],
    "query": x[80:].astype(np.float32),
    "query_label": label[80:],
  }


def by_calculator(given, within):
  """Of AccuracyCalculator, whose mean average precision stops at the size of the largest class."""
  query, label = (torch.from_numpy(given[name]) for name in ("query", "query_label"))
  if not within:
    reference = [torch.from_numpy(given[name]) for name in ("gallery", "gallery_label")]
  calculator = AccuracyCalculator(
    include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
    k="max_bin_count",
    knn_func=CustomKNN(CosineSimilarity()),
  )
  if within:
    return calculator.get_accuracy(query, label)
  return calculator.get_accuracy(query, label, *reference)


def by_torchmetrics(given):
  """Of torchmetrics, over the whole ranking."""
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  # Its average precision takes what has a score of 0 or less for irrelevant.
  cosine = torch.from_numpy(1 + unit(given["query"]) @ unit(given["gallery"]).T)
  relevant = torch.from_numpy(given["query_label"][:, None] == given["gallery_label"][None])
  index = torch.arange(len(cosine))[:, None].expand(cosine.shape)
  ask = lambda metric: float(metric(cosine.flatten(), relevant.flatten(), indexes=index.flatten()))
  found = {
    "map": ask(retrieval.RetrievalMAP()),
    "r_precision": ask(retrieval.RetrievalRPrecision()),
  }
  for k in KS:
    found[f"recall_at_{k}"] = ask(retrieval.RetrievalHitRate(top_k=k))
    found[f"ndcg_at_{k}"] = ask(retrieval.RetrievalNormalizedDCG(top_k=k))
  return found


def by_rsatoolbox():
  """Of rsatoolbox, on two RDMs of twelve patterns."""
  rng = np.random.default_rng(1)
  one = rng.exponential(size=66)
  other = one + rng.exponential(size=66)
  found = {"rdm_1": one, "rdm_2": other}
  for method in ("cosine", "corr", "spearman", "tau-a", "cosine_cov"):
    found[method] = compare(RDMs(one[None]), RDMs(other[None]), method).item()
  return found


if __name__ == "__main__":
  given = sets()
  answers = dict(given)
  for within in (False, True):
    side = "within" if within else "across"
    for name, value in by_calculator(given, within).items():
      answers[f"calculator/{side}/{name}"] = value
  answers |= {f"torchmetrics/{name}": value for name, value in by_torchmetrics(given).items()}
  answers |= {f"rsatoolbox/{name}": value for name, value in by_rsatoolbox().items()}
  np.savez_compressed(Path(__file__).with_suffix(".npz"), **answers)
