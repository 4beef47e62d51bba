"""Classifiers on frozen features."""

from repjax.heads.knn import knn_logits
from repjax.heads.latent_shift import LatentShift, fit_latent_shift, latent_shift_logits
from repjax.heads.logistic import fit_logistic, logits
from repjax.heads.neighbors import mine_neighbors
from repjax.heads.search import Neighbors, merge_neighbors, nearest_keys

__all__ = [
  "LatentShift",
  "Neighbors",
  "fit_latent_shift",
  "fit_logistic",
  "knn_logits",
  "latent_shift_logits",
  "logits",
  "merge_neighbors",
  "mine_neighbors",
  "nearest_keys",
]
