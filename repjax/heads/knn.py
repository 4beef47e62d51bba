"""Classification by the votes of the nearest neighbours."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from repjax.heads.search import nearest_keys


def knn_logits(
  query: jax.Array,
  keys: jax.Array,
  labels: jax.Array,
  *,
  k: int | Sequence[int],
  classes: int,
  temperature: float = 0.1,
  tile: int = 4096,
) -> jax.Array:
  r"""Log-votes of the k most similar keys, each weighted by its cosine similarity.

  .. math:: \log \sum_{i \in N_k(q)} [y_i = c] \exp((\cos(q, x_i) - \cos(q, x_{i_1})) / \tau)

  The search is exact. Keys are visited a tile at a time, so that memory holds ``[query, tile]``
  similarities whatever the number of keys; of equally similar keys the one of lowest index is
  nearer.

  Args:
    query: features to classify, ``[query, dim]``; normalised inside.
    keys: features of the bank, ``[keys, dim]``; normalised inside.
    labels: ``[keys]`` int in ``[0, classes)``; a key labelled -1 never votes.
    k: number of neighbours, in ``[1, keys]``; several of them share one search.
    classes: number of classes.
    temperature: of the weights, > 0.
    tile: keys compared at a time.

  Returns:
    ``[query, classes]`` float32, or ``[len(k), query, classes]`` if ``k`` is a sequence. Relative
    to the nearest neighbour's vote; -inf for a class without a vote.

  Raises:
    ValueError: if shapes do not fit together or a ``k`` is not in ``[1, keys]``.

  References:
    Wu et al., `Unsupervised Feature Learning via Non-Parametric Instance Discrimination
    <https://arxiv.org/abs/1805.01978>`_, 2018, section 3.4.
  """
  if query.ndim != 2 or keys.ndim != 2 or query.shape[1] != keys.shape[1]:
    raise ValueError(f"expected [batch, dim] of one dim, got {query.shape=} and {keys.shape=}")
  size = len(keys)
  if labels.shape != (size,):
    raise ValueError(f"expected a label for each of {size} keys, got {labels.shape=}")
  several = (k,) if isinstance(k, int) else tuple(k)
  if not several or min(several) < 1 or max(several) > size:
    raise ValueError(f"{k=} is not within the bank of {size} keys; choose from 1 to {size}")

  nearest = nearest_keys(
    query, keys, k=max(several), where=labels >= 0, query_tile=len(query), tile=tile
  )
  label = jnp.where(nearest.index < 0, -1, labels[nearest.index])
  cosine = 1 - nearest.distance
  # A bank with fewer labelled keys than k fills up with -1, whose weight is 0.
  weight = jnp.where(label < 0, 0, jnp.exp((cosine - cosine[:, :1]) / temperature))
  vote = jax.vmap(lambda w, y: jax.ops.segment_sum(w, y, classes))
  rank = jnp.arange(max(several))[None]
  votes = jnp.stack([vote(jnp.where(rank < count, weight, 0), label) for count in several])
  votes = jnp.log(votes)
  return votes[0] if isinstance(k, int) else votes
