"""Measures: arrays to numbers."""

from repjax.measure.spectrum import rank_me
from repjax.measure.sphere import uniformity

__all__ = ["rank_me", "uniformity"]
