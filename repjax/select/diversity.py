"""Tokens that differ from one another: max-min diversity, DivPrune."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.losses.distances import cosine_distance
from repjax.select.tokens import Reduction, check_left, keep_only


def farthest_first(distances: jax.Array, first: jax.Array, left: int) -> jax.Array:
  """Chooses points one by one, each the farthest from those that are chosen.

  The least distance between the chosen is at least half of the largest that is possible if
  distances obey the triangle inequality.

  Args:
    distances: ``[batch, tokens, tokens]``, symmetric.
    first: ``[batch]`` integers, where to start.
    left: how many to choose.

  Returns:
    ``[batch, left]`` int32, in the order of choice.

  Raises:
    ValueError: if there are fewer.

  References:
    Gonzalez, `Clustering to minimize the maximum intercluster distance
    <https://doi.org/10.1016/0304-3975(85)90224-5>`_, 1985. Ravi et al., `Heuristic and special case
    algorithms for dispersion problems <https://doi.org/10.1287/opre.42.2.299>`_, 1994 (the factor).
  """
  check_left(left, distances.shape[-1])

  def one(distance, first):
    def choose(i, carry):
      chosen, nearest = carry
      last = chosen[i - 1]
      nearest = jnp.minimum(nearest, distance[last]).at[last].set(-jnp.inf)
      return chosen.at[i].set(jnp.argmax(nearest).astype(jnp.int32)), nearest

    chosen = jnp.zeros(left, jnp.int32).at[0].set(first.astype(jnp.int32))
    nearest = jnp.full(len(distance), jnp.inf, distance.dtype)
    return lax.fori_loop(1, left, choose, (chosen, nearest))[0]

  return jax.vmap(one)(lax.stop_gradient(distances), first)


def divprune(tokens: jax.Array, left: int) -> Reduction:
  """DivPrune: keeps tokens of which no two are alike, greedily, by cosine distance.

  The first is the token whose nearest neighbour is farthest; each further one is the farthest from
  those that are kept.

  Args:
    tokens: ``[batch, tokens, dim]``, without class token and registers.
    left: how many to keep.

  Returns:
    The reduction; all others are dropped.

  Raises:
    ValueError: if there are fewer.

  References:
    Alvar et al., `DivPrune: Diversity-based Visual Token Pruning for Large Multimodal Models
    <https://arxiv.org/abs/2503.02175>`_, 2025; the official operations as other repositories have
    them.
  """
  count = tokens.shape[1]
  distances = jax.vmap(cosine_distance)(tokens, tokens)
  others = jnp.where(jnp.eye(count, dtype=bool)[None], jnp.inf, distances)
  first = jnp.argmax(jnp.min(others, -1), -1)
  return keep_only(farthest_first(distances, first, left), count)
