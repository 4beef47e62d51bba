"""An encoder that knows nothing of images: their pixels as one vector, and a small net."""

import jax
from flax import linen as nn

from repjax.encoders.features import Features


class Flat(nn.Module):
  """Flattens its input for a net of vectors; for tables, synthetic vectors and tiny images.

  Attributes:
    net: ``[batch, size] -> [batch, dim]``, called with ``train=``, such as `MLP`; one layer makes a
      linear encoder.
  """

  net: nn.Module

  def __call__(self, x: jax.Array, *, train: bool = False) -> Features:
    """Encodes.

    Args:
      x: ``[batch, ...]``.
      train: handed on.

    Returns:
      Features, whose one token is the pooled vector.
    """
    pooled = self.net(x.reshape(len(x), -1), train=train)
    return Features(pooled, pooled[:, None], (pooled[:, None],))
