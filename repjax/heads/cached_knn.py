"""Every labelled example votes: Tip-Adapter's cache."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, l2_normalize


def cache_logits(
  query: jax.Array,
  keys: jax.Array,
  labels: jax.Array,
  *,
  classes: int,
  sharpness: float | jax.Array = 5.5,
  weight: float | jax.Array = 1.0,
  prior_logits: jax.Array | None = None,
  tile: int = 4096,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Logits of a prior, such as zero-shot ones, plus the votes of a cache of labelled examples.

  .. math:: f_c(q) + \alpha \sum_i [y_i = c] \exp(-\beta (1 - \cos(q, k_i)))

  Nothing is trained. Votes are a sum over the cache, so that parts of it, sessions or shards, add
  up. They are not normalised: a class of more examples has more votes.

  Args:
    query: ``[batch, dim]``; normalised inside.
    keys: features of the cache, ``[keys, dim]``; normalised inside.
    labels: ``[keys]`` int; a key labelled -1 never votes.
    classes: number of classes.
    sharpness: :math:`\beta` >= 0; large for the nearest alone. The official code starts its search
      at 1 to 5.5.
    weight: :math:`\alpha` >= 0 of the votes beside the prior.
    prior_logits: f, ``[batch, classes]``; CLIP's have cosines times 100. 0 if absent.
    tile: keys compared at a time; memory holds ``[batch, tile]`` similarities.
    axis_name: mapped axis that holds the rest of the cache, if any; queries and prior are then the
      same on all shards.

  Returns:
    ``[batch, classes]``, in at least float32.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Zhang et al., `Tip-Adapter: Training-free CLIP-Adapter for Better Vision-Language Modeling
    <https://arxiv.org/abs/2111.03930>`_, 2021; main.py of the official code.
  """
  if query.ndim != 2 or keys.ndim != 2 or query.shape[1] != keys.shape[1]:
    raise ValueError(f"expected [batch, dim] of one dim, got {query.shape=} and {keys.shape=}")
  size = len(keys)
  if labels.shape != (size,):
    raise ValueError(f"expected a label for each of {size} keys, got {labels.shape=}")
  shape = (len(query), classes)
  if prior_logits is not None and prior_logits.shape != shape:
    raise ValueError(f"expected prior_logits {shape}, got {prior_logits.shape}")
  query, keys = (l2_normalize(at_least_float32(x)) for x in (query, keys))
  tile = min(tile, size)
  padding = -size % tile
  keys = jnp.pad(keys, ((0, padding), (0, 0))).reshape(-1, tile, keys.shape[1])
  labels = jnp.pad(labels, (0, padding), constant_values=-1).reshape(-1, tile)

  def vote(part_keys, part_labels):
    cosine = jnp.matmul(query, part_keys.T, precision=lax.Precision.HIGHEST)
    affinity = jnp.exp(-sharpness * (1 - cosine))
    value = part_labels[:, None] == jnp.arange(classes)[None]
    return jnp.matmul(affinity, value.astype(affinity.dtype), precision=lax.Precision.HIGHEST)

  add = lambda votes, part: (votes + vote(*part), None)
  votes, _ = lax.scan(add, vote(keys[0], labels[0]), (keys[1:], labels[1:]))
  if axis_name is not None:
    votes = lax.psum(votes, axis_name)
  return weight * votes if prior_logits is None else prior_logits + weight * votes
