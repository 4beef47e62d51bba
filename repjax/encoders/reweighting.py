"""A projector without parameters, that lets some dimensions count more than others."""

import jax
import numpy as np
from flax import linen as nn


class Reweighting(nn.Module):
  r"""Divides dimension i by :math:`\kappa^i`.

  .. math:: h(z)_i = z_i / \kappa^i, \qquad i = 0, 1, \dots

  In the place of a projector: the loss then sees unequal weights, and the features before it need
  not become unequal to have them.

  Attributes:
    kappa: :math:`\kappa`, > 0; 1 is no projector.

  References:
    Xue et al., `Investigating the Benefits of Projection Head for Representation Learning
    <https://arxiv.org/abs/2403.11391>`_, 2024, section 6; exponents from 0 as in the authors' code.
  """

  kappa: float = 1.05

  def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
    """Reweights features.

    Args:
      x: ``[..., dim]``.
      train: accepted as every projector does.

    Returns:
      ``[..., dim]``.
    """
    weights = self.kappa ** -np.arange(x.shape[-1], dtype=np.float64)
    return x * weights.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
