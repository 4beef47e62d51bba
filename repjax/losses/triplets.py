"""Triplets: an anchor is to be closer to its own class than to another, by a margin."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize
from repjax.losses.distances import Distance, euclidean, row_aligned, squared_euclidean
from repjax.losses.labelled import (
  labelled_pairs,
  labelled_rows,
  negatives,
  places,
  positives,
  ratio,
)
from repjax.losses.layout import gather


def triplet(
  anchor: jax.Array,
  positive: jax.Array,
  negative: jax.Array,
  *,
  margin: float = 0.2,
  soft: bool = False,
  distance: Distance = euclidean,
  normalize: bool = False,
) -> jax.Array:
  r"""Given triplets, row by row.

  .. math:: \ell_i = [m + d(a_i, p_i) - d(a_i, n_i)]_+

  FaceNet takes squared distances of unit vectors; sentence-transformers a margin of 5. The soft
  margin, :math:`\log(1 + \exp(\cdot))` in place of the hinge, is mostly used with ``margin=0``.

  Args:
    anchor: ``[batch, dim]``.
    positive: row-aligned with ``anchor``, ``[batch, dim]``.
    negative: row-aligned with ``anchor``, ``[batch, dim]``.
    margin: by which the negative has to be farther.
    soft: whether softplus takes the place of the hinge.
    distance: of rows to columns, smaller for what is closer.
    normalize: scale all vectors to unit length before.

  Returns:
    Loss per triplet, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Schroff et al., `FaceNet: A Unified Embedding for Face Recognition and Clustering
    <https://arxiv.org/abs/1503.03832>`_, 2015, section 3.1.
    Hermans et al., `In Defense of the Triplet Loss for Person Re-Identification
    <https://arxiv.org/abs/1703.07737>`_, 2017, section 2 (soft margin).
  """
  check_same_shape(2, anchor=anchor, positive=positive, negative=negative)
  rows = [at_least_float32(x) for x in (anchor, positive, negative)]
  anchor, positive, negative = map(l2_normalize, rows) if normalize else rows
  near, far = (row_aligned(distance, anchor, x) for x in (positive, negative))
  return _penalty(margin + near - far, soft)


def triplet_all(
  embeddings: jax.Array,
  labels: jax.Array,
  weights: jax.Array | None = None,
  *,
  margin: float = 0.2,
  soft: bool = False,
  active_only: bool = False,
  distance: Distance = euclidean,
  normalize: bool = False,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Batch all: the mean over every triplet of an anchor.

  .. math::
    \ell_a = \frac{1}{|P_a| |N_a|} \sum_{p \in P_a} \sum_{n \in N_a} [m + d_{ap} - d_{an}]_+

  A mean per anchor: pytorch-metric-learning takes one over all triplets of the batch, by default
  (``AvgNonZeroReducer``), like sentence-transformers, over those that are not 0. Per anchor,
  ``active_only`` does the latter.

  Memory grows with ``batch * total``: the hinge is summed over sorted distances, in the time of
  sorting; the soft margin positive after positive, in time that grows with ``batch * total**2``.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    weights: of pairs, ``[batch, total]``, such as a miner's; a triplet's is the product of its two
      pairs'. All 1 if absent.
    margin: by which negatives have to be farther.
    soft: whether softplus takes the place of the hinge.
    active_only: mean over the triplets that violate the margin instead of all.
    distance: of rows to columns, smaller for what is closer.
    normalize: scale embeddings to unit length before.
    where: ``[batch]`` bool, rows that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per anchor, ``[batch]`` float32, >= 0; 0 where it has no triplet.

  Raises:
    ValueError: if the shapes do not match, or ``active_only`` comes with ``soft``, where every
      triplet is active.

  References:
    Hermans et al., `In Defense of the Triplet Loss for Person Re-Identification
    <https://arxiv.org/abs/1703.07737>`_, 2017, section 2 (batch all).
  """
  if soft and active_only:
    raise ValueError("active_only=True needs a hinge; a soft margin leaves every triplet active")
  options = {"distance": distance, "normalize": normalize, "where": where, "axis_name": axis_name}
  d, positive, negative = labelled_pairs(embeddings, labels, weights, **options)
  if soft:
    total = _soft_sum(d, positive, negative, margin)
  else:
    total, active = _hinge_sum(d, positive, negative, margin)
  if not active_only:
    active = jnp.sum(positive, 1) * jnp.sum(negative, 1)
  return ratio(total, active)


def triplet_hard(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  margin: float = 0.2,
  soft: bool = False,
  distance: Distance = euclidean,
  normalize: bool = False,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Batch hard: each anchor with its farthest positive and its nearest negative.

  .. math:: \ell_a = [m + \max_{p \in P_a} d_{ap} - \min_{n \in N_a} d_{an}]_+

  The mean over the batch is that of sentence-transformers (margin 5), which also counts anchors
  without a positive, at distance 0; here they have no loss.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    margin: by which negatives have to be farther.
    soft: whether softplus takes the place of the hinge; the paper's best, with ``margin=0``.
    distance: of rows to columns, smaller for what is closer.
    normalize: scale embeddings to unit length before.
    where: ``[batch]`` bool, rows that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per anchor, ``[batch]`` float32, >= 0; 0 where it has no triplet.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Hermans et al., `In Defense of the Triplet Loss for Person Re-Identification
    <https://arxiv.org/abs/1703.07737>`_, 2017, section 2 (batch hard).
  """
  options = {"distance": distance, "normalize": normalize, "where": where, "axis_name": axis_name}
  d, positive, negative = labelled_pairs(embeddings, labels, **options)
  some = jnp.any(positive > 0, 1) & jnp.any(negative > 0, 1)
  farthest = jnp.max(jnp.where(positive > 0, d, -jnp.inf), 1)
  nearest = jnp.min(jnp.where(negative > 0, d, jnp.inf), 1)
  violation = jnp.where(some, farthest, 0) - jnp.where(some, nearest, 0)
  return jnp.where(some, _penalty(margin + violation, soft), 0)


def triplet_semi_hard(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  margin: float = 0.2,
  farthest_otherwise: bool = False,
  distance: Distance = squared_euclidean,
  normalize: bool = True,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""FaceNet: each positive with the nearest negative that is farther than itself.

  .. math::
    \ell_a = \frac{1}{|P_a|} \sum_{p \in P_a} [m + d_{ap} - d_{a n(p)}]_+, \qquad
    n(p) = \arg\min_{n \in N_a,\ d_{an} > d_{ap}} d_{an}

  The paper asks for negatives that are farther than the positive and within the margin, without
  saying which; the nearest is TensorFlow's choice. Where all negatives are nearer there is none in
  the paper's sense, and the pair counts as 0; TensorFlow and sentence-transformers take the
  farthest then. They average over all positive pairs of the batch, here it is per anchor.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    margin: by which negatives have to be farther.
    farthest_otherwise: take the farthest negative where none is farther than the positive.
    distance: of rows to columns, smaller for what is closer.
    normalize: scale embeddings to unit length before.
    where: ``[batch]`` bool, rows that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per anchor, ``[batch]`` float32, >= 0; 0 where it has no triplet.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Schroff et al., `FaceNet: A Unified Embedding for Face Recognition and Clustering
    <https://arxiv.org/abs/1503.03832>`_, 2015, section 3.2.
  """
  options = {"distance": distance, "normalize": normalize, "where": where, "axis_name": axis_name}
  d, positive, negative = labelled_pairs(embeddings, labels, **options)
  order, place = places(d, negative > 0, d, "right")
  count = jnp.sum(negative > 0, 1, keepdims=True)
  farther = place < count
  last = jnp.maximum(count - 1, 0)
  chosen = jnp.take_along_axis(d, jnp.take_along_axis(order, jnp.minimum(place, last), 1), 1)
  loss = jnp.maximum(margin + d - chosen, 0)
  found = (count > 0) if farthest_otherwise else farther
  total = jnp.sum(positive * jnp.where(found, loss, 0), 1)
  return ratio(total, jnp.sum(positive, 1))


def centroid_triplet(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  margin: float = 0.3,
  distance: Distance = euclidean,
  normalize: bool = False,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Each embedding against the mean of the rest of its class and the nearest other class's mean.

  .. math::
    \ell_a = [m + d(x_a, c_a^{\setminus a}) - \min_{k \neq y_a} d(x_a, c_k)]_+, \qquad
    c_a^{\setminus a} = \frac{1}{|P_a|} \sum_{p \in P_a} x_p

  The paper writes squared distances; the authors' code, which is followed, takes Euclidean ones
  and the hardest negative. It also leaves one member out of the other classes, and lets other
  queries be negatives; here other classes are whole.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    margin: by which other classes have to be farther.
    distance: of rows to columns, smaller for what is closer.
    normalize: scale embeddings to unit length before.
    where: ``[batch]`` bool, rows that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per embedding, ``[batch]`` float32, >= 0; 0 where it is alone in its class or has no
    other class.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Wieczorek et al., `On the Unreasonable Effectiveness of Centroids in Image Retrieval
    <https://arxiv.org/abs/2104.13643>`_, 2021.
  """
  row, column = labelled_rows(
    embeddings, labels, normalize=normalize, where=where, axis_name=axis_name
  )
  everyone = gather(column, axis_name)
  positive, negative = positives(row, everyone), negatives(row, everyone)
  rest = jnp.matmul(positive, everyone["z"], precision="highest")
  count = jnp.sum(positive, 1)
  own = rest / jnp.maximum(count, 1)[:, None]
  centroid = gather((rest + row["z"]) / (count + 1)[:, None], axis_name)
  nearest = jnp.min(jnp.where(negative > 0, distance(row["z"], centroid), jnp.inf), 1)
  some = (count > 0) & jnp.any(negative > 0, 1)
  near = row_aligned(distance, row["z"], own)
  return jnp.where(some, jnp.maximum(margin + near - jnp.where(some, nearest, 0), 0), 0)


def _penalty(violation, soft) -> jax.Array:
  return jax.nn.softplus(violation) if soft else jnp.maximum(violation, 0)


def _hinge_sum(d, positive, negative, margin):
  """Sum over all triplets, and the weight of those that are active."""
  threshold = d + margin
  order, place = places(d, negative > 0, threshold, "left")

  def below(x):
    """Sums over the negatives below each threshold."""
    sums = jnp.cumsum(jnp.take_along_axis(x, order, 1), 1)
    return jnp.take_along_axis(jnp.pad(sums, ((0, 0), (1, 0))), place, 1)

  count = below(negative)
  total = positive * (count * threshold - below(negative * d))
  return jnp.sum(total, 1), jnp.sum(positive * count, 1)


def _soft_sum(d, positive, negative, margin) -> jax.Array:
  @jax.checkpoint
  def of_one(pair):
    near, weight = pair
    return weight * jnp.sum(negative * jax.nn.softplus(margin + near[:, None] - d), 1)

  return jnp.sum(lax.map(of_one, (d.T, positive.T)), 0)
