"""Measures: arrays to numbers."""

from repjax.measure import minibatch_cka
from repjax.measure.alignment import cka, linear_cka
from repjax.measure.canonical import CanonicalCorrelation, cca, mean_squared_cca, pwcca, svcca
from repjax.measure.compatibility import Compatibility, compatibility
from repjax.measure.dissimilarity import correlation_rdm, euclidean_rdm, geo_topological, ranks
from repjax.measure.interaction import (
  interaction_tensor,
  pairwise_agreement,
  principal_scores,
  shared_features,
)
from repjax.measure.kernels import centre_gram, hsic, linear_gram, rbf_gram
from repjax.measure.layers import similarity_matrix
from repjax.measure.maps import LinearMap, affine_map, apply_map, orthogonal_map
from repjax.measure.matching import (
  one_to_one,
  semi_matching,
  sparse_map,
  unit_clusters,
  unit_correlation,
)
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
from repjax.measure.relative import (
  angular_similarities,
  basis_coordinates,
  cosine_similarities,
  euclidean_distances,
  relative_representation,
)
from repjax.measure.spectrum import rank_me
from repjax.measure.sphere import uniformity
from repjax.measure.subspace import (
  SubspaceAlignment,
  fit_subspace_alignment,
  local_cka_gain,
  project_source,
  project_target,
)

__all__ = [
  "CanonicalCorrelation",
  "Compatibility",
  "LinearMap",
  "SubspaceAlignment",
  "affine_map",
  "angular_similarities",
  "apply_map",
  "basis_coordinates",
  "cca",
  "centre_gram",
  "cka",
  "compatibility",
  "correlation_rdm",
  "cosine_similarities",
  "euclidean_distances",
  "euclidean_rdm",
  "fit_subspace_alignment",
  "geo_topological",
  "hsic",
  "interaction_tensor",
  "linear_cka",
  "linear_gram",
  "local_cka_gain",
  "mean_squared_cca",
  "minibatch_cka",
  "mutual_knn",
  "neighbourhood_jaccard",
  "one_to_one",
  "orthogonal_map",
  "pairwise_agreement",
  "principal_scores",
  "procrustes_distance",
  "project_source",
  "project_target",
  "pwcca",
  "rank_me",
  "ranks",
  "rbf_gram",
  "rdm_cosine",
  "rdm_kendall",
  "rdm_pearson",
  "rdm_spearman",
  "rdm_whitened_cosine",
  "relative_representation",
  "semi_matching",
  "shape_distance",
  "shared_features",
  "similarity_matrix",
  "sparse_map",
  "svcca",
  "trsa",
  "uniformity",
  "unit_clusters",
  "unit_correlation",
]
