"""Who is nearest to whom."""

import jax
import jax.numpy as jnp

from repjax.heads.search import nearest_keys


def mine_neighbors(features: jax.Array, k: int, *, rows: int = 512) -> jax.Array:
  """The nearest other examples of each example, by cosine.

  Args:
    features: ``[n, dim]``; normalised inside.
    k: neighbours of each, less than n; SCAN has 20 of 50,000 and 5 on smaller sets.
    rows: how many are compared with all others at a time.

  Returns:
    ``[n, k]`` int32 indices, the nearest first.

  Raises:
    ValueError: if there are not ``k`` others.

  References:
    Van Gansbeke et al., `SCAN: Learning to Classify Images without Labels
    <https://arxiv.org/abs/2005.12320>`_, 2020, section 2.1.
  """
  if not 0 < k < len(features):
    raise ValueError(f"k={k} neighbours of {len(features)} examples; choose 1 to one less")
  features = jnp.asarray(features, jnp.float32)
  own = jnp.arange(len(features))
  return nearest_keys(features, features, k=k, own=own, query_tile=rows).index
