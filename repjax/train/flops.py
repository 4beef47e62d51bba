"""Arithmetic of a training step, and what the hardware could do."""

import functools
import math
import time
from typing import Any

import jax
import jax.numpy as jnp

# Dense peak in FLOP/s of one chip for bfloat16 products, by `device_kind`, from the makers' data
# sheets: cloud.google.com/tpu/docs (v2 to v6e), NVIDIA's A100, H100, H200 and L4 data sheets.
_PEAKS = {
  "TPU v2": 45e12 / 2,  # a device is one of the chip's two cores
  "TPU v3": 123e12 / 2,
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5p": 459e12,
  "TPU v5": 459e12,
  "TPU v6 lite": 918e12,
  "NVIDIA A100-SXM4-40GB": 312e12,
  "NVIDIA A100-SXM4-80GB": 312e12,
  "NVIDIA H100 80GB HBM3": 989e12,
  "NVIDIA H200": 989e12,
  "NVIDIA L4": 121e12,
}


def count_flops(f: Any, *args: Any) -> float:
  """Counts the multiplications and additions of a function's products and convolutions.

  Counted in the traced program, so that loop bodies count as often as they run (the compiler's own
  figure counts them once). Work that rematerialisation does again is left out, as is everything
  that is not a product: the usual convention of model FLOPs.

  Args:
    f: a traceable function.
    *args: arrays or their shapes.

  Returns:
    Operations of one call; a multiply-add is two.
  """
  return _count(jax.make_jaxpr(f)(*args).jaxpr)


def _count(jaxpr) -> float:
  total = 0.0
  for eqn in jaxpr.eqns:
    name = eqn.primitive.name
    if name == "dot_general":
      (contract, _), _ = eqn.params["dimension_numbers"]
      depth = math.prod(eqn.invars[0].aval.shape[i] for i in contract)
      total += 2 * depth * math.prod(eqn.outvars[0].aval.shape)
    elif name == "conv_general_dilated":
      kernel = eqn.invars[1].aval.shape
      out_features = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
      depth = math.prod(kernel) // out_features
      positions = math.prod(eqn.outvars[0].aval.shape)
      # Backward passes spread the input out with zeros, on which no model arithmetic is done.
      total += 2 * depth * positions / math.prod(eqn.params["lhs_dilation"])
    else:
      inner = sum(_count(sub) for sub in _subprograms(eqn.params))
      repeats = eqn.params.get("length", 1) if name == "scan" else 1
      if name in ("checkpoint", "remat2") and eqn.params.get("differentiated"):
        repeats *= 2 / 3  # it holds the forward pass again beside the backward pass of twice its size
      total += repeats * inner
  return total


def _subprograms(params):
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      item = getattr(item, "jaxpr", item)
      if hasattr(item, "eqns"):
        yield item


@functools.cache
def peak_flops(device: jax.Device) -> tuple[float, str]:
  """The rate that a device could reach on products.

  Args:
    device: any.

  Returns:
    FLOP/s, and where the figure is from: the maker's data sheet (bfloat16) for known chips, a
    float32 matrix product timed here for all else.
  """
  if device.device_kind in _PEAKS:
    return _PEAKS[device.device_kind], "data sheet, bfloat16"
  size = 1024 if device.platform == "cpu" else 8192
  x = jax.device_put(jax.random.normal(jax.random.key(0), (size, size)), device)
  product = jax.jit(jnp.matmul)
  product(x, x).block_until_ready()
  times = []
  for _ in range(5):
    start = time.perf_counter()
    product(x, x).block_until_ready()
    times.append(time.perf_counter() - start)
  return 2 * size**3 / min(times), "measured float32 product"
