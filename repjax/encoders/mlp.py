"""Projectors and predictors: the small net between an encoder and a loss."""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.encoders.batch_norm import batch_norm


class MLP(nn.Module):
  """Dense layers with ReLU or another activation between, normalised or not.

  SimCLR's projector is ``MLP((hidden, out))`` with ``norm=None`` as its paper has it, or with
  ``norm="batch", norm_last=True, bias_last=False`` as its code has it; three layers for SimCLR v2.
  BYOL's projector and predictor are ``MLP((4096, 256), norm="batch")``.

  Attributes:
    dims: widths of the hidden layers and, last, of the output.
    norm: ``batch``, ``layer``, or none after each hidden layer, before its activation.
    norm_last: whether the output is normalised too, without scale and offset.
    bias_last: whether the last layer has a bias.
    momentum: share of the running statistics kept at each step of training.
    activation: between layers.
    axis_name: mapped axis that holds the other shards of a batch, for ``norm="batch"``.
    dtype: of the computation; parameters and statistics are float32.

  References:
    Chen et al., `A Simple Framework for Contrastive Learning of Visual Representations
    <https://arxiv.org/abs/2002.05709>`_, 2020, section 2.1.
    Chen et al., `Big Self-Supervised Models are Strong Semi-Supervised Learners
    <https://arxiv.org/abs/2006.10029>`_, 2020.
    Grill et al., `Bootstrap Your Own Latent <https://arxiv.org/abs/2006.07733>`_, 2020,
    section 3.3.
  """

  dims: Sequence[int]
  norm: Literal["batch", "layer"] | None = None
  norm_last: bool = False
  bias_last: bool = True
  momentum: float = 0.9
  activation: Callable[[jax.Array], jax.Array] = nn.relu
  axis_name: str | None = None
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
    """Projects features.

    Args:
      x: ``[..., dim]``.
      train: whether batch norm uses the batch's statistics, and updates the running ones in the
        collection ``batch_stats``.

    Returns:
      ``[..., dims[-1]]``.

    Raises:
      ValueError: if the output is to be normalised and ``norm`` is not set.
    """
    if self.norm_last and self.norm is None:
      raise ValueError("norm_last=True needs a norm, got norm=None; choose norm='batch' or 'layer'")
    *hidden, out = self.dims
    for i, width in enumerate(hidden):
      # A norm's offset stands in for the bias.
      x = nn.Dense(width, use_bias=self.norm is None, dtype=self.dtype, name=f"dense_{i}")(x)
      x = self.activation(self._normalize(x, train, f"norm_{i}"))
    last = len(hidden)
    x = nn.Dense(out, use_bias=self.bias_last, dtype=self.dtype, name=f"dense_{last}")(x)
    return self._normalize(x, train, f"norm_{last}", affine=False) if self.norm_last else x

  def _normalize(self, x, train, name, affine=True):
    options = {"use_scale": affine, "use_bias": affine, "name": name}
    if self.norm == "batch":
      return batch_norm(self, train, **options)()(x)
    return nn.LayerNorm(dtype=self.dtype, **options)(x) if self.norm == "layer" else x
