"""Measures: arrays to numbers."""

from repjax.measure.collapse import (
  Frame,
  class_means,
  frame_deviation,
  nearest_mean_disagreement,
  self_duality,
  unconstrained_norms,
  within_class_variability,
)
from repjax.measure.diffusion import (
  diffusion_eigenvalues,
  diffusion_entropy,
  diffusion_information,
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

__all__ = [
  "Frame",
  "alignment",
  "alpha_req",
  "class_means",
  "coding_rate",
  "covariance_spectrum",
  "diffusion_eigenvalues",
  "diffusion_entropy",
  "diffusion_information",
  "effective_rank",
  "frame_deviation",
  "lidar",
  "nearest_mean_disagreement",
  "participation_ratio",
  "rank_me",
  "self_duality",
  "unconstrained_norms",
  "uniformity",
  "within_class_variability",
]
