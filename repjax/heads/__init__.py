"""Classifiers on frozen features."""

from repjax.heads.knn import knn_logits
from repjax.heads.latent_shift import LatentShift, fit_latent_shift, latent_shift_logits
from repjax.heads.logistic import fit_logistic, logits
from repjax.heads.neighbors import mine_neighbors

__all__ = [
  "LatentShift",
  "fit_latent_shift",
  "fit_logistic",
  "knn_logits",
  "latent_shift_logits",
  "logits",
  "mine_neighbors",
]
