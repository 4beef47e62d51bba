"""A probe of the distribution of tokens, and not of their mean alone."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.arrays import l2_normalize


class MomentProbing(nn.Module):
  r"""Linear classifier on the first and second moments of an input's tokens.

  .. math:: \tfrac12 \big(W_1 \,\mathrm{pooled} + W_2 \,\mathrm{vec}(g(C_1, \dots, C_{h-1}))\big),
    \qquad C_j = \frac1n \sum_i \mathrm{LN}(x_i^{(j)}) \, \mathrm{LN}(x_i^{(j+1)})^\top

  Tokens are reduced to ``dim``, split into h heads that share one layer norm, and each head is
  paired with the next. The columns of every :math:`C_j` have length 1, and two strided
  convolutions g over the h - 1 maps make few numbers of them.

  The official code is followed (models/representation/MP.py, ``Moment_Probing_ViT`` with
  ``cross_type="near"``); the paper's text was not at hand. The code takes off one mean over tokens
  and channels, and not each channel's mean over tokens, so that the first moment stays in the
  second; ``centre=True`` makes it a covariance. The paper's MP+, which rescales the frozen
  backbone's features, is not here.

  Attributes:
    classes: number of classes.
    dim: of the reduced tokens; the code's is 512.
    heads: h, at least 2, which divide ``dim``; the code's is 4.
    centre: whether each channel's mean over tokens is taken off.
    dtype: of the computation; parameters are float32.

  References:
    Gao et al., `Tuning Pre-trained Model via Moment Probing <https://arxiv.org/abs/2307.11342>`_,
    2023, section 3.
  """

  classes: int
  dim: int = 512
  heads: int = 4
  centre: bool = False
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, pooled: jax.Array, tokens: jax.Array) -> jax.Array:
    """Classifies inputs by frozen features.

    Args:
      pooled: class token or mean, ``[batch, dim_in]``.
      tokens: ``[batch, tokens, dim_in]`` without class token.

    Returns:
      Logits ``[batch, classes]``.

    Raises:
      ValueError: if shapes do not fit together, or heads are too few or too narrow.
    """
    width = self.dim // self.heads
    if self.heads < 2 or self.dim % self.heads or width < 7:
      raise ValueError(
        f"heads={self.heads} of dim={self.dim}: take 2 or more that divide it and are 7 or wider, "
        "which is what two strided convolutions need"
      )
    if pooled.ndim != 2 or tokens.ndim != 3 or len(pooled) != len(tokens):
      raise ValueError(
        f"expected pooled [batch, dim] and tokens [batch, tokens, dim], got {pooled.shape} and "
        f"{tokens.shape}"
      )
    x = nn.Dense(self.dim, dtype=self.dtype, name="reduce")(tokens)
    x = x.reshape(*x.shape[:2], self.heads, width)
    x = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(x)
    # One mean over tokens and channels as in the code, or one over tokens.
    x = x - jnp.mean(x, 1 if self.centre else (1, 3), keepdims=True)
    cross = jnp.einsum("bnhc,bnhd->bcdh", x[:, :, :-1], x[:, :, 1:]) / x.shape[1]
    cross = l2_normalize(cross, axis=1)
    maps, count = cross, self.heads - 1
    conv = lambda name: nn.Conv(
      count, (3, 3), 2, padding="VALID", use_bias=False, dtype=self.dtype, name=name
    )
    maps = conv("conv_1")(nn.gelu(conv("conv_0")(maps), approximate=False))
    second = nn.Dense(self.classes, dtype=self.dtype, name="second")(maps.reshape(len(maps), -1))
    return (nn.Dense(self.classes, dtype=self.dtype, name="first")(pooled) + second) / 2
