"""Linear classifiers of the first coordinates, at several sizes in one pass."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike


class NestedLinear(nn.Module):
  r"""What a linear classifier says of each prefix of an embedding.

  .. math:: s_m = W^{(m)} z_{1:m} + b^{(m)} \quad \text{or, tied,} \quad
    s_m = W_{:, 1:m} z_{1:m} + b

  Tied (the paper's MRL-E, ``efficient`` in its code) there is one classifier of the full length.
  Its logits at a size are those at the size before and what the coordinates between add, so that
  all sizes together cost the multiply-adds of the largest one.

  Attributes:
    classes: number of classes.
    sizes: lengths of the prefixes, ascending.
    tied: whether the sizes share one classifier.
    dtype: of the computation; parameters are float32.

  References:
    Kusupati et al., `Matryoshka Representation Learning <https://arxiv.org/abs/2205.13147>`_, 2022,
    section 3; ``MRL_Linear_Layer`` of https://github.com/RAIVNLab/MRL, which computes each size
    anew.
  """

  classes: int
  sizes: Sequence[int]
  tied: bool = False
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """Classifies by every prefix.

    Args:
      features: ``[batch, dim]``.

    Returns:
      Logits ``[sizes, batch, classes]``, as `repjax.heads.run_cascade` takes them.

    Raises:
      ValueError: if the sizes do not ascend or exceed the features.
    """
    sizes = tuple(self.sizes)
    if not sizes or list(sizes) != sorted(set(sizes)) or sizes[0] < 1:
      raise ValueError(f"expected sizes that ascend from 1 or more, got {list(sizes)}")
    if features.ndim != 2 or sizes[-1] > features.shape[1]:
      raise ValueError(f"sizes {list(sizes)} exceed features of shape {features.shape}")
    if not self.tied:
      dense = lambda size: nn.Dense(self.classes, dtype=self.dtype, name=f"size_{size}")
      return jnp.stack([dense(size)(features[:, :size]) for size in sizes])
    shape = (sizes[-1], self.classes)
    kernel = self.param("kernel", nn.initializers.lecun_normal(), shape).astype(self.dtype)
    bias = self.param("bias", nn.initializers.zeros_init(), shape[1:]).astype(self.dtype)
    starts = (0, *sizes[:-1])
    parts = [
      features[:, start:stop].astype(self.dtype) @ kernel[start:stop]
      for start, stop in zip(starts, sizes, strict=True)
    ]
    return jnp.cumsum(jnp.stack(parts), 0) + bias[None, None]
