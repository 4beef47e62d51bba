"""Writes sphere.npz: answers of lightly.

pip install -r tests/oracles/requirements.txt && python tests/oracles/sphere.py
"""

import numpy as np
import torch
from answers import Answers
from lightly.loss.hypersphere_loss import HypersphereLoss


def main() -> None:
  torch.set_default_dtype(torch.float64)
  answers = Answers("sphere", "lightly")
  rng = np.random.default_rng(0)
  for batch, dim in ((7, 5), (16, 8)):
    views = {"z_1": rng.normal(size=(batch, dim)), "z_2": rng.normal(size=(batch, dim))}
    for name, loss in {
      "alignment": HypersphereLoss(lam=0.0, alpha=1.5),
      "hypersphere": HypersphereLoss(t=2.0, lam=3.0),
    }.items():
      answers.add(f"{name}_{batch}x{dim}", lambda z_1, z_2, loss=loss: loss(z_1, z_2), **views)
  answers.write()


if __name__ == "__main__":
  main()
