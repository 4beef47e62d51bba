"""Writes weighted_pairs.npz: answers of pytorch-metric-learning.

pip install -r tests/oracles/requirements.txt && python tests/oracles/weighted_pairs.py
"""

import contextlib
import types

import numpy as np
import torch
from answers import Answers
from pytorch_metric_learning import losses
from pytorch_metric_learning.losses import ranked_list_loss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch.nn.functional import normalize

MEAN = {"reducer": MeanReducer()}


def mined(embeddings, labels):
  pairs = MultiSimilarityMiner(epsilon=0.1)(embeddings, labels)
  return losses.MultiSimilarityLoss(**MEAN)(embeddings, labels, pairs)


def angular(embeddings, labels):
  # It does not normalise negatives.
  return losses.AngularLoss(alpha=45, **MEAN)(normalize(embeddings), labels)


def ranked_list(embeddings, labels):
  loss = losses.RankedListLoss(margin=0.4, Tn=10, Tp=2, imbalance=0.3, **MEAN)
  with weights_as_published():
    return loss(embeddings, labels)


@contextlib.contextmanager
def weights_as_published():
  """Holds the weights of the ranked list loss fixed, and drowns the 1e-5 that it adds to each."""
  names = vars(torch) | {"exp": lambda x: 1e12 * torch.exp(x.detach())}
  ranked_list_loss.torch = types.SimpleNamespace(**names)
  yield
  ranked_list_loss.torch = torch


def main() -> None:
  torch.set_default_dtype(torch.float64)
  answers = Answers("weighted_pairs", "pytorch-metric-learning")
  rng = np.random.default_rng(0)
  # Classes of different sizes, then of one size.
  for labels, dim in ((np.array([0, 1, 2, 0, 1, 2, 0, 1, 0]), 5), (np.arange(16) // 4, 8)):
    arrays = {"embeddings": rng.normal(size=(len(labels), dim)), "labels": labels}
    for name, loss in {
      "multi_similarity": losses.MultiSimilarityLoss(**MEAN),
      "multi_similarity_mined": mined,
      "circle": losses.CircleLoss(**MEAN),
      "angular": angular,
      "ranked_list": ranked_list,
    }.items():
      call = lambda embeddings, labels, loss=loss: loss(embeddings, labels)
      answers.add(f"{name}_{len(labels)}x{dim}", call, **arrays)
  answers.write()


if __name__ == "__main__":
  main()
