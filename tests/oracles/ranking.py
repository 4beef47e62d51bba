"""Writes ranking.npz: answers of pytorch-metric-learning on labelled embeddings.

pip install -r tests/oracles/requirements.txt && python tests/oracles/ranking.py
"""

import types

import numpy as np
import torch
from answers import Answers
from pytorch_metric_learning import losses
from pytorch_metric_learning.losses import ranked_list_loss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch.nn.functional import normalize


def main() -> None:
  torch.set_default_dtype(torch.float64)
  answers = Answers("ranking", "pytorch-metric-learning")
  rng = np.random.default_rng(0)
  mean = {"reducer": MeanReducer()}
  # Two of each class at least, and some of one class more than of another.
  for labels, dim in (([0, 1, 2, 0, 1, 2, 0, 1, 0], 5), (np.repeat(np.arange(4), 4), 8)):
    labels = np.asarray(labels)
    arrays = {"embeddings": rng.normal(size=(len(labels), dim)), "labels": labels}
    size = f"{len(labels)}x{dim}"

    def add(name, loss, arrays=arrays, size=size):
      answers.add(f"{name}_{size}", lambda embeddings, labels: loss(embeddings, labels), **arrays)

    def mined(embeddings, labels):
      pairs = MultiSimilarityMiner(epsilon=0.1)(embeddings, labels)
      return losses.MultiSimilarityLoss(**mean)(embeddings, labels, pairs)

    def angular(embeddings, labels):
      # It does not normalise negatives.
      return losses.AngularLoss(alpha=45, **mean)(normalize(embeddings), labels)

    add("multi_similarity", losses.MultiSimilarityLoss(**mean))
    add("multi_similarity_mined", mined)
    add("circle", losses.CircleLoss(**mean))
    add("angular", angular)
    add("fast_ap", losses.FastAPLoss(num_bins=10, **mean))
    add("histogram", losses.HistogramLoss(n_bins=20))
    with weights_as_published():
      add("ranked_list", losses.RankedListLoss(margin=0.4, Tn=10, Tp=2, imbalance=0.3, **mean))
    if len(set(np.bincount(labels))) == 1:
      add("smooth_ap", losses.SmoothAPLoss(temperature=0.1, **mean))
  answers.write()


class weights_as_published:
  """Holds the ranked list loss's weights fixed, and drowns the 1e-5 that is added to each."""

  def __enter__(self):
    names = vars(torch) | {"exp": lambda x: 1e12 * torch.exp(x.detach())}
    ranked_list_loss.torch = types.SimpleNamespace(**names)

  def __exit__(self, *error):
    ranked_list_loss.torch = torch


if __name__ == "__main__":
  main()
