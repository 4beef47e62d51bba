"""Writes siamese.npz: answers of lightly to losses without negatives.

pip install -r tests/oracles/requirements.txt && python tests/oracles/siamese.py
"""

import numpy as np
import torch
from answers import Answers
from lightly.loss import (
  BarlowTwinsLoss,
  EMPSSLLoss,
  FroSSLLoss,
  KoLeoLoss,
  MMCRLoss,
  NegativeCosineSimilarity,
  TiCoLoss,
  VICRegLLoss,
  VICRegLoss,
  WMSELoss,
)
from lightly.loss.emp_ssl_loss import invariance_loss, tcr_loss
from lightly.loss.lejepa_loss import LeJEPALoss, SIGReg
from torch.nn.functional import normalize


def tico(z_1, z_2, covariance):
  loss = TiCoLoss(beta=0.8, rho=5.0)
  loss.C = covariance.detach()
  return loss(z_1, z_2)


def vicregl(z_1, z_2, map_1, map_2, grid_1, grid_2):
  grid = lambda x: x.unflatten(1, (2, -1))
  features = [(z_1, grid(map_1)), (z_2, grid(map_2))]
  loss = VICRegLLoss(alpha=0.6, num_matches=(3, 2))
  return loss(features, [grid(grid_1), grid(grid_2)]).squeeze()


def w_mse(z_1, z_2):
  loss = WMSELoss(z_1.shape[1], eps=0.01, w_size=len(z_1))  # one part: the order does not matter
  return loss(torch.cat([z_1, z_2]))


def mmcr(z):
  online, momentum = normalize(z, dim=-1).chunk(2, 1)
  return MMCRLoss(lmda=0.3)(online, momentum)


def emp_ssl(z):
  # The class adds the coding rate, which the paper and its code subtract.
  z = normalize(z, dim=-1).transpose(0, 1)
  assert torch.isclose(EMPSSLLoss()(list(z)), tcr_loss(z, 0.2) + 200 * invariance_loss(z))
  return 200 * invariance_loss(z) - tcr_loss(z, 0.2)


def along(directions, loss, regularizer):
  """The loss with these directions in place of random ones."""
  unit = directions / directions.norm(dim=0)
  regularizer._generate_unit_vectors = lambda *_: unit.detach()
  # Its knots once more, since they were rounded to single precision.
  t = torch.linspace(0, 3, 17)
  regularizer.t, regularizer.phi = t, torch.exp(-t.square() / 2)
  regularizer.weights = regularizer.phi * torch.tensor([1.0] + [2.0] * 15 + [1.0]) * 3 / 16
  return loss


def lejepa(z, directions):
  loss = LeJEPALoss(lambda_param=0.2)
  views = z.transpose(0, 1)
  return along(directions, loss, loss.sigreg)(global_proj=views[:2], local_proj=views[2:])


def sigreg(z, directions):
  loss = SIGReg()
  return along(directions, loss, loss)(z)


def main() -> None:
  torch.set_default_dtype(torch.float64)
  answers = Answers("siamese", "lightly")
  rng = np.random.default_rng(0)
  for batch, dim in ((7, 5), (16, 8)):
    size = f"{batch}x{dim}"
    views = {"z_1": rng.normal(size=(batch, dim)), "z_2": rng.normal(size=(batch, dim))}
    z, many = rng.normal(size=(batch, dim)), rng.normal(size=(batch, 4, dim))
    directions = rng.normal(size=(dim, 9))
    maps = {
      "map_1": rng.normal(size=(batch, 6, 3)),
      "map_2": rng.normal(size=(batch, 4, 3)),
      "grid_1": rng.uniform(size=(batch, 6, 2)),
      "grid_2": rng.uniform(size=(batch, 4, 2)),
    }
    covariance = {"covariance": np.cov(rng.normal(size=(dim, 20)))}

    def add(name, loss, size=size, **arrays):
      answers.add(f"{name}_lightly_{size}", loss, **arrays)

    add("cosine", lambda z_1, z_2: NegativeCosineSimilarity()(z_1, z_2.detach()), **views)
    add("barlow_twins", lambda z_1, z_2: BarlowTwinsLoss(0.01)(z_1, z_2), **views)
    add("vicreg", lambda z_1, z_2: VICRegLoss(nu_param=2.0)(z_1, z_2), **views)
    add("vicregl", vicregl, **views, **maps)
    if batch >= 2 * dim:
      add("w_mse", w_mse, **views)
    add("tico", tico, **views, **covariance)
    add("koleo", lambda z: KoLeoLoss(eps=1e-12)(z), z=z)
    add("mmcr", mmcr, z=many)
    add("frossl", lambda z: FroSSLLoss(invariance_weight=2.0)(list(z.transpose(0, 1))), z=many)
    add("emp_ssl", emp_ssl, z=many)
    add("sigreg", sigreg, z=z, directions=directions)
    add("lejepa", lejepa, z=many, directions=directions)
  answers.write()


if __name__ == "__main__":
  main()
