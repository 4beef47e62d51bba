"""Measures: arrays to numbers."""

from repjax.measure.bounds import (
  club_bound,
  donsker_varadhan_bound,
  info_nce_bound,
  interpolated_bound,
  jensen_shannon_bound,
  jensen_shannon_divergence,
  nwj_bound,
  smile_bound,
  tuba_bound,
  wasserstein_bound,
)
from repjax.measure.gaussian_information import covariance_information, gaussian_information
from repjax.measure.information_tasks import (
  Task,
  additive_uniform_task,
  benchmark_tasks,
  dense_correlation,
  half_cube,
  information_tasks,
  mapped_task,
  normal_task,
  sparse_correlation,
  spiral,
  student_task,
  swiss_roll,
  uniform_margin,
)
from repjax.measure.kernel_information import (
  cauchy_schwarz_divergence,
  cauchy_schwarz_information,
  conditional_cauchy_schwarz_divergence,
  gaussian_gram,
  matrix_entropy,
  matrix_information,
)
from repjax.measure.neighbour_information import ksg_information, ksg_information_2
from repjax.measure.spectrum import rank_me
from repjax.measure.sphere import uniformity

__all__ = [
  "Task",
  "additive_uniform_task",
  "benchmark_tasks",
  "cauchy_schwarz_divergence",
  "cauchy_schwarz_information",
  "club_bound",
  "conditional_cauchy_schwarz_divergence",
  "covariance_information",
  "dense_correlation",
  "donsker_varadhan_bound",
  "gaussian_gram",
  "gaussian_information",
  "half_cube",
  "info_nce_bound",
  "information_tasks",
  "interpolated_bound",
  "jensen_shannon_bound",
  "jensen_shannon_divergence",
  "ksg_information",
  "ksg_information_2",
  "mapped_task",
  "matrix_entropy",
  "matrix_information",
  "normal_task",
  "nwj_bound",
  "rank_me",
  "smile_bound",
  "sparse_correlation",
  "spiral",
  "student_task",
  "swiss_roll",
  "tuba_bound",
  "uniform_margin",
  "uniformity",
  "wasserstein_bound",
]
