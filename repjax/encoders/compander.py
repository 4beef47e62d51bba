"""Weight Compander: kernels seen through a curve that is steep at zero and flat far out."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.encoders.features import Features

Tree = Any

#: Names of the shape parameters beside each kernel.
SHAPE = ("log_height", "log_width")


def compand(v: jax.Array, height: float | jax.Array, width: float | jax.Array) -> jax.Array:
  r"""The weight that a free parameter stands for.

  .. math:: \psi(v) = a \arctan(v / b)

  Odd, of slope :math:`a / b` at zero, and never as far from it as :math:`a \pi / 2`.

  Args:
    v: any shape, floating.
    height: :math:`a`, > 0.
    width: :math:`b`, > 0.

  Returns:
    Same shape as ``v``.

  References:
    Cakaj, Mehnert, Yang, `Weight Compander: A Simple Weight Reparameterization for Regularization
    <https://arxiv.org/abs/2306.16993>`_, 2023. Where a curve starts, and that it is learnt by
    logarithms, is ours.
  """
  return height * jnp.arctan(v / width)


def expand(w: jax.Array, height: float | jax.Array, width: float | jax.Array) -> jax.Array:
  """The free parameter of a weight; undoes `compand`.

  Args:
    w: any shape, floating, below ``height * pi / 2`` in size.
    height: as above.
    width: as above.

  Returns:
    Same shape as ``w``.
  """
  return width * jnp.tan(w / height)


def compand_tree(params: Tree) -> Tree:
  """The parameters that a companded tree stands for.

  Args:
    params: nested dictionaries from `expand_tree`.

  Returns:
    The tree of the plain module: kernels companded, their `SHAPE` gone.
  """
  if not isinstance(params, Mapping):
    return params
  out = {k: compand_tree(x) for k, x in params.items() if k not in SHAPE}
  if SHAPE[0] in params:
    height, width = (jnp.exp(params[name]) for name in SHAPE)
    out["kernel"] = compand(params["kernel"], height, width)
  return out


def expand_tree(params: Tree, *, headroom: float = 1.5, slope: float = 1.0) -> Tree:
  """Free parameters of a module's own, and the shape of each kernel's curve, to be learnt too.

  Args:
    params: nested dictionaries; leaves named ``kernel`` are taken, others stay.
    headroom: how far a kernel's bound lies beyond its largest weight, as a ratio, > 1.
    slope: of the curve at zero, > 0.

  Returns:
    The same tree with `SHAPE` beside each kernel, scalars: logarithms, so that both stay positive.

  Raises:
    ValueError: if ``headroom`` or ``slope`` is out of range.
  """
  if headroom <= 1 or slope <= 0:
    raise ValueError(f"expected headroom > 1 and slope > 0, got headroom={headroom}, slope={slope}")
  if not isinstance(params, Mapping):
    return params
  out = {k: expand_tree(x, headroom=headroom, slope=slope) for k, x in params.items()}
  if "kernel" in params:
    kernel = params["kernel"]
    largest = jnp.max(jnp.abs(kernel))
    # A kernel of zeros gets the bound of a usual one.
    usual = 2 * max(kernel.size // kernel.shape[-1], 1) ** -0.5
    height = headroom * jnp.where(largest > 0, largest, usual) * 2 / math.pi
    out |= {"log_height": jnp.log(height), "log_width": jnp.log(height / slope)}
    out["kernel"] = expand(kernel, height, height / slope)
  return out


class Companded(nn.Module):
  """Any encoder, whose kernels are learnt through the curve.

  Starts as the encoder itself would. Weight decay acts on the free parameters.

  Attributes:
    encoder: images to `Features`.
    headroom: see `expand_tree`.
    slope: see `expand_tree`.
  """

  encoder: nn.Module
  headroom: float = 1.5
  slope: float = 1.0

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: for the encoder.

    Returns:
      The encoder's features.
    """
    through = nn.map_variables(
      lambda encoder, image: encoder(image, train=train),
      "params",
      trans_in_fn=_each(compand_tree),
      trans_out_fn=_each(lambda tree: expand_tree(tree, headroom=self.headroom, slope=self.slope)),
      init=self.is_initializing(),
      mutable=self.is_initializing(),
    )
    return through(self.encoder, image)


def _each(f):
  """Within collections."""
  return lambda collections: {name: f(tree) for name, tree in collections.items()}
