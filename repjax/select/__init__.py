"""Selection: data to a ranking or a subset."""

from repjax.select.attention import (
  class_attention,
  evit,
  fuse,
  random_tokens,
  top_attention,
  uniform_tokens,
)
from repjax.select.diversity import divprune, farthest_first
from repjax.select.layers import drop_between, fuse_between, keep_rate, merge_between
from repjax.select.medoids import in_segments, k_medoids, spectral_medoids
from repjax.select.merging import pitome, random_merging, token_energy, tome
from repjax.select.tokens import (
  Reduction,
  behind,
  compose,
  keep_all,
  keep_only,
  merge,
  reduction_into,
  take,
  token_sizes,
  unmerge,
)

__all__ = [
  "Reduction",
  "behind",
  "class_attention",
  "compose",
  "divprune",
  "drop_between",
  "evit",
  "farthest_first",
  "fuse",
  "fuse_between",
  "in_segments",
  "k_medoids",
  "keep_all",
  "keep_only",
  "keep_rate",
  "merge",
  "merge_between",
  "pitome",
  "random_merging",
  "random_tokens",
  "reduction_into",
  "spectral_medoids",
  "take",
  "token_energy",
  "token_sizes",
  "tome",
  "top_attention",
  "uniform_tokens",
  "unmerge",
]
