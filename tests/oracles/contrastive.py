"""Writes contrastive.npz: answers of lightly and pytorch-metric-learning.

pip install -r tests/oracles/requirements.txt && python tests/oracles/contrastive.py
"""

import numpy as np
import torch
from answers import Answers
from lightly.loss import DCLLoss, DCLWLoss, NTXentLoss
from pytorch_metric_learning.losses import NTXentLoss as MetricLearningNTXentLoss
from pytorch_metric_learning.losses import SelfSupervisedLoss


def main() -> None:
  torch.set_default_dtype(torch.float64)
  answers = Answers("contrastive", "lightly", "pytorch-metric-learning")
  rng = np.random.default_rng(0)
  for batch, dim in ((7, 5), (16, 8)):
    views = {"z_1": rng.normal(size=(batch, dim)), "z_2": rng.normal(size=(batch, dim))}
    size = f"{batch}x{dim}"

    def add(name, loss, views=views, size=size):
      answers.add(f"{name}_{size}", lambda z_1, z_2: loss(z_1, z_2), **views)

    add("nt_xent_lightly", NTXentLoss(temperature=0.2))
    add("nt_xent_metric_learning", SelfSupervisedLoss(MetricLearningNTXentLoss(temperature=0.2)))
    one_way = SelfSupervisedLoss(MetricLearningNTXentLoss(temperature=0.2), symmetric=False)
    add("info_nce_metric_learning", one_way)
    add("dcl_lightly", DCLLoss(temperature=0.2))
    add("dclw_lightly", DCLWLoss(temperature=0.2, sigma=0.4))
  answers.write()


if __name__ == "__main__":
  main()
