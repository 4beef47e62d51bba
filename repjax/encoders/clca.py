"""CLCA: what earlier layers knew, for transformers that drop most of their tokens."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.encoders.batch_norm import batch_norm
from repjax.encoders.features import Features
from repjax.encoders.transformer import gelu
from repjax.encoders.vit import ViT


class CLCA(nn.Module):
  """A vision transformer with a cross-layer cache and a cross-layer aggregation head.

  The cache: after each block the carrier tokens are stored, and behind each block that reduces, all
  that were stored since the last one are put at the end of the sequence. The head: class tokens
  behind the blocks that reduce and behind the last one, ``[batch, dim, layers]``, are normed over
  the batch, mixed by as many kernels of length ``layers`` as ``kernels`` for each feature, normed
  and activated. A linear classifier follows.

  Attributes:
    vit: with a class token, and a ``reduce`` that makes fewer tokens in ``layers``; with a cache it
      must not trace them, since tokens are added. Its ``registers`` are the carriers.
    layers: the blocks that reduce.
    cache: whether there is one; if not, the head alone is left.
    kernels: for each feature; 0 has the last class token as of `ViT` in place of the head.
    momentum: share of running statistics that is kept at each step of training.
    axis_name: mapped axis that holds the other shards of a batch, for the head's statistics.
    dtype: of the head's computation.

  References:
    Rios et al., `Cross-Layer Cache Aggregation for Token Reduction in Ultra-Fine-Grained Image
    Recognition <https://arxiv.org/abs/2501.00243>`_, 2024, and the official code, which has the
    carriers behind the patches, where they can be dropped and the last token takes their part; here
    they are never dropped.
  """

  vit: ViT
  layers: Sequence[int]
  cache: bool = True
  kernels: int = 2
  momentum: float = 0.9
  axis_name: str | None = None
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: whether the head's norms use the statistics of the batch.

    Returns:
      Features of the transformer, of which ``pooled`` is ``[batch, kernels * dim]``, what a linear
      classifier sees; ``tokens`` have those that were put back at the end.

    Raises:
      ValueError: if there is no class token, no carrier for the cache, or no such block.
    """
    vit, layers = self.vit, tuple(self.layers)
    if vit.pool != "cls" or (self.cache and not vit.registers):
      raise ValueError(
        f"CLCA needs a ViT with pool='cls' and, for its cache, registers >= 1, got {vit.pool!r} "
        f"and {vit.registers}"
      )
    if not layers or not 0 <= min(layers) <= max(layers) < vit.depth:
      raise ValueError(f"layers={layers} are not blocks of 0 to {vit.depth - 1}; choose from those")
    stored = []

    def put_back(layer: int, x: jax.Array) -> jax.Array:
      # Before a block, so behind the one before it.
      done = layer - 1
      if done in layers and stored:
        x = jnp.concatenate([x, *stored], 1)
        stored.clear()
      if 0 <= done < max(layers):
        stored.append(x[:, 1 : 1 + vit.registers])
      return x

    hook = put_back if self.cache else None
    features = vit(image, tokens_in=hook)
    if not self.kernels:
      return features
    wanted = dict.fromkeys((*layers, vit.depth - 1))
    tokens = jnp.stack([features.layers[i][:, 0] for i in wanted], -1)
    normed = batch_norm(self, train, axis=1)
    x = normed(name="norm_1")(tokens)
    # One kernel sees one feature in all layers: a convolution in groups, of a single place.
    shape = (self.kernels, tokens.shape[1], tokens.shape[2])
    kernel = self.param(
      "kernel", nn.initializers.variance_scaling(1.0, "fan_in", "normal", 2), shape
    )
    bias = self.param("bias", nn.initializers.zeros, shape[:2])
    x = jnp.einsum("bdl,kdl->bkd", x, kernel.astype(self.dtype)) + bias[None].astype(self.dtype)
    x = batch_norm(self, train)(name="norm_2")(x.reshape(len(x), -1))
    return features._replace(pooled=gelu(x))
