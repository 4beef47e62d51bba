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
from repjax.measure.spectrum import rank_me
from repjax.measure.sphere import uniformity

__all__ = [
  "club_bound",
  "donsker_varadhan_bound",
  "info_nce_bound",
  "interpolated_bound",
  "jensen_shannon_bound",
  "jensen_shannon_divergence",
  "nwj_bound",
  "rank_me",
  "smile_bound",
  "tuba_bound",
  "uniformity",
  "wasserstein_bound",
]
