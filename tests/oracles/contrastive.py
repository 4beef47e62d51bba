"""Writes contrastive.npz: answers of lightly, open_clip and pytorch-metric-learning.

pip install -r tests/oracles/requirements.txt && python tests/oracles/contrastive.py
"""

import numpy as np
import torch
from answers import Answers
from lightly.loss import DCLLoss, DCLWLoss, NTXentLoss
from open_clip.loss import ClipLoss, SigLipLoss
from pytorch_metric_learning.losses import NTXentLoss as MetricLearningNTXentLoss
from pytorch_metric_learning.losses import SelfSupervisedLoss, SupConLoss
from pytorch_metric_learning.reducers import MeanReducer
from torch.nn.functional import normalize


def main() -> None:
  torch.set_default_dtype(torch.float64)
  answers = Answers("contrastive", "lightly", "open_clip_torch", "pytorch-metric-learning")
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
    # open_clip's caller normalises and gives the inverse temperature.
    scaled = lambda loss, *more: lambda a, b: loss(normalize(a), normalize(b), 5.0, *more)
    add("clip_open_clip", scaled(ClipLoss()))
    add("siglip_open_clip", scaled(SigLipLoss()._loss, -2.0))

    # Every class has two members or more: theirs is a mean over pairs, or over such anchors.
    labels = np.arange(batch) % (batch // 2 - 1)
    add_labelled = lambda name, loss, x=views["z_1"], labels=labels, size=size: answers.add(
      f"{name}_{size}",
      lambda embeddings, labels: loss(embeddings, labels),
      embeddings=x,
      labels=labels,
    )
    add_labelled("sup_con", SupConLoss(temperature=0.2, reducer=MeanReducer()))
    add_labelled("multi_positive", MetricLearningNTXentLoss(temperature=0.2))
  answers.write()


if __name__ == "__main__":
  main()
