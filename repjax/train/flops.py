"""Arithmetic of a training step, and what the hardware could do."""

import functools
import math
from typing import Any

import jax

from repjax.train.chips import CHIPS, measure_flops


def count_flops(f: Any, *args: Any) -> float:
  """Counts the multiplications and additions of a function's products and convolutions.

  Counted in the traced program, so that loop bodies count as often as they run (the compiler's own
  figure counts them once) and mapped ones on every device. Work that rematerialisation does again
  is left out, as is everything that is not a product: the usual convention of model FLOPs. A
  ``while`` loop, whose length is not known, counts once; of a ``cond``, the dearest branch.

  Args:
    f: a traceable function.
    *args: arrays or their shapes.

  Returns:
    Operations of one call over all devices; a multiply-add is two.
  """
  return _count(jax.make_jaxpr(f)(*args).jaxpr.eqns)


def _count(eqns) -> float:
  total = 0.0
  for eqn in eqns:
    name, params = eqn.primitive.name, eqn.params
    if name == "dot_general":
      (contract, _), _ = params["dimension_numbers"]
      depth = math.prod(eqn.invars[0].aval.shape[i] for i in contract)
      total += 2 * depth * math.prod(eqn.outvars[0].aval.shape)
    elif name == "conv_general_dilated":
      kernel = eqn.invars[1].aval.shape
      out_features = kernel[params["dimension_numbers"].rhs_spec[0]]
      depth = math.prod(kernel) // out_features
      positions = math.prod(eqn.outvars[0].aval.shape)
      # Backward passes spread the input out with zeros, on which no model arithmetic is done.
      total += 2 * depth * positions / math.prod(params["lhs_dilation"])
    elif name.startswith("dot_product_attention"):
      # cuDNN's kernel; query [batch, tokens, heads, dim], key [batch, keys, heads, dim].
      query, key = (x.aval.shape for x in eqn.invars[:2])
      total += (8 if "_bwd" in name else 4) * math.prod(query) * key[1]
    elif params.get("name") in ("_convolved", "_correlated"):
      # repjax.encoders.convolution on a CPU: shifted sums, [batch, height, width, dim] by taps.
      taps = (eqn.invars[1] if params["name"] == "_convolved" else eqn.outvars[0]).aval.shape
      total += 2 * math.prod(taps[:2]) * math.prod(eqn.invars[0].aval.shape)
    elif name == "cond":
      total += max(_count(branch.eqns) for branch in _subprograms(params))
    elif params.get("differentiated"):
      total += sum(_count(_backward(body)) for body in _subprograms(params))
    else:
      repeats = params["length"] if name == "scan" else 1
      if name == "shard_map":  # pmap is one too
        # The first name is that of jax 0.10.0.
        axes = params.get("manual_axes") or params["newly_manual_axes"]
        repeats = math.prod(params["mesh"].shape[axis] for axis in axes)
      total += repeats * sum(_count(body.eqns) for body in _subprograms(params))
  return total


def _subprograms(params):
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      item = getattr(item, "jaxpr", item)
      if hasattr(item, "eqns"):
        yield item


def _backward(body):
  """Equations of a rematerialised backward pass that are not the forward pass done again.

  They are those that a cotangent reaches. Cotangents are the last inputs, as many as it takes to
  reach every output.
  """
  eqns = []
  for first in reversed(range(len(body.invars))):
    reached, eqns = set(map(id, body.invars[first:])), []
    for eqn in body.eqns:
      if any(id(x) in reached for x in eqn.invars):
        reached.update(map(id, eqn.outvars))
        eqns.append(eqn)
    if all(id(x) in reached for x in body.outvars):
      break
  return eqns


@functools.cache
def peak_flops(device: jax.Device) -> tuple[float, str]:
  """The rate that a device could reach on products.

  Args:
    device: any.

  Returns:
    FLOP/s, and where the figure is from: the maker's data sheet (bfloat16) for known chips, a
    float32 matrix product timed here for all else.
  """
  if device.device_kind in CHIPS:
    chip = CHIPS[device.device_kind]
    return chip.flops, chip.source
  return measure_flops(device), "measured float32 product"
