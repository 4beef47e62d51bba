"""Trees: parameters to parameters."""

from repjax.trees.convert import (
  CONVOLUTION,
  FIRST,
  MATRIX,
  ROW,
  SAME,
  Form,
  Rule,
  convert,
  dense_rules,
  find_names,
  joined_rules,
  norm_rules,
  patches,
  revert,
)
from repjax.trees.state import read_state, write_state

__all__ = [
  "CONVOLUTION",
  "FIRST",
  "MATRIX",
  "ROW",
  "SAME",
  "Form",
  "Rule",
  "convert",
  "dense_rules",
  "find_names",
  "joined_rules",
  "norm_rules",
  "patches",
  "read_state",
  "revert",
  "write_state",
]
