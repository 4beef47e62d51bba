"""Deep sets: each element seen alone, their sum, and what a second net makes of it."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32, check_mask
from repjax.encoders.features import Features
from repjax.encoders.mlp import MLP


class DeepSets(nn.Module):
  """One net for every element, a sum, mean or maximum over the set, and a second net.

  Attributes:
    dims: widths of the first net; the last is that of the tokens.
    pooled_dims: widths of the second net; the last is that of the pooled feature.
    pool: ``sum`` as in the paper's theorem, ``mean``, which forgets how many there are, or ``max``.
    dtype: of the computation; parameters are float32, and so are sums over the set.

  References:
    Zaheer et al., `Deep Sets <https://arxiv.org/abs/1703.06114>`_, 2017, theorem 2 and section 3.1.
  """

  dims: Sequence[int] = (128, 128, 128)
  pooled_dims: Sequence[int] = (128, 128)
  pool: Literal["sum", "mean", "max"] = "mean"
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, elements: jax.Array, *, train: bool = False, where: jax.Array | None = None
  ) -> Features:
    """Encodes sets.

    Args:
      elements: ``[batch, n, dim]``, floating.
      train: without effect; every encoder takes it.
      where: ``[batch, n]`` boolean, the elements that are there, for sets of unequal size; all if
        absent. The others change nothing but their own tokens.

    Returns:
      Features; ``tokens`` are the elements after the first net, ``layers`` the same. An empty set
      pools to 0 before the second net.

    Raises:
      ValueError: if ``elements`` is not rank 3, or ``where`` does not fit it.
    """
    check_set(elements, where)
    tokens = MLP(self.dims, dtype=self.dtype, name="each")(elements)
    wide = at_least_float32(tokens)
    there = jnp.ones(elements.shape[:2], bool) if where is None else where
    count = jnp.sum(there, 1, keepdims=True)
    if self.pool == "max":
      whole = jnp.max(jnp.where(there[..., None], wide, -jnp.inf), 1)
      whole = jnp.where(count > 0, whole, 0)
    else:
      whole = jnp.sum(jnp.where(there[..., None], wide, 0), 1)
    if self.pool == "mean":
      whole = whole / jnp.maximum(count, 1)
    pooled = MLP(self.pooled_dims, dtype=self.dtype, name="all")(whole)
    return Features(pooled, tokens, (tokens,))


def check_set(elements: jax.Array, where: jax.Array | None) -> None:
  """Raises unless an input is a batch of sets.

  Args:
    elements: ``[batch, n, dim]``.
    where: ``[batch, n]``, or absent.

  Raises:
    ValueError: naming the shapes.
  """
  if elements.ndim != 3:
    raise ValueError(f"expected sets [batch, n, dim], got shape {elements.shape}")
  if where is not None:
    check_mask(where, elements.shape[:2])
