"""Prototypes: learned directions that embeddings are assigned to."""

import jax
from flax import linen as nn

from repjax.arrays import at_least_float32, l2_normalize


class Prototypes(nn.Module):
  """Cosines of embeddings and learned prototypes.

  SwAV's prototypes, and the last layer of DINO's head, whose weights are kept at unit length: that
  head is ``Prototypes(65536, MLP((2048, 2048, 256), activation=gelu))``. Both sides are normalised
  in the forward pass; SwAV's code normalises the weights before each step instead.

  Attributes:
    count: number of prototypes.
    mlp: applied first, if any.

  References:
    Caron et al., `Unsupervised Learning of Visual Features by Contrasting Cluster Assignments
    <https://arxiv.org/abs/2006.09882>`_, 2020, section 3.1.
    Caron et al., `Emerging Properties in Self-Supervised Vision Transformers
    <https://arxiv.org/abs/2104.14294>`_, 2021, section 3.1.
  """

  count: int
  mlp: nn.Module | None = None

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
    """Scores embeddings.

    Args:
      x: ``[..., dim]``.
      train: handed on to ``mlp``.

    Returns:
      ``[..., count]`` float32, in [-1, 1].
    """
    x = x if self.mlp is None else self.mlp(x, train=train)
    x = l2_normalize(at_least_float32(x))
    table = self.param("prototypes", nn.initializers.normal(1.0), (self.count, x.shape[-1]))
    return x @ l2_normalize(table).T
