"""Classifiers on frozen features."""

from repjax.heads.cached_knn import cache_logits
from repjax.heads.cascade import (
  Decision,
  choose_thresholds,
  expected_dimension,
  fit_prefixes,
  prefix_logits,
  run_cascade,
)
from repjax.heads.class_means import (
  ClassMeans,
  calibrate_new_classes,
  cosine_logits,
  euclidean_logits,
  fit_class_means,
)
from repjax.heads.discriminant import Quadratic, fit_lda, fit_qda, qda_logits, shrink_covariance
from repjax.heads.knn import knn_logits
from repjax.heads.latent_shift import LatentShift, fit_latent_shift, latent_shift_logits
from repjax.heads.logistic import Logistic, fit_logistic, logits
from repjax.heads.moment_probing import MomentProbing
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
from repjax.heads.nested_linear import NestedLinear
from repjax.heads.propagation import Graph, knn_graph, propagate_labels
from repjax.heads.ridge import (
  choose_penalty,
  fit_ridge,
  gram_and_cross,
  random_features,
  random_projection,
)
from repjax.heads.search import Neighbors, merge_neighbors, nearest_keys
from repjax.heads.simplex import d_simplex, simplex_etf, simplex_logits

__all__ = [
  "ClassMeans",
  "Decision",
  "Graph",
  "LatentShift",
  "Logistic",
  "MomentProbing",
  "Moments",
  "Neighbors",
  "NestedLinear",
  "Quadratic",
  "cache_logits",
  "calibrate_new_classes",
  "choose_penalty",
  "choose_thresholds",
  "combine_moments",
  "cosine_logits",
  "covariance",
  "d_simplex",
  "euclidean_logits",
  "expected_dimension",
  "fit_class_means",
  "fit_latent_shift",
  "fit_lda",
  "fit_logistic",
  "fit_prefixes",
  "fit_qda",
  "fit_ridge",
  "gram_and_cross",
  "init_moments",
  "knn_graph",
  "knn_logits",
  "latent_shift_logits",
  "logits",
  "merge_neighbors",
  "mine_neighbors",
  "nearest_keys",
  "prefix_logits",
  "propagate_labels",
  "qda_logits",
  "random_features",
  "random_projection",
  "run_cascade",
  "shrink_covariance",
  "simplex_etf",
  "simplex_logits",
  "total_moments",
  "update_moments",
  "within_scatter",
]
