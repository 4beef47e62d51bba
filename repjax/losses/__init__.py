"""Pure functions from arrays to a loss."""

from repjax.losses.contrastive import dcl, dclw, hardness_weighted_info_nce, info_nce, nt_xent
from repjax.losses.masked import masked_pixels

__all__ = [
  "dcl",
  "dclw",
  "hardness_weighted_info_nce",
  "info_nce",
  "masked_pixels",
  "nt_xent",
]
