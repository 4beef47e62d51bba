"""Writes margins.npz: answers of pytorch-metric-learning to losses over one vector per class.

pip install -r tests/oracles/requirements.txt && python tests/oracles/margins.py
"""

import numpy as np
import torch
from answers import Answers
from pytorch_metric_learning import losses


def put(loss, name, value):
  """Puts an array in place of a loss's parameters, so that gradients reach it."""
  delattr(loss, name)
  setattr(loss, name, value)
  return loss


def by_columns(loss, name="W"):
  """Of embeddings, labels and ``[classes, ..., dim]`` centers, which the loss has as columns."""

  def value(embeddings, labels, centers):
    columns = centers.reshape(-1, centers.shape[-1]).T
    return put(loss, name, columns)(embeddings, labels)

  return value


def by_proxies(loss):
  return lambda embeddings, labels, proxies: put(loss, "proxies", proxies)(embeddings, labels)


def p2s_grad(loss):
  """Without a gradient of the centers, which that class normalises outside of the graph."""

  def value(embeddings, labels, centers):
    # Its normalisation divides by the length + 1e-7.
    loss.weight.data = 1e9 * centers.detach().T
    return loss(embeddings, labels)

  return value


def main() -> None:
  torch.set_default_dtype(torch.float64)
  answers = Answers("margins", "pytorch-metric-learning")
  rng = np.random.default_rng(0)
  for batch, dim, classes in ((7, 5, 4), (16, 8, 6)):
    examples = {
      "embeddings": rng.normal(size=(batch, dim)),
      "labels": rng.integers(classes, size=batch),
    }
    centers = {"centers": rng.normal(size=(classes, dim))}
    several = {"centers": rng.normal(size=(classes, 3, dim))}
    proxies = {"proxies": rng.normal(size=(classes, dim))}
    shape = {"num_classes": classes, "embedding_size": dim}
    half = np.degrees(0.5)

    def add(name, function, arrays, examples=examples, size=f"{batch}x{dim}"):
      answers.add(f"{name}_{size}", function, **examples, **arrays)

    add("normalized_softmax", by_columns(losses.NormalizedSoftmaxLoss(**shape)), centers)
    add("cosface", by_columns(losses.CosFaceLoss(**shape)), centers)
    add("arcface", by_columns(losses.ArcFaceLoss(margin=half, **shape)), centers)
    beyond = losses.ArcFaceLoss(margin=np.degrees(2), scale=8, **shape)
    add("arcface_beyond_pi", by_columns(beyond), centers)
    add(
      "sub_center_arcface", by_columns(losses.SubCenterArcFaceLoss(margin=half, **shape)), several
    )
    add("sphereface", by_columns(losses.SphereFaceLoss(**shape)), centers)
    add("large_margin_softmax", by_columns(losses.LargeMarginSoftmaxLoss(**shape)), centers)
    three = losses.LargeMarginSoftmaxLoss(margin=3, scale=0.5, **shape)
    add("large_margin_softmax_3", by_columns(three), centers)
    add("p2s_grad", p2s_grad(losses.P2SGradLoss(dim, classes)), centers)
    add("proxy_nca", by_proxies(losses.ProxyNCALoss(**shape)), proxies)
    add("proxy_nca_plus_plus", by_proxies(losses.ProxyNCALoss(softmax_scale=9, **shape)), proxies)
    add("proxy_anchor", by_proxies(losses.ProxyAnchorLoss(**shape)), proxies)
    add(
      "proxy_anchor_soft", by_proxies(losses.ProxyAnchorLoss(margin=0.3, alpha=4, **shape)), proxies
    )
    add(
      "soft_triple", by_columns(losses.SoftTripleLoss(centers_per_class=3, **shape), "fc"), several
    )
  answers.write()


if __name__ == "__main__":
  main()
