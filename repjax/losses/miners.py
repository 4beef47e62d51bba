"""Miners: which pairs of a batch a loss is to look at, or how often, as ``[batch, total]`` weights.

Shapes do not depend on the data, so that miners run under `jax.jit`; what they return is the
``weights`` argument of losses over pairs, without gradient. Two masks join by ``|``, two counts by
``+``. Rows are this shard's anchors, columns everyone's under ``axis_name``.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from repjax.losses.distances import Distance, cosine_distance, euclidean, squared_euclidean
from repjax.losses.labelled import labelled_pairs, labelled_rows, negatives, places, positives
from repjax.losses.layout import gather, row_index


def hardest_positives(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  distance: Distance = euclidean,
  normalize: bool = False,
  axis_name: str | None = None,
) -> jax.Array:
  """The farthest of an anchor's class; with `hardest_negatives` batch hard.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    distance: of rows to columns, smaller for what is closer.
    normalize: scale embeddings to unit length before.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    ``[batch, total]`` bool, at most one a row, the first of equals.

  References:
    Hermans et al., `In Defense of the Triplet Loss for Person Re-Identification
    <https://arxiv.org/abs/1703.07737>`_, 2017, section 2.
  """
  d, positive, _ = _stopped_pairs(embeddings, labels, distance, normalize, axis_name)
  return _nearest(-d, positive)


def easiest_positives(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  distance: Distance = euclidean,
  normalize: bool = False,
  axis_name: str | None = None,
) -> jax.Array:
  """The nearest of an anchor's class, which leaves a class free to have several modes.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    distance: of rows to columns, smaller for what is closer.
    normalize: scale embeddings to unit length before.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    ``[batch, total]`` bool, at most one a row, the first of equals.

  References:
    Xuan et al., `Improved Embeddings with Easy Positive Triplet Mining
    <https://arxiv.org/abs/1904.04370>`_, 2019.
  """
  d, positive, _ = _stopped_pairs(embeddings, labels, distance, normalize, axis_name)
  return _nearest(d, positive)


def hardest_negatives(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  beyond: jax.Array | None = None,
  distance: Distance = euclidean,
  normalize: bool = False,
  axis_name: str | None = None,
) -> jax.Array:
  """The nearest of another class, or, semi-hard, the nearest that is farther than a positive.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    beyond: one positive of each anchor, ``[batch, total]`` bool as from `easiest_positives`;
      negatives that are not farther do not count.
    distance: of rows to columns, smaller for what is closer.
    normalize: scale embeddings to unit length before.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    ``[batch, total]`` bool, at most one a row, the first of equals.

  References:
    Hermans et al., `In Defense of the Triplet Loss for Person Re-Identification
    <https://arxiv.org/abs/1703.07737>`_, 2017, section 2.
    Xuan et al., `Improved Embeddings with Easy Positive Triplet Mining
    <https://arxiv.org/abs/1904.04370>`_, 2019 (semi-hard).
  """
  d, _, negative = _stopped_pairs(embeddings, labels, distance, normalize, axis_name)
  if beyond is not None:
    negative &= d > jnp.max(jnp.where(beyond, d, -jnp.inf), 1, keepdims=True)
  return _nearest(d, negative)


def violated_triplets(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  margin: float = 0.2,
  semi_hard: bool = False,
  distance: Distance = euclidean,
  normalize: bool = False,
  axis_name: str | None = None,
) -> jax.Array:
  r"""How many triplets that violate a margin a pair is in.

  Triplets with :math:`d_{an} - d_{ap} \leq m`, of which the semi-hard ones have
  :math:`d_{an} > d_{ap}`. The counts make a loss over pairs that of pytorch-metric-learning's
  TripletMarginMiner, which lists the same triplets.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    margin: by which negatives are to be farther.
    semi_hard: leave out triplets whose negative is not farther than the positive.
    distance: of rows to columns, smaller for what is closer.
    normalize: scale embeddings to unit length before.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    ``[batch, total]`` float32, whole numbers.

  References:
    Schroff et al., `FaceNet: A Unified Embedding for Face Recognition and Clustering
    <https://arxiv.org/abs/1503.03832>`_, 2015, section 3.2.
  """
  d, positive, negative = _stopped_pairs(embeddings, labels, distance, normalize, axis_name)
  before = lambda count, thresholds, side: places(d, count, thresholds, side)[1]
  of_positive = before(negative, d + margin, "right")
  of_negative = jnp.sum(positive, 1, keepdims=True) - before(positive, d - margin, "left")
  if semi_hard:
    of_positive -= before(negative, d, "right")
    of_negative -= jnp.sum(positive, 1, keepdims=True) - before(positive, d, "left")
  return (positive * of_positive + negative * of_negative).astype(d.dtype)


def angular_triplets(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  angle: float = 20.0,
  normalize: bool = False,
  axis_name: str | None = None,
) -> jax.Array:
  r"""How many triplets a pair is in whose angle at the negative is too wide.

  Those with :math:`\arctan \frac{\lVert a - p\rVert}{2 \lVert n - c\rVert} > \alpha`, where
  :math:`c = (a + p) / 2`. Angles do not depend on the scale of all embeddings.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    angle: :math:`\alpha`, in degrees.
    normalize: scale embeddings to unit length before.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    ``[batch, total]`` float32, whole numbers.

  References:
    Wang et al., `Deep Metric Learning with Angular Loss <https://arxiv.org/abs/1708.01682>`_, 2017.
  """
  row, column = labelled_rows(
    lax.stop_gradient(embeddings), labels, normalize=normalize, axis_name=axis_name
  )
  column = gather(column, axis_name)
  d = squared_euclidean(row["z"], column["z"])
  positive, negative = positives(row, column) > 0, negatives(row, column) > 0
  narrow = math.tan(math.radians(angle)) ** 2

  def of_positive(z, near, is_positive):
    """Triplets with one column as the positive, ``[batch, total]`` bool."""
    # The median of a triangle from its sides.
    to_center = d / 2 + squared_euclidean(z[None], column["z"]) / 2 - near[:, None] / 4
    return is_positive[:, None] & negative & (near[:, None] > 4 * narrow * to_center)

  def count(start, pair):
    triplets = of_positive(*pair)
    return start + triplets, jnp.sum(triplets, 1)

  start = 0 * negative.astype(jnp.int32)
  of_negatives, of_positives = lax.scan(count, start, (column["z"], d.T, positive.T))
  return (of_negatives + of_positives.T).astype(d.dtype)


def multi_similarity_pairs(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  epsilon: float = 0.1,
  distance: Distance = cosine_distance,
  normalize: bool = False,
  axis_name: str | None = None,
) -> jax.Array:
  """Positives farther than the nearest negative, negatives nearer than the farthest positive.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    epsilon: by which a pair may miss that.
    distance: of rows to columns, smaller for what is closer; the paper's is the cosine.
    normalize: scale embeddings to unit length before.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    ``[batch, total]`` bool; none of an anchor without positives or without negatives.

  References:
    Wang et al., `Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning
    <https://arxiv.org/abs/1904.06627>`_, 2019.
  """
  d, positive, negative = _stopped_pairs(embeddings, labels, distance, normalize, axis_name)
  nearest = jnp.min(jnp.where(negative, d, jnp.inf), 1, keepdims=True)
  farthest = jnp.max(jnp.where(positive, d, -jnp.inf), 1, keepdims=True)
  return (positive & (d + epsilon > nearest)) | (negative & (d - epsilon < farthest))


def margin_pairs(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  positive_margin: float = 0.2,
  negative_margin: float = 0.8,
  distance: Distance = euclidean,
  normalize: bool = True,
  axis_name: str | None = None,
) -> jax.Array:
  """Positives that are farther than one margin, negatives that are nearer than another.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    positive_margin: up to which positives are near enough.
    negative_margin: from which on negatives are far enough.
    distance: of rows to columns, smaller for what is closer.
    normalize: scale embeddings to unit length before.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    ``[batch, total]`` bool.

  References:
    Musgrave et al., `PyTorch Metric Learning <https://arxiv.org/abs/2008.09164>`_, 2020.
  """
  d, positive, negative = _stopped_pairs(embeddings, labels, distance, normalize, axis_name)
  return (positive & (d > positive_margin)) | (negative & (d < negative_margin))


def distance_weighted(
  key: jax.Array,
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  cutoff: float = 0.5,
  farthest: float = 1.4,
  axis_name: str | None = None,
) -> jax.Array:
  r"""A negative for each positive, drawn so that all distances are equally likely.

  Points that are uniform on a sphere have distances of density

  .. math:: q(d) \propto d^{\,k - 2} \bigl(1 - \tfrac{1}{4} d^2\bigr)^{(k - 3) / 2}

  in ``dim`` :math:`k`; a negative is drawn with a probability proportional to
  :math:`1 / q(\max(d, \lambda))`. Like the authors' code, negatives that are too far to have a
  loss are not drawn.

  Args:
    key: of the draws; the same on all shards.
    embeddings: ``[batch, dim]``; normalised inside.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    cutoff: :math:`\lambda`, below which distances count as this one.
    farthest: distance from which on negatives are not drawn.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    ``[batch, total]`` float32: 1 for positives, and how often a negative was drawn. Nothing for an
    anchor that has no negative to draw.

  References:
    Wu et al., `Sampling Matters in Deep Embedding Learning
    <https://arxiv.org/abs/1706.07567>`_, 2017, section 4.
  """
  d, positive, negative = _stopped_pairs(embeddings, labels, euclidean, True, axis_name)
  negative &= d < min(farthest, 2)
  dim = jnp.shape(embeddings)[1]
  clipped = jnp.where(negative, jnp.maximum(d, cutoff), 1)
  log_density = (dim - 2) * jnp.log(clipped) + (dim - 3) / 2 * jnp.log1p(-(clipped**2) / 4)
  inverse = jnp.where(negative, -log_density, -jnp.inf)
  some = jnp.any(negative, 1, keepdims=True)
  peak = jnp.where(some, jnp.max(inverse, 1, keepdims=True), 0)
  heights = jnp.cumsum(jnp.exp(inverse - peak), 1)
  # A key a row, so that a row draws the same on any layout.
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(row_index(len(d), axis_name))
  levels = jax.vmap(lambda k: jax.random.uniform(k, d.shape[1:], d.dtype))(keys)
  search = jax.vmap(lambda x, t: jnp.searchsorted(x, t, side="right", method="sort"))
  drawn = jnp.minimum(search(heights, levels * heights[:, -1:]), d.shape[1] - 1)
  positive &= some
  draws = jax.vmap(lambda i, x: jnp.zeros_like(x).at[i].add(x))(drawn, positive.astype(d.dtype))
  return positive + draws


def _stopped_pairs(embeddings, labels, distance, normalize, axis_name):
  """Distances without gradient, and masks of the positives and of the negatives among them."""
  d, positive, negative = labelled_pairs(
    lax.stop_gradient(embeddings),
    labels,
    distance=distance,
    normalize=normalize,
    axis_name=axis_name,
  )
  return d, positive > 0, negative > 0


def _nearest(d, count) -> jax.Array:
  """Marks the smallest of a row's entries that count."""
  first = jnp.argmin(jnp.where(count, d, jnp.inf), 1)
  return count & (first[:, None] == jnp.arange(d.shape[1])[None, :])
