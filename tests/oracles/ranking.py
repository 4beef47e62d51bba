"""Writes ranking.npz: answers of pytorch-metric-learning.

pip install -r tests/oracles/requirements.txt && python tests/oracles/ranking.py
"""

import numpy as np
import torch
from answers import Answers
from pytorch_metric_learning import losses
from pytorch_metric_learning.reducers import MeanReducer


def main() -> None:
  torch.set_default_dtype(torch.float64)
  answers = Answers("ranking", "pytorch-metric-learning")
  rng = np.random.default_rng(0)
  mean = {"reducer": MeanReducer()}
  alike = {"smooth_ap": losses.SmoothAPLoss(temperature=0.1, **mean)}  # needs classes of one size
  any_size = {
    "fast_ap": losses.FastAPLoss(num_bins=10, **mean),
    "histogram": losses.HistogramLoss(n_bins=20),
  }
  for labels, dim, cases in (
    (np.array([0, 1, 2, 0, 1, 2, 0, 1, 0]), 5, any_size),
    (np.arange(16) // 4, 8, any_size | alike),
  ):
    arrays = {"embeddings": rng.normal(size=(len(labels), dim)), "labels": labels}
    for name, loss in cases.items():
      call = lambda embeddings, labels, loss=loss: loss(embeddings, labels)
      answers.add(f"{name}_{len(labels)}x{dim}", call, **arrays)
  answers.write()


if __name__ == "__main__":
  main()
