"""Losses over labelled pairs in which a pair weighs more the harder it is."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import safe_sqrt
from repjax.losses.labelled import labelled_rows, positives_and_negatives
from repjax.losses.layout import gather
from repjax.losses.pairs import PairSums, pair_sums


def multi_similarity(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  alpha: float = 2.0,
  beta: float = 50.0,
  base: float = 0.5,
  mining_margin: float | None = None,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Multi-similarity loss: a pair weighs by its own similarity and by those of its rivals.

  With :math:`s_{ij}` the cosine, :math:`P_i` the others of class :math:`y_i` and :math:`N_i` the
  examples of other classes,

  .. math::
    \ell_i = \frac{1}{\alpha} \log\Bigl(1 + \sum_{p \in P_i} e^{-\alpha (s_{ip} - \lambda)}\Bigr)
      + \frac{1}{\beta} \log\Bigl(1 + \sum_{n \in N_i} e^{\beta (s_{in} - \lambda)}\Bigr)

  The mean over the batch is that of pytorch-metric-learning, whose default numbers we take; the
  paper has :math:`\lambda = 1`. A ``mining_margin`` :math:`\epsilon` is the paper's mining: of the
  negatives only those above :math:`\min_p s_{ip} - \epsilon`, of the positives only those below
  :math:`\max_n s_{in} + \epsilon` remain.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: class of each, ``[batch]`` integers; -1 for rows that are to be left out.
    alpha: scale of positive pairs, > 0.
    beta: scale of negative pairs, > 0.
    base: similarity :math:`\lambda` at which both kinds turn.
    mining_margin: width of the band of hard pairs that remain, 0.1 in the paper; all if absent.
    where: ``[batch]`` bool, rows that take part; all if absent.
    tile_size: edge of the tiles in which pairs are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per anchor, ``[batch]`` float32, >= 0; 0 where left out.

  Raises:
    ValueError: if there is not one label for every embedding.

  References:
    Wang et al., `Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning
    <https://arxiv.org/abs/1904.06627>`_, 2019, section 4.
  """
  rows, columns = labelled_rows(
    embeddings, labels, normalize=True, where=where, axis_name=axis_name
  )
  mines = mining_margin is not None
  if mines:
    rows = rows | _thresholds(rows, mining_margin, tile_size, precision, axis_name)
  terms = functools.partial(
    _multi_similarities, alpha=alpha, beta=beta, base=base, precision=precision
  )
  options = {"tile_size": tile_size, "axis_name": axis_name}
  sums = pair_sums(terms, rows, columns, symmetric=not mines, **options)
  positive, negative = map(jax.nn.softplus, sums.log_sums)
  return positive / alpha + negative / beta


def circle(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  margin: float = 0.4,
  gamma: float = 80.0,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Circle loss: each similarity is pulled to its optimum in proportion to its distance from it.

  With :math:`s_{ij}` the cosine, :math:`P_i` the others of class :math:`y_i`, :math:`N_i` the
  examples of other classes, m the margin, and
  :math:`a_{ip} = [1 + m - s_{ip}]_+`, :math:`a_{in} = [s_{in} + m]_+` weights through which no
  gradient flows,

  .. math::
    \ell_i = \log\Bigl(1 + \sum_{n \in N_i} e^{\gamma a_{in} (s_{in} - m)}
      \sum_{p \in P_i} e^{-\gamma a_{ip} (s_{ip} - 1 + m)}\Bigr)

  The mean over the batch is that of pytorch-metric-learning with a ``MeanReducer``; its default
  leaves out anchors whose loss is 0. The paper takes m = 0.4 and :math:`\gamma` = 80 for retrieval,
  0.25 and 256 for faces.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: class of each, ``[batch]`` integers; -1 for rows that are to be left out.
    margin: how far from their optima, 1 and 0, similarities may stay.
    gamma: scale of the logits, > 0.
    where: ``[batch]`` bool, rows that take part; all if absent.
    tile_size: edge of the tiles in which pairs are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per anchor, ``[batch]`` float32, >= 0; 0 where left out and without a positive or a
    negative.

  Raises:
    ValueError: if there is not one label for every embedding.

  References:
    Sun et al., `Circle Loss: A Unified Perspective of Pair Similarity Optimization
    <https://arxiv.org/abs/2002.10857>`_, 2020, section 3.
  """
  rows, _ = labelled_rows(embeddings, labels, normalize=True, where=where, axis_name=axis_name)
  terms = functools.partial(_circles, margin=margin, gamma=gamma, precision=precision)
  sums = pair_sums(terms, rows, rows, symmetric=True, tile_size=tile_size, axis_name=axis_name)
  return jax.nn.softplus(sums.log_sums[0] + sums.log_sums[1])


def angular(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  alpha: float = 40.0,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Angular loss: the angle at a negative, in the triangle with a positive pair, stays small.

  With unit vectors :math:`z`, :math:`t = \tan \alpha`, :math:`P_i` the others of class
  :math:`y_i` and :math:`N_i` the examples of other classes,

  .. math::
    \ell_i = \frac{1}{|P_i|} \sum_{p \in P_i} \log\Bigl(1 + \sum_{n \in N_i}
      \exp\bigl(4 t^2 \langle z_i + z_p, z_n\rangle - 2 (1 + t^2) \langle z_i, z_p\rangle\bigr)
      \Bigr)

  The sum over negatives is a product of two matrices, so that triplets are never formed.
  pytorch-metric-learning takes the mean over all positive pairs, which is the mean over the batch
  where classes are of one size, and does not normalise negatives; we do.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: class of each, ``[batch]`` integers; -1 for rows that are to be left out.
    alpha: upper bound of the angle in degrees, > 0 and at most 70; 36 to 55 in the paper.
    where: ``[batch]`` bool, rows that take part; all if absent.
    tile_size: edge of the tiles in which positive pairs are formed, 0 for one matrix; by size if
      absent. One matrix of all products is formed in any case.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per anchor, ``[batch]`` float32, >= 0; 0 where left out and without a positive or a
    negative.

  Raises:
    ValueError: if there is not one label for every embedding, or ``alpha`` is out of range.

  References:
    Wang et al., `Deep Metric Learning with Angular Loss <https://arxiv.org/abs/1708.01682>`_,
    2017.
  """
  if not 0 < alpha <= 70:
    # The sums over negatives may come down to exp(-8 t^2), which float32 holds up to 73 degrees.
    raise ValueError(f"alpha={alpha} degrees is out of range; give an angle in (0, 70]")
  rows, _ = labelled_rows(embeddings, labels, normalize=True, where=where, axis_name=axis_name)
  square = math.tan(math.radians(alpha)) ** 2
  columns = gather(rows, axis_name)
  logits = 4 * square * jnp.matmul(rows["z"], columns["z"].T, precision=precision)
  _, negative = positives_and_negatives(rows, columns)
  peak = lax.stop_gradient(jnp.max(jnp.where(negative, logits, -jnp.inf), 1))
  peak = jnp.where(jnp.isfinite(peak), peak, 0)
  # Two examples of one class have the same negatives: where one has a 0, so has the other.
  to_negatives = jnp.exp(jnp.where(negative, logits - peak[:, None], -jnp.inf))
  rows = rows | {"peak": peak, "to_negatives": to_negatives}
  terms = functools.partial(_angles, square=square, precision=precision)
  sums = pair_sums(terms, rows, rows, symmetric=True, tile_size=tile_size, axis_name=axis_name)
  total, count = sums.sums
  return total / jnp.maximum(count, 1)


def ranked_list(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  margin: float = 0.4,
  alpha: float = 1.2,
  t_p: float = 0.0,
  t_n: float = 10.0,
  balance: float = 0.5,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Ranked list loss: negatives beyond one distance, positives within a shorter one.

  With :math:`d_{ij}` the distance of unit vectors, :math:`P_i` those others of class :math:`y_i`
  that are farther than :math:`\alpha - m`, :math:`N_i` those of other classes that are closer than
  :math:`\alpha`, and weights :math:`w_{ip} = e^{T_p (d_{ip} - \alpha + m)}`,
  :math:`w_{in} = e^{T_n (\alpha - d_{in})}` through which no gradient flows,

  .. math::
    \ell_i = (1 - \lambda) \frac{\sum_{p \in P_i} w_{ip} (d_{ip} - \alpha + m)}
        {\sum_{p \in P_i} w_{ip}}
      + \lambda \frac{\sum_{n \in N_i} w_{in} (\alpha - d_{in})}{\sum_{n \in N_i} w_{in}}

  The authors' code holds the weights fixed; pytorch-metric-learning lets gradients through them,
  adds 1e-5 to each, and overlooks negatives at distance 0.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: class of each, ``[batch]`` integers; -1 for rows that are to be left out.
    margin: m, between the two distances.
    alpha: distance beyond which a negative is of no concern.
    t_p: how strongly far positives weigh, >= 0; 0 for a plain mean.
    t_n: how strongly close negatives weigh, >= 0.
    balance: share :math:`\lambda` of the negatives in the loss, in [0, 1].
    where: ``[batch]`` bool, rows that take part; all if absent.
    tile_size: edge of the tiles in which pairs are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per anchor, ``[batch]`` float32, >= 0; 0 where left out.

  Raises:
    ValueError: if there is not one label for every embedding.

  References:
    Wang et al., `Ranked List Loss for Deep Metric Learning <https://arxiv.org/abs/1903.03238>`_,
    2019.
  """
  rows, _ = labelled_rows(embeddings, labels, normalize=True, where=where, axis_name=axis_name)
  rows["square"] = jnp.sum(rows["z"] ** 2, -1)
  terms = functools.partial(
    _ranked, near=alpha - margin, far=alpha, t_p=t_p, t_n=t_n, precision=precision
  )
  sums = pair_sums(terms, rows, rows, symmetric=True, tile_size=tile_size, axis_name=axis_name)
  mean = lambda total, weight: total / jnp.where(weight > 0, weight, 1)
  return (1 - balance) * mean(*sums.sums[:2]) + balance * mean(*sums.sums[2:])


def _cosines(row, column, precision) -> jax.Array:
  return jnp.matmul(row["z"], column["z"].T, precision=precision)


def _multi_similarities(row, column, shared, *, alpha, beta, base, precision) -> PairSums:
  del shared
  cosine = _cosines(row, column, precision)
  positive, negative = positives_and_negatives(row, column)
  if "positives_below" in row:
    positive &= cosine < row["positives_below"][:, None]
    negative &= cosine > row["negatives_above"][:, None]
  pull = jnp.where(positive, alpha * (base - cosine), -jnp.inf)
  push = jnp.where(negative, beta * (cosine - base), -jnp.inf)
  return PairSums((pull, push))


def _thresholds(rows, margin, tile_size, precision, axis_name) -> dict[str, jax.Array]:
  """Which pairs of a row are hard: known only once all of its pairs have been seen."""
  rows = lax.stop_gradient(rows)
  columns = gather(rows, axis_name)

  def of_row(row):
    row = jax.tree.map(lambda x: x[None], row)
    cosine = _cosines(row, columns, precision)
    positive, negative = positives_and_negatives(row, columns)
    return {
      "positives_below": jnp.max(jnp.where(negative, cosine, -jnp.inf)) + margin,
      "negatives_above": jnp.min(jnp.where(positive, cosine, jnp.inf)) - margin,
    }

  return lax.map(of_row, rows, batch_size=min(tile_size or 1024, len(rows["z"])))


def _circles(row, column, shared, *, margin, gamma, precision) -> PairSums:
  del shared
  cosine = _cosines(row, column, precision)
  positive, negative = positives_and_negatives(row, column)
  held = lax.stop_gradient(cosine)
  pull = -gamma * jax.nn.relu(1 + margin - held) * (cosine - 1 + margin)
  push = gamma * jax.nn.relu(held + margin) * (cosine - margin)
  return PairSums((jnp.where(positive, pull, -jnp.inf), jnp.where(negative, push, -jnp.inf)))


def _angles(row, column, shared, *, square, precision) -> PairSums:
  del shared
  positive, _ = positives_and_negatives(row, column)
  total = jnp.matmul(row["to_negatives"], column["to_negatives"].T, precision=precision)
  some = positive & (total > 0)
  logits = row["peak"][:, None] + column["peak"][None, :] + jnp.log(jnp.where(some, total, 1))
  logits -= 2 * (1 + square) * _cosines(row, column, precision)
  losses = jnp.where(some, jax.nn.softplus(logits), 0)
  return PairSums(sums=(losses, positive.astype(losses.dtype)))


def _ranked(row, column, shared, *, near, far, t_p, t_n, precision) -> PairSums:
  del shared
  square = row["square"][:, None] + column["square"][None, :]
  square -= 2 * _cosines(row, column, precision)
  distance = safe_sqrt(square)
  positive, negative = positives_and_negatives(row, column)

  def weighted(excess, keep, temperature):
    keep &= excess > 0
    weight = jnp.where(keep, jnp.exp(temperature * lax.stop_gradient(excess)), 0)
    return weight * excess, weight

  pull = weighted(distance - near, positive, t_p)
  push = weighted(far - distance, negative, t_n)
  return PairSums(sums=pull + push)
