"""Classifiers on frozen features."""

from repjax.heads.class_means import (
  ClassMeans,
  calibrate_new_classes,
  class_means,
  cosine_logits,
  euclidean_logits,
)
from repjax.heads.discriminant import (
  Quadratic,
  fit_lda,
  fit_qda,
  qda_logits,
  shrink_covariance,
)
from repjax.heads.knn import knn_logits
from repjax.heads.latent_shift import LatentShift, fit_latent_shift, latent_shift_logits
from repjax.heads.logistic import Logistic, fit_logistic, logits
from repjax.heads.moments import (
  Moments,
  combine_moments,
  covariance,
  init_moments,
  total_moments,
  update_moments,
  within_scatter,
)
from repjax.heads.neighbors import mine_neighbors
from repjax.heads.ridge import (
  choose_penalty,
  fit_ridge,
  gram_and_cross,
  random_features,
  random_projection,
)
from repjax.heads.simplex import d_simplex, simplex_etf, simplex_logits

__all__ = [
  "ClassMeans",
  "LatentShift",
  "Logistic",
  "Moments",
  "Quadratic",
  "calibrate_new_classes",
  "choose_penalty",
  "class_means",
  "combine_moments",
  "cosine_logits",
  "covariance",
  "d_simplex",
  "euclidean_logits",
  "fit_latent_shift",
  "fit_lda",
  "fit_logistic",
  "fit_qda",
  "fit_ridge",
  "gram_and_cross",
  "init_moments",
  "knn_logits",
  "latent_shift_logits",
  "logits",
  "mine_neighbors",
  "qda_logits",
  "random_features",
  "random_projection",
  "shrink_covariance",
  "simplex_etf",
  "simplex_logits",
  "total_moments",
  "update_moments",
  "within_scatter",
]
