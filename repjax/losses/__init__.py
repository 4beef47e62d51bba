"""Pure functions from arrays to a loss."""

from repjax.losses.contrastive import dcl, dclw, hardness_weighted_info_nce, info_nce, nt_xent
from repjax.losses.image_text import clip, siglip, unicl
from repjax.losses.masked import masked_pixels
from repjax.losses.positives import multi_positive_info_nce, soft_target_info_nce, sup_con

__all__ = [
  "clip",
  "dcl",
  "dclw",
  "hardness_weighted_info_nce",
  "info_nce",
  "masked_pixels",
  "multi_positive_info_nce",
  "nt_xent",
  "siglip",
  "soft_target_info_nce",
  "sup_con",
  "unicl",
]
