"""What every encoder returns."""

from typing import NamedTuple

import jax


class Features(NamedTuple):
  """One input seen at three grains.

  Attributes:
    pooled: ``[batch, dim]``, the vector that stands for the whole input.
    tokens: ``[batch, tokens, dim]``, the last layer's local features after the final norm, in
      raster order, without class token and registers.
    layers: every layer's output as the next layer sees it: ``[batch, prefix + tokens, dim]``
      (class token and registers first) for a transformer, ``[batch, height, width, dim]`` for a
      convolutional net.
  """

  pooled: jax.Array
  tokens: jax.Array
  layers: tuple[jax.Array, ...]
