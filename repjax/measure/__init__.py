"""Measures: arrays to numbers."""

from repjax.measure import minibatch_cka
from repjax.measure.alignment import cka, linear_cka
from repjax.measure.bayesian_generalization import (
  representativeness,
  rule_generalization,
  similarity_generalization,
)
from repjax.measure.canonical import CanonicalCorrelation, cca, mean_squared_cca, pwcca, svcca
from repjax.measure.collapse import (
  Frame,
  class_means,
  frame_deviation,
  nearest_mean_disagreement,
  self_duality,
  unconstrained_norms,
  within_class_variability,
)
from repjax.measure.cue_preference import cue_preference, diagonal
from repjax.measure.diffusion import diffusion_eigenvalues, diffusion_entropy, diffusion_information
from repjax.measure.dissimilarity import correlation_rdm, euclidean_rdm, geo_topological
from repjax.measure.feature_merging import Merged, merge_features
from repjax.measure.interaction import (
  interaction_tensor,
  pairwise_agreement,
  principal_scores,
  shared_features,
)
from repjax.measure.kernels import centre_gram, hsic, linear_gram, rbf_gram
from repjax.measure.layers import similarity_matrix
from repjax.measure.learning_curve import (
  LearningCurve,
  best_switch,
  fit_piecewise_power_law,
  fit_power_law,
  predict_error,
)
from repjax.measure.maps import LinearMap, affine_map, apply_map, orthogonal_map
from repjax.measure.matching import (
  one_to_one,
  semi_matching,
  sparse_map,
  unit_clusters,
  unit_correlation,
)
from repjax.measure.neighbourhoods import mutual_knn, neighbourhood_jaccard
from repjax.measure.ordering import rank_correlation, ranks
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
from repjax.measure.separability import component_lifetimes, topological_separability
from repjax.measure.shortcuts import (
  Conflict,
  embed,
  reliance,
  separation,
  shortcut_bias,
  two_features,
)
from repjax.measure.spectrum import (
  alpha_req,
  coding_rate,
  covariance_spectrum,
  effective_rank,
  lidar,
  participation_ratio,
  rank_me,
)
from repjax.measure.sphere import alignment, uniformity
from repjax.measure.subspace import (
  SubspaceAlignment,
  fit_subspace_alignment,
  local_cka_gain,
  project_source,
  project_target,
)
from repjax.measure.table_properties import (
  containment,
  dependency_spread,
  join_correlation,
  mean_cosine,
  order_sensitivity,
)
from repjax.measure.usable_information import (
  feature_complexity,
  linear_information,
  variance_explained,
)

__all__ = [
  "CanonicalCorrelation",
  "Conflict",
  "Frame",
  "LearningCurve",
  "LinearMap",
  "Merged",
  "SubspaceAlignment",
  "affine_map",
  "alignment",
  "alpha_req",
  "angular_similarities",
  "apply_map",
  "basis_coordinates",
  "best_switch",
  "cca",
  "centre_gram",
  "cka",
  "class_means",
  "coding_rate",
  "component_lifetimes",
  "containment",
  "correlation_rdm",
  "cosine_similarities",
  "covariance_spectrum",
  "cue_preference",
  "dependency_spread",
  "diagonal",
  "diffusion_eigenvalues",
  "diffusion_entropy",
  "diffusion_information",
  "effective_rank",
  "embed",
  "euclidean_distances",
  "euclidean_rdm",
  "feature_complexity",
  "fit_piecewise_power_law",
  "fit_power_law",
  "fit_subspace_alignment",
  "frame_deviation",
  "geo_topological",
  "hsic",
  "interaction_tensor",
  "join_correlation",
  "lidar",
  "linear_cka",
  "linear_gram",
  "linear_information",
  "local_cka_gain",
  "mean_cosine",
  "mean_squared_cca",
  "merge_features",
  "minibatch_cka",
  "mutual_knn",
  "nearest_mean_disagreement",
  "neighbourhood_jaccard",
  "one_to_one",
  "order_sensitivity",
  "orthogonal_map",
  "pairwise_agreement",
  "participation_ratio",
  "predict_error",
  "principal_scores",
  "procrustes_distance",
  "project_source",
  "project_target",
  "pwcca",
  "rank_correlation",
  "rank_me",
  "ranks",
  "rbf_gram",
  "rdm_cosine",
  "rdm_kendall",
  "rdm_pearson",
  "rdm_spearman",
  "rdm_whitened_cosine",
  "relative_representation",
  "reliance",
  "representativeness",
  "rule_generalization",
  "self_duality",
  "semi_matching",
  "separation",
  "shape_distance",
  "shared_features",
  "shortcut_bias",
  "similarity_generalization",
  "similarity_matrix",
  "sparse_map",
  "svcca",
  "topological_separability",
  "trsa",
  "two_features",
  "unconstrained_norms",
  "uniformity",
  "unit_clusters",
  "unit_correlation",
  "variance_explained",
  "within_class_variability",
]
