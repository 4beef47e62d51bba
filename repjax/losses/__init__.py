"""Pure functions from arrays to a loss."""

from repjax.losses.contrastive import nt_xent
from repjax.losses.masked import masked_pixels

__all__ = ["masked_pixels", "nt_xent"]
