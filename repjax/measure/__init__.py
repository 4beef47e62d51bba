"""Measures: arrays to numbers."""

from repjax.measure import minibatch_cka
from repjax.measure.alignment import cka, linear_cka
from repjax.measure.canonical import CanonicalCorrelation, cca, mean_squared_cca, pwcca, svcca
from repjax.measure.dissimilarity import correlation_rdm, euclidean_rdm, geo_topological, ranks
from repjax.measure.kernels import centre_gram, hsic, linear_gram, rbf_gram
from repjax.measure.layers import similarity_matrix
from repjax.measure.maps import LinearMap, affine_map, apply_map, orthogonal_map
from repjax.measure.neighbourhoods import mutual_knn, neighbourhood_jaccard
from repjax.measure.procrustes import procrustes_distance, shape_distance
from repjax.measure.rdm_similarity import (
  rdm_cosine,
  rdm_kendall,
  rdm_pearson,
  rdm_spearman,
  rdm_whitened_cosine,
  trsa,
)
from repjax.measure.spectrum import rank_me
from repjax.measure.sphere import uniformity

__all__ = [
  "CanonicalCorrelation",
  "LinearMap",
  "affine_map",
  "apply_map",
  "cca",
  "centre_gram",
  "cka",
  "correlation_rdm",
  "euclidean_rdm",
  "geo_topological",
  "hsic",
  "linear_cka",
  "linear_gram",
  "mean_squared_cca",
  "minibatch_cka",
  "mutual_knn",
  "neighbourhood_jaccard",
  "orthogonal_map",
  "procrustes_distance",
  "pwcca",
  "rank_me",
  "ranks",
  "rbf_gram",
  "rdm_cosine",
  "rdm_kendall",
  "rdm_pearson",
  "rdm_spearman",
  "rdm_whitened_cosine",
  "shape_distance",
  "similarity_matrix",
  "svcca",
  "trsa",
  "uniformity",
]
