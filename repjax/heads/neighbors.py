"""Who is nearest to whom."""

import jax
import jax.numpy as jnp

from repjax.arrays import l2_normalize


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
  z = l2_normalize(jnp.asarray(features, jnp.float32))

  def nearest(row):
    i, x = row
    cosine = jnp.matmul(z, x, precision="highest")
    return jax.lax.top_k(jnp.where(jnp.arange(len(z)) == i, -jnp.inf, cosine), k)[1]

  return jax.lax.map(nearest, (jnp.arange(len(z)), z), batch_size=min(rows, len(z)))
