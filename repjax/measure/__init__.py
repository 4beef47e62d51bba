"""Measures: arrays to numbers."""

from repjax.measure.bayesian_generalization import (
  representativeness,
  rule_generalization,
  similarity_generalization,
)
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
from repjax.measure.diffusion import (
  diffusion_eigenvalues,
  diffusion_entropy,
  diffusion_information,
)
from repjax.measure.feature_merging import Merged, merge_features
from repjax.measure.learning_curve import (
  LearningCurve,
  best_switch,
  fit_piecewise_power_law,
  fit_power_law,
  predict_error,
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
from repjax.measure.table_properties import (
  containment,
  dependency_spread,
  join_correlation,
  mean_cosine,
  neighbour_stability,
  order_sensitivity,
  rank_correlation,
)
from repjax.measure.usable_information import (
  feature_complexity,
  linear_information,
  variance_explained,
)

__all__ = [
  "Conflict",
  "Frame",
  "LearningCurve",
  "Merged",
  "alignment",
  "alpha_req",
  "best_switch",
  "class_means",
  "coding_rate",
  "component_lifetimes",
  "containment",
  "covariance_spectrum",
  "cue_preference",
  "dependency_spread",
  "diagonal",
  "diffusion_eigenvalues",
  "diffusion_entropy",
  "diffusion_information",
  "effective_rank",
  "embed",
  "feature_complexity",
  "fit_piecewise_power_law",
  "fit_power_law",
  "frame_deviation",
  "join_correlation",
  "lidar",
  "linear_information",
  "mean_cosine",
  "merge_features",
  "nearest_mean_disagreement",
  "neighbour_stability",
  "order_sensitivity",
  "participation_ratio",
  "predict_error",
  "rank_correlation",
  "rank_me",
  "reliance",
  "representativeness",
  "rule_generalization",
  "self_duality",
  "separation",
  "shortcut_bias",
  "similarity_generalization",
  "topological_separability",
  "two_features",
  "unconstrained_norms",
  "uniformity",
  "variance_explained",
  "within_class_variability",
]
