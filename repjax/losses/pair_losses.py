"""Losses of single pairs: near if of one class, far if not, as far as margins ask."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize
from repjax.losses.distances import (
  Distance,
  cosine_similarity,
  euclidean,
  row_aligned,
  snr_distance,
)
from repjax.losses.labelled import labelled_rows, negatives, positives, ratio
from repjax.losses.layout import batch_sum
from repjax.losses.pairs import PairSums, pair_sums


def contrastive_pairs(
  z_1: jax.Array,
  z_2: jax.Array,
  same: jax.Array,
  *,
  positive_margin: float = 0.0,
  negative_margin: float = 1.0,
  power: int = 2,
  distance: Distance = euclidean,
  normalize: bool = False,
) -> jax.Array:
  r"""Given pairs that are to be near or far, row by row.

  .. math::
    \ell_i = \tfrac{1}{q} \begin{cases} [d_i - m_+]_+^q & \text{if the same} \\
      [m_- - d_i]_+^q & \text{otherwise} \end{cases}

  The paper has :math:`q = 2` and :math:`m_+ = 0`. With the cosine distance and a margin of 0.5 it
  is the ContrastiveLoss of sentence-transformers.

  Args:
    z_1: ``[batch, dim]``.
    z_2: row-aligned with ``z_1``, ``[batch, dim]``.
    same: whether the two belong together, ``[batch]`` bool.
    positive_margin: up to which those that do are near enough.
    negative_margin: from which on the others are far enough.
    power: of the violation.
    distance: of rows to columns, smaller for what is closer.
    normalize: scale all vectors to unit length before.

  Returns:
    Loss per pair, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Hadsell et al., `Dimensionality Reduction by Learning an Invariant Mapping
    <https://doi.org/10.1109/CVPR.2006.100>`_, 2006.
  """
  check_same_shape(2, z_1=z_1, z_2=z_2)
  check_same_shape(1, same=same, rows=z_1[:, 0])
  z_1, z_2 = at_least_float32(z_1), at_least_float32(z_2)
  if normalize:
    z_1, z_2 = l2_normalize(z_1), l2_normalize(z_2)
  d = row_aligned(distance, z_1, z_2)
  return _beyond(jnp.where(same, d - positive_margin, negative_margin - d), power)


def contrastive_margin(
  embeddings: jax.Array,
  labels: jax.Array,
  weights: jax.Array | None = None,
  *,
  positive_margin: float = 0.0,
  negative_margin: float = 1.0,
  power: int = 2,
  distance: Distance = euclidean,
  normalize: bool = False,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""`contrastive_pairs` over all pairs of a batch, of which those of one class belong together.

  .. math::
    \ell_i = \frac{1}{|P_i|} \sum_{p \in P_i} \tfrac{1}{q} [d_{ip} - m_+]_+^q
      + \frac{1}{|N_i|} \sum_{n \in N_i} \tfrac{1}{q} [m_- - d_{in}]_+^q

  Positives and negatives count alike, however many they are, as in pytorch-metric-learning; there
  :math:`q = 1`, embeddings are normalised and the means run over the whole batch, by default over
  the pairs that are not 0.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    weights: of pairs, ``[batch, total]``, such as a miner's; all 1 if absent.
    positive_margin: up to which pairs of one class are near enough.
    negative_margin: from which on other pairs are far enough.
    power: of the violation; the paper's 2 or pytorch-metric-learning's 1.
    distance: of rows to columns, smaller for what is closer.
    normalize: scale embeddings to unit length before.
    where: ``[batch]`` bool, rows that take part; all if absent.
    tile_size: edge of the tiles in which distances are formed, 0 for one matrix; by size if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per row, ``[batch]`` float32, >= 0; 0 where it has no pair.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Hadsell et al., `Dimensionality Reduction by Learning an Invariant Mapping
    <https://doi.org/10.1109/CVPR.2006.100>`_, 2006.
  """
  rows, columns = labelled_rows(
    embeddings, labels, weights, normalize=normalize, where=where, axis_name=axis_name
  )
  margins = positive_margin, negative_margin
  return _margin_pairs(rows, columns, margins, power, distance, tile_size, axis_name)


def margin_loss(
  embeddings: jax.Array,
  labels: jax.Array,
  beta: float | jax.Array = 1.2,
  weights: jax.Array | None = None,
  *,
  margin: float = 0.2,
  nu: float = 0.0,
  distance: Distance = euclidean,
  normalize: bool = True,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Pairs on the right side of a boundary that is learned.

  .. math::
    \ell_i = \frac{1}{|P_i|} \sum_{p \in P_i} [\alpha + d_{ip} - \beta_{y_i}]_+
      + \frac{1}{|N_i|} \sum_{n \in N_i} [\alpha + \beta_{y_i} - d_{in}]_+ + \nu \beta_{y_i}

  The paper draws a negative for each positive by distance (`miners.distance_weighted`, whose
  result goes in as ``weights``). pytorch-metric-learning divides by the number of pairs of the
  batch that are not 0. Of the paper's boundaries that of single images is left out.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    beta: the boundary, a number or one per class, ``[classes]``; has a gradient.
    weights: of pairs, ``[batch, total]``, such as a miner's; all 1 if absent.
    margin: by which pairs have to keep off the boundary.
    nu: weight of the boundary itself; larger, fewer pairs of one class are let off.
    distance: of rows to columns, smaller for what is closer.
    normalize: scale embeddings to unit length before, as in the paper.
    where: ``[batch]`` bool, rows that take part; all if absent.
    tile_size: edge of the tiles in which distances are formed, 0 for one matrix; by size if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per row, ``[batch]`` float32; without ``nu`` >= 0, and 0 where a row has no pair.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Wu et al., `Sampling Matters in Deep Embedding Learning
    <https://arxiv.org/abs/1706.07567>`_, 2017, section 4.
  """
  if jnp.ndim(beta) > 1:
    raise ValueError(f"expected beta of shape () or [classes], got {jnp.shape(beta)}")
  rows, columns = labelled_rows(
    embeddings, labels, weights, normalize=normalize, where=where, axis_name=axis_name
  )
  beta = at_least_float32(beta)
  of_row = beta[jnp.maximum(rows["label"], 0)] if beta.ndim else beta
  margins = of_row - margin, of_row + margin
  loss = _margin_pairs(rows, columns, margins, 1, distance, tile_size, axis_name)
  return loss + jnp.where(rows["label"] >= 0, nu * of_row, 0)


def snr_contrastive(
  embeddings: jax.Array,
  labels: jax.Array,
  weights: jax.Array | None = None,
  *,
  positive_margin: float = 0.0,
  negative_margin: float = 1.0,
  zero_mean: float = 0.0,
  normalize: bool = False,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""`contrastive_margin` of power 1 over `snr_distance`, for embeddings of mean zero.

  .. math::
    \ell_i = \frac{1}{|P_i|} \sum_{p \in P_i} [d_{ip} - m_+]_+
      + \frac{1}{|N_i|} \sum_{n \in N_i} [m_- - d_{in}]_+
      + \lambda \Bigl\lvert \sum_k x_{ik} \Bigr\rvert

  pytorch-metric-learning normalises embeddings, and has the last term as ``ZeroMeanRegularizer``.

  Args:
    embeddings: ``[batch, dim]``.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    weights: of pairs, ``[batch, total]``, such as a miner's; all 1 if absent.
    positive_margin: up to which pairs of one class are near enough.
    negative_margin: from which on other pairs are far enough.
    zero_mean: :math:`\lambda`.
    normalize: scale embeddings to unit length before.
    where: ``[batch]`` bool, rows that take part; all if absent.
    tile_size: edge of the tiles in which distances are formed, 0 for one matrix; by size if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per row, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Yuan et al., `Signal-to-Noise Ratio: A Robust Distance Metric for Deep Metric Learning
    <https://arxiv.org/abs/1904.02616>`_, 2019.
  """
  rows, columns = labelled_rows(
    embeddings, labels, weights, normalize=normalize, where=where, axis_name=axis_name
  )
  margins = positive_margin, negative_margin
  loss = _margin_pairs(rows, columns, margins, 1, snr_distance, tile_size, axis_name)
  mean = jnp.sum(rows["z"], -1)
  return loss + jnp.where(rows["label"] >= 0, zero_mean * mean * jnp.sign(mean), 0)


def intra_pair_variance(
  embeddings: jax.Array,
  labels: jax.Array,
  weights: jax.Array | None = None,
  *,
  positive_epsilon: float = 0.01,
  negative_epsilon: float = 0.01,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Pairs of one kind are to be equally similar, in the direction that helps.

  .. math::
    \ell = \operatorname{E}_P\bigl[(1 - \epsilon_+) \operatorname{E}_P[c] - c\bigr]_+^2
      + \operatorname{E}_N\bigl[c - (1 + \epsilon_-) \operatorname{E}_N[c]\bigr]_+^2

  with :math:`c` the cosines, and means over the positive and the negative pairs of the whole batch.
  Goes with `tuplet.tuplet_margin`. Gradients flow through the means, as in
  pytorch-metric-learning.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: integer classes, ``[batch]``; -1 leaves a row out.
    weights: of pairs, ``[batch, total]``, such as a miner's; all 1 if absent.
    positive_epsilon: share of their mean by which positives may fall below it.
    negative_epsilon: share of their mean by which negatives may rise above it.
    where: ``[batch]`` bool, rows that take part; all if absent.
    tile_size: edge of the tiles in which cosines are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Scalar float32, >= 0; 0 where the batch has no pair.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Yu and Tao, `Deep Metric Learning with Tuplet Margin Loss
    <https://openaccess.thecvf.com/content_ICCV_2019/html/Yu_Deep_Metric_Learning_With_Tuplet_Margin_Loss_ICCV_2019_paper.html>`_,
    2019.
  """
  rows, columns = labelled_rows(embeddings, labels, weights, where=where, axis_name=axis_name)

  def over_batch(terms, shared=()):
    terms = functools.partial(terms, precision=precision)
    options = {"tile_size": tile_size, "axis_name": axis_name}
    sums = pair_sums(terms, rows, columns, shared, **options).sums
    return batch_sum(jax.tree.map(jnp.sum, sums), axis_name)

  near, near_count, far, far_count = over_batch(_cosines)
  least = (1 - positive_epsilon) * ratio(near, near_count)
  most = (1 + negative_epsilon) * ratio(far, far_count)
  low, high = over_batch(_spread, {"least": least, "most": most})
  return ratio(low, near_count) + ratio(high, far_count)


def instance_loss(
  z_1: jax.Array,
  z_2: jax.Array,
  labels: jax.Array,
  class_weights: jax.Array,
  *,
  scale: float | jax.Array = 1.0,
  normalize: bool = False,
  precision: lax.PrecisionLike = "highest",
) -> jax.Array:
  r"""Both members of a pair, such as image and text, find their instance with the same classifier.

  .. math::
    \ell_i = -\log \operatorname{softmax}(s W x_i)_{y_i}
      - \log \operatorname{softmax}(s W x'_i)_{y_i}

  Each instance is a class of its own, and the shared :math:`W` ties the two spaces together.
  (pytorch-metric-learning's InstanceLoss has no such weights: it looks up embeddings of the batch.)

  Args:
    z_1: of one modality, ``[batch, dim]``.
    z_2: of the other, row-aligned with ``z_1``, ``[batch, dim]``.
    labels: instances, ``[batch]``; -1 leaves a row out.
    class_weights: ``[classes, dim]``.
    scale: of the logits.
    normalize: compare cosines instead of products.
    precision: of the products; ``"highest"`` is float32.

  Returns:
    Loss per pair, ``[batch]`` float32, >= 0; 0 where the label is -1.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Zheng et al., `Dual-Path Convolutional Image-Text Embeddings with Instance Loss
    <https://arxiv.org/abs/1711.05535>`_, 2017.
  """
  check_same_shape(2, z_1=z_1, z_2=z_2)
  if jnp.shape(class_weights)[1:] != jnp.shape(z_1)[1:]:
    shapes = {"z_1": jnp.shape(z_1), "class_weights": jnp.shape(class_weights)}
    raise ValueError(f"expected class_weights [classes, dim], got {shapes}")
  arrays = [at_least_float32(x) for x in (z_1, z_2, class_weights)]
  z_1, z_2, class_weights = map(l2_normalize, arrays) if normalize else arrays
  loss = jnp.zeros(len(z_1), z_1.dtype)
  for z in (z_1, z_2):
    logits = scale * jnp.matmul(z, class_weights.T, precision=precision)
    own = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[:, None], 1)[:, 0]
    loss += jax.nn.logsumexp(logits, 1) - own
  return jnp.where(labels >= 0, loss, 0)


def _beyond(violation, power) -> jax.Array:
  return jnp.maximum(violation, 0) ** power / power


def _margin_pairs(rows, columns, margins, power, distance, tile_size, axis_name) -> jax.Array:
  near, far = (jnp.broadcast_to(x, rows["label"].shape).astype(rows["z"].dtype) for x in margins)
  terms = functools.partial(_violations, power=power, distance=distance)
  rows = rows | {"near": near, "far": far}
  sums = pair_sums(terms, rows, columns, tile_size=tile_size, axis_name=axis_name).sums
  return ratio(sums[0], sums[1]) + ratio(sums[2], sums[3])


def _violations(row, column, shared, power, distance) -> PairSums:
  del shared
  d = distance(row["z"], column["z"])
  positive, negative = positives(row, column), negatives(row, column)
  too_far = _beyond(d - row["near"][:, None], power)
  too_near = _beyond(row["far"][:, None] - d, power)
  return PairSums(sums=(positive * too_far, positive, negative * too_near, negative))


def _cosines(row, column, shared, precision) -> PairSums:
  del shared
  cosine = cosine_similarity(row["z"], column["z"], precision=precision)
  positive, negative = positives(row, column), negatives(row, column)
  return PairSums(sums=(positive * cosine, positive, negative * cosine, negative))


def _spread(row, column, shared, precision) -> PairSums:
  cosine = cosine_similarity(row["z"], column["z"], precision=precision)
  low = jnp.maximum(shared["least"] - cosine, 0) ** 2
  high = jnp.maximum(cosine - shared["most"], 0) ** 2
  return PairSums(sums=(positives(row, column) * low, negatives(row, column) * high))
