"""Activations to codes and back."""

from repjax.codes.bottleneck import Bottleneck, Coded
from repjax.codes.factorized import FactorizedPrior, add_unit_noise
from repjax.codes.frames import (
  dequantize_range,
  pack_frame,
  quantize_range,
  truncation_range,
  unpack_frame,
)
from repjax.codes.lengths import adaptive_bits, count_symbols, entropy_bits, lzma_bits, table_bits

__all__ = [
  "Bottleneck",
  "Coded",
  "FactorizedPrior",
  "adaptive_bits",
  "add_unit_noise",
  "count_symbols",
  "dequantize_range",
  "entropy_bits",
  "lzma_bits",
  "pack_frame",
  "quantize_range",
  "table_bits",
  "truncation_range",
  "unpack_frame",
]
