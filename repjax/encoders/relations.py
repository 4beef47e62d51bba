"""What attention compares: queries, keys and values of a transformer's blocks."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.arrays import at_least_float32
from repjax.encoders.features import Features


class Relations(NamedTuple):
  """What one block's attention compares, ``[batch, heads, tokens, head_dim]`` each.

  Attributes:
    query: that asks.
    key: that is asked.
    value: that is answered.
  """

  query: jax.Array
  key: jax.Array
  value: jax.Array


def with_relations(
  encoder: nn.Module,
  variables: Mapping[str, Any],
  x: jax.Array,
  *,
  layers: Sequence[int],
  heads: int | None = None,
  **options: Any,
) -> tuple[Features, list[Relations]]:
  """Encodes, and tells what some blocks compared; gradients flow through both.

  Args:
    encoder: a `ViT` or another transformer whose blocks are called ``block_0`` and on.
    variables: of the encoder.
    x: its input.
    layers: blocks to tell of; negative ones count from the last.
    heads: how many to part the vectors into; those of the encoder if absent.
    **options: for the encoder.

  Returns:
    The features, and one entry for each of ``layers``, class token and registers first.

  Raises:
    ValueError: if the encoder has no such blocks, as where they are scanned.
  """
  names = ("query", "key", "value")
  features, seen = encoder.apply(
    variables,
    x,
    capture_intermediates=lambda module, _: module.name in names,
    mutable=["intermediates"],
    **options,
  )
  relations = []
  for layer in layers:
    index = layer % len(features.layers)
    block = seen["intermediates"].get(f"block_{index}")
    if block is None:
      raise ValueError(
        f"layer {layer} has no block_{index} of its own; build the encoder with scan=False"
      )
    batch, tokens, dim = features.layers[index].shape
    parts = heads or encoder.heads

    def split(name, block=block, shape=(batch, -1, parts, dim // parts), tokens=tokens):
      (y,) = block["attention"][name]["__call__"]
      # Lengths may have been padded for a GPU's kernel.
      return jnp.swapaxes(y.reshape(shape)[:, :tokens], 1, 2)

    relations.append(Relations(*map(split, names)))
  return features, relations


def class_attention(relations: Relations, prefix: int) -> jax.Array:
  """How much the class token attends to each patch, as the mean over heads.

  Args:
    relations: of a block, the class token first.
    prefix: tokens before the patches, at least the class token.

  Returns:
    ``[batch, patches]`` float32 with sum 1.

  Raises:
    ValueError: if there is no class token.
  """
  if prefix < 1:
    raise ValueError("attention of the class token needs one, got none; choose pool='cls'")
  query, key = at_least_float32(relations.query[:, :, :1]), at_least_float32(relations.key)
  scores = jnp.einsum("bhqd,bhkd->bhqk", query, key) / query.shape[-1] ** 0.5
  patches = jnp.mean(jax.nn.softmax(scores), 1)[:, 0, prefix:]
  return patches / jnp.sum(patches, -1, keepdims=True)
