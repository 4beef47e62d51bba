"""Losses that set a positive against all negatives at once, by log-sum-exp."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, safe_sqrt
from repjax.losses.distances import Distance, cosine_similarity, euclidean, squared_euclidean
from repjax.losses.labelled import labelled_rows, log_weighted, negatives, positives, ratio
from repjax.losses.layout import row_index
from repjax.losses.pairs import PairSums, pair_sums


def n_pairs(
  anchor: jax.Array,
  positive: jax.Array,
  labels: jax.Array | None = None,
  *,
  l2: float = 0.0,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""N pairs of N classes: each anchor against the positives of all other pairs.

  .. math::
    \ell_i = \log \Bigl(1 + \sum_{j \neq i} \exp(\langle a_i, p_j\rangle - \langle a_i, p_i\rangle)
      \Bigr) + \lambda (\lVert a_i\rVert^2 + \lVert p_i\rVert^2)

  Products of embeddings that are not normalised. The paper draws one pair of each class; with
  ``labels`` other pairs of an anchor's class are no negatives. The mean is that of
  pytorch-metric-learning (with ``normalize_embeddings=False``).

  Args:
    anchor: ``[batch, dim]``.
    positive: row-aligned with ``anchor``, ``[batch, dim]``.
    labels: integer classes, ``[batch]``, all different if absent; -1 leaves a pair out.
    l2: weight of the squared lengths, which the paper penalises instead of normalising.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per pair, ``[batch]`` float32, >= 0; 0 for pairs that are left out.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Sohn, `Improved Deep Metric Learning with Multi-class N-pair Loss Objective
    <https://papers.nips.cc/paper/6200-improved-deep-metric-learning-with-multi-class-n-pair-loss-objective>`_,
    2016, section 3.
  """
  check_same_shape(2, anchor=anchor, positive=positive)
  if labels is None:
    labels = row_index(len(anchor), axis_name)
  rows, _ = labelled_rows(anchor, labels, where=where, axis_name=axis_name)
  columns = rows | {"z": at_least_float32(positive)}
  terms = functools.partial(_products, precision=precision)
  others = pair_sums(terms, rows, columns, tile_size=tile_size, axis_name=axis_name).log_sums[0]
  loss = _softplus(others, jnp.sum(rows["z"] * columns["z"], -1))
  loss += l2 * sum(jnp.sum(x["z"] * x["z"], -1) for x in (rows, columns))
  return jnp.where(rows["label"] >= 0, loss, 0)


def tuplet_margin(
  embeddings: jax.Array,
  labels: jax.Array,
  weights: jax.Array | None = None,
  *,
  margin: float = 0.1,
  scale: float | jax.Array = 64.0,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Each positive against all negatives of its anchor, at an angle that is made smaller for it.

  .. math::
    \ell_a = \frac{1}{|P_a|} \sum_{p \in P_a} \log \Bigl(1 + \sum_{n \in N_a}
      \exp\bigl(s (\cos \theta_{an} - \cos(\theta_{ap} - \beta))\bigr)\Bigr)

  A positive margin forgives: it keeps hard positives from dominating. pytorch-metric-learning
  gives it in degrees, 5.73, and averages over all positive pairs of the batch.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    weights: of pairs, ``[batch, total]``, such as a miner's; all 1 if absent. Those of negatives
      multiply their exponentials.
    margin: :math:`\beta`, in radians.
    scale: of the cosines, > 0.
    where: ``[batch]`` bool, rows that take part; all if absent.
    tile_size: edge of the tiles in which cosines are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per anchor, ``[batch]`` float32, >= 0; 0 where it has no positive or no negative.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Yu and Tao, `Deep Metric Learning with Tuplet Margin Loss
    <https://openaccess.thecvf.com/content_ICCV_2019/html/Yu_Deep_Metric_Learning_With_Tuplet_Margin_Loss_ICCV_2019_paper.html>`_,
    2019.
  """
  rows, columns = labelled_rows(embeddings, labels, weights, where=where, axis_name=axis_name)
  shared = {"scale": jnp.asarray(scale, rows["z"].dtype)}
  options = {"tile_size": tile_size, "axis_name": axis_name}
  terms = functools.partial(_other_cosines, precision=precision)
  rows = rows | {"others": pair_sums(terms, rows, columns, shared, **options).log_sums[0]}
  terms = functools.partial(_against_others, margin=margin, precision=precision)
  total, count = pair_sums(terms, rows, columns, shared, **options).sums
  return ratio(total, count)


def lifted_structure(
  embeddings: jax.Array,
  labels: jax.Array,
  weights: jax.Array | None = None,
  *,
  margin: float = 1.0,
  distance: Distance = euclidean,
  normalize: bool = False,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Each positive pair against all negatives of both of its members.

  .. math::
    \ell_i = \frac{1}{2 |P_i|} \sum_{j \in P_i} \Bigl[d_{ij} + \log \Bigl(
      \sum_{k \in N_i} e^{m - d_{ik}} + \sum_{l \in N_j} e^{m - d_{jl}} \Bigr)\Bigr]_+^2

  The paper and pytorch-metric-learning (which normalises) average over all positive pairs of the
  batch.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    weights: of pairs, ``[batch, total]``, such as a miner's; all 1 if absent. Those of negatives
      multiply their exponentials.
    margin: up to which negatives are pushed.
    distance: of rows to columns, smaller for what is closer.
    normalize: scale embeddings to unit length before.
    where: ``[batch]`` bool, rows that take part; all if absent.
    tile_size: edge of the tiles in which distances are formed, 0 for one matrix; by size if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per row, ``[batch]`` float32, >= 0; 0 where it has no positive, or neither it nor its
    positives have a negative.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Song et al., `Deep Metric Learning via Lifted Structured Feature Embedding
    <https://arxiv.org/abs/1511.06452>`_, 2015.
  """
  rows, columns = labelled_rows(
    embeddings, labels, weights, normalize=normalize, where=where, axis_name=axis_name
  )
  options = {"tile_size": tile_size, "axis_name": axis_name}
  terms = functools.partial(_near_negatives, distance=distance, margin=margin)
  others = pair_sums(terms, rows, columns, **options).log_sums[0]
  # A row without negatives adds exp(-inf) to the other's; -inf itself has no gradient to give.
  others = {"some": jnp.isfinite(others), "others": jnp.where(jnp.isfinite(others), others, 0)}
  terms = functools.partial(_lifted, distance=distance)
  total, count = pair_sums(terms, rows | others, columns | others, **options).sums
  return ratio(total, count)


def generalized_lifted_structure(
  embeddings: jax.Array,
  labels: jax.Array,
  weights: jax.Array | None = None,
  *,
  positive_margin: float = 0.0,
  negative_margin: float = 1.0,
  distance: Distance = euclidean,
  normalize: bool = False,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""All positives of an anchor against all its negatives.

  .. math::
    \ell_a = \Bigl[\log \sum_{p \in P_a} e^{d_{ap} - m_+} + \log \sum_{n \in N_a} e^{m_- - d_{an}}
      \Bigr]_+

  The paper sums over anchors and has :math:`m_+ = 0`; pytorch-metric-learning normalises, and
  takes the mean.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    weights: of pairs, ``[batch, total]``, such as a miner's; all 1 if absent. They multiply the
      exponentials.
    positive_margin: subtracted from the distances of positives.
    negative_margin: up to which negatives are pushed.
    distance: of rows to columns, smaller for what is closer.
    normalize: scale embeddings to unit length before.
    where: ``[batch]`` bool, rows that take part; all if absent.
    tile_size: edge of the tiles in which distances are formed, 0 for one matrix; by size if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per anchor, ``[batch]`` float32, >= 0; 0 where it has no positive or no negative.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Hermans et al., `In Defense of the Triplet Loss for Person Re-Identification
    <https://arxiv.org/abs/1703.07737>`_, 2017, section 2 (generalized lifted embedding).
  """
  rows, columns = labelled_rows(
    embeddings, labels, weights, normalize=normalize, where=where, axis_name=axis_name
  )
  terms = functools.partial(
    _far_and_near, distance=distance, margins=(positive_margin, negative_margin)
  )
  sums = pair_sums(terms, rows, columns, tile_size=tile_size, axis_name=axis_name).log_sums
  some = jnp.isfinite(sums[0]) & jnp.isfinite(sums[1])
  far, near = (jnp.where(some, x, 0) for x in sums)
  return jnp.where(some, jnp.maximum(far + near, 0), 0)


def nca(
  embeddings: jax.Array,
  labels: jax.Array,
  weights: jax.Array | None = None,
  *,
  scale: float | jax.Array = 1.0,
  distance: Distance = squared_euclidean,
  normalize: bool = False,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Neighbourhood components: a neighbour drawn at random, near ones first, is to be of the class.

  .. math::
    \ell_i = -\log \frac{\sum_{p \in P_i} \exp(-s\, d_{ip})}
      {\sum_{j \neq i} \exp(-s\, d_{ij})}

  The logarithm of the paper's probability of a correct class, the second of its two objectives.
  pytorch-metric-learning normalises embeddings, and leaves rows without positives out of the mean.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    weights: of pairs, ``[batch, total]``, such as a miner's; all 1 if absent. They multiply the
      exponentials.
    scale: of the distances, > 0.
    distance: of rows to columns, smaller for what is closer.
    normalize: scale embeddings to unit length before.
    where: ``[batch]`` bool, rows that take part; all if absent.
    tile_size: edge of the tiles in which distances are formed, 0 for one matrix; by size if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per row, ``[batch]`` float32, >= 0; 0 where it has no positive.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Goldberger et al., `Neighbourhood Components Analysis
    <https://papers.nips.cc/paper/2566-neighbourhood-components-analysis>`_, 2004.
  """
  rows, columns = labelled_rows(
    embeddings, labels, weights, normalize=normalize, where=where, axis_name=axis_name
  )
  shared = {"scale": jnp.asarray(scale, rows["z"].dtype)}
  terms = functools.partial(_neighbours, distance=distance)
  options = {"tile_size": tile_size, "axis_name": axis_name}
  own, other = pair_sums(terms, rows, columns, shared, **options).log_sums
  some = jnp.isfinite(own)
  return jnp.where(some, _softplus(other, jnp.where(some, own, 0)), 0)


def _softplus(others, own) -> jax.Array:
  """log(1 + exp(others - own)), without gradient where others are -inf."""
  some = jnp.isfinite(others)
  return jnp.where(some, jax.nn.softplus(jnp.where(some, others, 0) - own), 0)


def _products(row, column, shared, precision) -> PairSums:
  del shared
  logits = jnp.matmul(row["z"], column["z"].T, precision=precision)
  return PairSums((log_weighted(logits, negatives(row, column)),))


def _other_cosines(row, column, shared, precision) -> PairSums:
  cosine = cosine_similarity(row["z"], column["z"], precision=precision)
  return PairSums((log_weighted(shared["scale"] * cosine, negatives(row, column)),))


def _against_others(row, column, shared, margin, precision) -> PairSums:
  cosine = cosine_similarity(row["z"], column["z"], precision=precision)
  square = 1 - cosine * cosine
  # The angle of equal directions is that of rounding; below it the sine has no gradient.
  sine = safe_sqrt(jnp.where(square > 8 * jnp.finfo(square.dtype).eps, square, 0))
  own = shared["scale"] * (math.cos(margin) * cosine + math.sin(margin) * sine)
  positive = positives(row, column)
  return PairSums(sums=(positive * _softplus(row["others"][:, None], own), positive))


def _near_negatives(row, column, shared, distance, margin) -> PairSums:
  del shared
  d = distance(row["z"], column["z"])
  return PairSums((log_weighted(margin - d, negatives(row, column)),))


def _lifted(row, column, shared, distance) -> PairSums:
  del shared
  d = distance(row["z"], column["z"])
  some_row, some_column = row["some"][:, None], column["some"][None, :]
  a, b = row["others"][:, None], column["others"][None, :]
  both = jnp.logaddexp(a, b)
  others = jnp.where(some_row & some_column, both, jnp.where(some_row, a, b))
  loss = jnp.where(some_row | some_column, jnp.maximum(d + others, 0) ** 2 / 2, 0)
  positive = positives(row, column)
  return PairSums(sums=(positive * loss, positive))


def _far_and_near(row, column, shared, distance, margins) -> PairSums:
  del shared
  d = distance(row["z"], column["z"])
  return PairSums(
    (
      log_weighted(d - margins[0], positives(row, column)),
      log_weighted(margins[1] - d, negatives(row, column)),
    )
  )


def _neighbours(row, column, shared, distance) -> PairSums:
  logits = -shared["scale"] * distance(row["z"], column["z"])
  return PairSums(
    (
      log_weighted(logits, positives(row, column)),
      log_weighted(logits, negatives(row, column)),
    )
  )
