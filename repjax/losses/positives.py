"""Contrastive losses with more than one positive: by label, one by one, or by degree."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from repjax.losses.labelled import labelled_rows, positives_and_negatives
from repjax.losses.layout import shards
from repjax.losses.pairs import PairSums, pair_sums
from repjax.losses.partners import aligned, apart, both_kept, products


def sup_con(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  temperature: float | jax.Array = 0.1,
  form: str = "out",
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Supervised contrastive loss: every other example of the same label is a positive.

  With :math:`P_i` the others of i's label and :math:`A_i` all others,

  .. math::
    \ell_i^{out} = -\frac{1}{|P_i|} \sum_{p \in P_i}
      \log \frac{e^{s_{ip} / \tau}}{\sum_{a \in A_i} e^{s_{ia} / \tau}}
    \qquad
    \ell_i^{in} = -\log \frac{1}{|P_i|} \sum_{p \in P_i}
      \frac{e^{s_{ip} / \tau}}{\sum_{a \in A_i} e^{s_{ia} / \tau}}

  Views of one image are rows of their own with the image's label; with two views and no other
  equal labels both forms are `nt_xent`. The authors' code multiplies by a ratio of temperatures
  that is 1 by default. Anchors without a positive give 0 here and stay in a plain mean;
  pytorch-metric-learning leaves them out of its mean.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: ``[batch]`` integers; -1 leaves an example out.
    temperature: softmax temperature, > 0.
    form: ``"out"`` averages the log-probabilities of the positives, ``"in"`` their probabilities.
    where: ``[batch]`` bool, examples that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per anchor, ``[batch]`` float32, >= 0; 0 without a positive and for what is left out.

  Raises:
    ValueError: if the shapes do not match or ``form`` is unknown.

  References:
    Khosla et al., `Supervised Contrastive Learning <https://arxiv.org/abs/2004.11362>`_, 2020,
    eq. 2 and 3.
  """
  if form not in ("out", "in"):
    raise ValueError(f"form={form!r} is unknown; choose 'out' or 'in'")
  rows = _scaled_rows(embeddings, labels, temperature, where, axis_name)
  terms = functools.partial(_out if form == "out" else _in, precision=precision)
  sums = pair_sums(terms, rows, rows, symmetric=True, tile_size=tile_size, axis_name=axis_name)
  count = sums.sums[0]
  if form == "out":
    loss = sums.log_sums[0] - sums.sums[1] / jnp.maximum(count, 1)
  else:
    loss = sums.log_sums[0] - sums.log_sums[1] + jnp.log(jnp.maximum(count, 1))
  return jnp.where(count > 0, loss, 0)


def multi_positive_info_nce(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  temperature: float | jax.Array = 0.1,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""InfoNCE with each positive in turn, against the negatives alone.

  With :math:`P_i` the others of i's label and :math:`N_i` the examples of other labels,

  .. math::
    \ell_i = -\frac{1}{|P_i|} \sum_{p \in P_i}
      \log \frac{e^{s_{ip} / \tau}}{e^{s_{ip} / \tau} + \sum_{n \in N_i} e^{s_{in} / \tau}}

  Unlike in `sup_con`, positives do not compete with each other. This is what ``NTXentLoss`` of
  pytorch-metric-learning and ``ntxent`` of optax compute, which average over pairs rather than over
  anchors. Anchors without a positive give 0 and stay in a plain mean.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: ``[batch]`` integers; -1 leaves an example out.
    temperature: softmax temperature, > 0.
    where: ``[batch]`` bool, examples that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per anchor, ``[batch]`` float32, >= 0; 0 without a positive and for what is left out.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Sohn, `Improved Deep Metric Learning with Multi-class N-pair Loss Objective
    <https://papers.nips.cc/paper/6200-improved-deep-metric-learning-with-multi-class-n-pair-loss-objective>`_,
    2016, section 3.
  """
  rows = _scaled_rows(embeddings, labels, temperature, where, axis_name)
  options = {"tile_size": tile_size, "axis_name": axis_name}
  against = functools.partial(_negatives, precision=precision)
  negatives = pair_sums(against, rows, rows, symmetric=True, **options).log_sums[0]
  # A finite floor, far below any logit, where there is no negative: the loss is 0 there.
  negatives = jnp.where(jnp.isfinite(negatives), negatives, jnp.finfo(negatives.dtype).min / 2)
  terms = functools.partial(_one_by_one, precision=precision)
  sums = pair_sums(terms, rows | {"negatives": negatives}, rows, **options)
  return sums.sums[0] / jnp.maximum(sums.sums[1], 1)


def soft_target_info_nce(
  query: jax.Array,
  key: jax.Array,
  target: jax.Array,
  key_target: jax.Array | None = None,
  *,
  temperature: float | jax.Array = 0.1,
  exclude_self: bool = False,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""InfoNCE towards a distribution over the keys instead of one of them.

  .. math::
    \ell_i = -\sum_j \frac{t_{ij}}{\sum_k t_{ik}}
      \log \frac{e^{s_{ij} / \tau}}{\sum_k e^{s_{ik} / \tau}}

  The degrees :math:`t_{ij} \ge 0` are a matrix, as for graded relevance or pairs judged one by one,
  or, with ``key_target``, the products of two label vectors, as for multi-label examples: then
  nothing grows with the square of the batch. The identity gives `info_nce`. No gradient reaches the
  targets.

  Args:
    query: ``[batch, dim]``; normalised inside.
    key: ``[batch, dim]``; normalised inside. ``query`` once more to compare a batch with itself.
    target: degrees of this shard's queries with the keys of the whole batch, ``[batch, total]``;
      or label vectors of the queries, ``[batch, classes]``.
    key_target: label vectors of the keys, ``[batch, classes]``.
    temperature: softmax temperature, > 0.
    exclude_self: leave out the key of the query's own row, in degrees and denominator.
    where: ``[batch]`` bool, rows of queries and keys that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per query, ``[batch]`` float32, >= 0; 0 for queries whose degrees are all 0 and for what is
    left out.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Feng and Patras, `Adaptive Soft Contrastive Learning <https://arxiv.org/abs/2207.11163>`_, 2022,
    eq. 6.
  """
  rows, columns, _ = aligned(query, key, temperature, where, axis_name)
  total = len(key) * shards(axis_name)
  wanted = (len(query), total) if key_target is None else (len(query), jnp.shape(key_target)[-1])
  if jnp.shape(target) != wanted:
    raise ValueError(f"expected target of shape {wanted}, got {jnp.shape(target)}")
  degrees = lambda x: lax.stop_gradient(jnp.asarray(x, rows["z"].dtype))
  rows = rows | {"target": degrees(target)}
  if key_target is not None:
    columns = columns | {"target": degrees(key_target)}
  terms = functools.partial(_by_degree, precision=precision, exclude_self=exclude_self)
  sums = pair_sums(terms, rows, columns, tile_size=tile_size, axis_name=axis_name)
  mass = sums.sums[0]
  some = mass > 0
  loss = sums.log_sums[0] - sums.sums[1] / jnp.where(some, mass, 1)
  return jnp.where(some, loss, 0)


def _scaled_rows(embeddings, labels, temperature, where, axis_name):
  """Labelled rows whose products are logits."""
  rows, _ = labelled_rows(embeddings, labels, normalize=True, where=where, axis_name=axis_name)
  scale = jnp.sqrt(1 / jnp.asarray(temperature, rows["z"].dtype))
  return rows | {"z": rows["z"] * scale}


def _out(row, column, shared, precision) -> PairSums:
  del shared
  logits = products(row, column, precision)
  positive, negative = positives_and_negatives(row, column)
  count = positive.astype(logits.dtype)
  return PairSums((jnp.where(positive | negative, logits, -jnp.inf),), (count, count * logits))


def _in(row, column, shared, precision) -> PairSums:
  del shared
  logits = products(row, column, precision)
  positive, negative = positives_and_negatives(row, column)
  others, same = (jnp.where(x, logits, -jnp.inf) for x in (positive | negative, positive))
  return PairSums((others, same), (positive.astype(logits.dtype),))


def _negatives(row, column, shared, precision) -> PairSums:
  del shared
  _, negative = positives_and_negatives(row, column)
  return PairSums((jnp.where(negative, products(row, column, precision), -jnp.inf),))


def _one_by_one(row, column, shared, precision) -> PairSums:
  del shared
  positive, _ = positives_and_negatives(row, column)
  loss = jax.nn.softplus(row["negatives"][:, None] - products(row, column, precision))
  return PairSums(sums=(jnp.where(positive, loss, 0), positive.astype(loss.dtype)))


def _by_degree(row, column, shared, precision, exclude_self) -> PairSums:
  del shared
  logits = products(row, column, precision)
  if "target" in column:
    degree = jnp.matmul(row["target"], column["target"].T, precision="highest")
  else:
    degree = jnp.take(row["target"], column["index"], axis=1)
  if exclude_self:
    takes_part = apart(row, column)
  else:
    takes_part = both_kept(row, column, jnp.ones(logits.shape, bool), False)
  degree = jnp.where(takes_part, degree, 0)
  return PairSums((jnp.where(takes_part, logits, -jnp.inf),), (degree, degree * logits))
