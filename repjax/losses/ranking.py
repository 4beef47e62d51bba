"""Losses that ask for examples of one's class before all others, by smooth stand-ins of ranks."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from repjax.losses.labelled import labelled_rows, positives_and_negatives
from repjax.losses.layout import batch_sum, gather
from repjax.losses.pairs import PairSums, pair_sums


def fast_ap(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  bins: int = 10,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""One minus average precision, of distances that are sorted into soft bins.

  Squared distances of unit vectors lie in [0, 4]; each is shared linearly by the two nearest of
  bins + 1 centres. With :math:`h^+_k` and :math:`h_k` what an anchor's positives and all others
  give to centre k, and :math:`H^+_k, H_k` the sums up to k,

  .. math:: \ell_i = 1 - \frac{1}{|P_i|} \sum_k \frac{h^+_k H^+_k}{H_k}

  pytorch-metric-learning takes the mean over the anchors that have a positive. The backward pass
  holds some two matrices of pairs, or of the pairs of a tile, for each bin.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: class of each, ``[batch]`` integers; -1 for rows that are to be left out.
    bins: number of steps from the smallest to the largest distance.
    where: ``[batch]`` bool, rows that take part; all if absent.
    tile_size: edge of the tiles in which pairs are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per anchor, ``[batch]`` float32, in [0, 1]; 0 where left out and without a positive.

  Raises:
    ValueError: if there is not one label for every embedding.

  References:
    Cakir et al., `Deep Metric Learning to Rank <https://doi.org/10.1109/CVPR.2019.00196>`_, 2019.
  """
  rows, _ = labelled_rows(embeddings, labels, normalize=True, where=where, axis_name=axis_name)
  rows["square"] = jnp.sum(rows["z"] ** 2, -1)
  terms = functools.partial(_shares_of_bins, bins=bins, precision=precision)
  sums = pair_sums(terms, rows, rows, symmetric=True, tile_size=tile_size, axis_name=axis_name)
  positive, negative = (jnp.stack(x, 1) for x in (sums.sums[: bins + 1], sums.sums[bins + 1 :]))
  positives_up_to = jnp.cumsum(positive, 1)
  all_up_to = positives_up_to + jnp.cumsum(negative, 1)
  precisions = positives_up_to / jnp.where(all_up_to > 0, all_up_to, 1)
  count = jnp.sum(positive, 1)
  some = count > 0.5  # the two shares of a distance sum to 1
  average = jnp.sum(positive * precisions, 1) / jnp.where(some, count, 1)
  return jnp.where(some, 1 - average, 0)


def smooth_ap(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  temperature: float | jax.Array = 0.01,
  where: jax.Array | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""One minus average precision, in which sigmoids count who ranks before whom.

  With :math:`s_{ij}` the cosine, :math:`S_i` all examples of class :math:`y_i`, :math:`\Omega` the
  whole batch, and :math:`\sigma_\tau(x) = 1 / (1 + e^{-x / \tau})`,

  .. math::
    \ell_i = 1 - \frac{1}{|S_i|} \sum_{p \in S_i}
      \frac{1 + \sum_{j \in S_i, j \neq p} \sigma_\tau(s_{ij} - s_{ip})}
        {1 + \sum_{j \in \Omega, j \neq p} \sigma_\tau(s_{ij} - s_{ip})}

  As in the authors' code and in pytorch-metric-learning, an anchor is among its own positives,
  where it ranks first. Those need classes of one size; this does not. Anchors are worked off one
  after the other, each with a matrix of all pairs of others.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: class of each, ``[batch]`` integers; -1 for rows that are to be left out.
    temperature: width of the sigmoid, > 0.
    where: ``[batch]`` bool, rows that take part; all if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per anchor, ``[batch]`` float32, in [0, 1]; 0 where left out and without another positive.

  Raises:
    ValueError: if there is not one label for every embedding.

  References:
    Brown et al., `Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval
    <https://arxiv.org/abs/2007.12163>`_, 2020.
  """
  rows, _ = labelled_rows(embeddings, labels, normalize=True, where=where, axis_name=axis_name)
  columns = gather(rows, axis_name)
  cosine = jnp.matmul(rows["z"], columns["z"].T, precision=precision)
  positive, negative = positives_and_negatives(rows, columns)
  own = rows["index"][:, None] == columns["index"][None, :]
  same = (rows["label"] >= 0)[:, None] & (positive | own)

  @jax.checkpoint  # otherwise the backward pass would keep a matrix for every anchor
  def average_precision(row):
    cosine, same, negative = row
    # before[p, j]: how surely j ranks before p
    before = jax.nn.sigmoid((cosine[None, :] - cosine[:, None]) / temperature)
    itself = jnp.eye(len(cosine), dtype=bool)
    among_same = 1 + jnp.sum(jnp.where(same[None, :] & ~itself, before, 0), 1)
    among_all = among_same + jnp.sum(jnp.where(negative[None, :], before, 0), 1)
    total = jnp.sum(jnp.where(same, among_same / among_all, 0))
    return total / jnp.maximum(jnp.sum(same), 1)

  average = lax.map(average_precision, (cosine, same, negative))
  return jnp.where(jnp.any(positive, 1), 1 - average, 0)


def histogram(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  bins: int = 100,
  where: jax.Array | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Probability that a negative pair is at least as similar as a positive pair.

  Cosines of all pairs of the batch are shared linearly by the two nearest of bins + 1 nodes from
  -1 to 1. With :math:`h^+_r` and :math:`h^-_r` the shares of positive and of negative pairs that
  fall to node r,

  .. math:: L = \sum_r h^-_r \sum_{q \le r} h^+_q

  pytorch-metric-learning leaves out pairs of two examples that are both alone in their class.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: class of each, ``[batch]`` integers; -1 for rows that are to be left out.
    bins: number of steps from the smallest to the largest similarity.
    where: ``[batch]`` bool, rows that take part; all if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Scalar float32 in [0, 1]; 0 without a positive or a negative pair.

  Raises:
    ValueError: if there is not one label for every embedding.

  References:
    Ustinova and Lempitsky, `Learning Deep Embeddings with Histogram Loss
    <https://arxiv.org/abs/1611.00822>`_, 2016.
  """
  rows, _ = labelled_rows(embeddings, labels, normalize=True, where=where, axis_name=axis_name)
  columns = gather(rows, axis_name)
  cosine = jnp.matmul(rows["z"], columns["z"].T, precision=precision)
  place = (cosine + 1) * (bins / 2)
  node = jnp.clip(jnp.floor(lax.stop_gradient(place)), 0, bins - 1)
  above = place - node
  node = node.astype(jnp.int32)

  def shares(keep):
    none = jnp.zeros(bins + 1, cosine.dtype)
    counts = none.at[node].add(jnp.where(keep, 1 - above, 0))
    counts = batch_sum(counts.at[node + 1].add(jnp.where(keep, above, 0)), axis_name)
    total = batch_sum(jnp.sum(keep, dtype=cosine.dtype), axis_name)
    return counts / jnp.maximum(total, 1)

  positive, negative = map(shares, positives_and_negatives(rows, columns))
  return jnp.sum(negative * jnp.cumsum(positive))


def _shares_of_bins(row, column, shared, *, bins, precision) -> PairSums:
  """What each pair gives to each bin of the positives, then to each of the negatives."""
  del shared
  square = row["square"][:, None] + column["square"][None, :]
  square -= 2 * jnp.matmul(row["z"], column["z"].T, precision=precision)
  kinds = positives_and_negatives(row, column)
  # Rounding must not carry a pair out of the range in which its two shares sum to 1.
  place = jnp.clip(square * (bins / 4), 0, bins)
  shares = [jax.nn.relu(1 - jnp.abs(place - k)) for k in range(bins + 1)]
  return PairSums(sums=tuple(jnp.where(kind, x, 0) for kind in kinds for x in shares))
