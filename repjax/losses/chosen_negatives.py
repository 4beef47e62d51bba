"""Contrast with some of the rest of a batch, or with the rest as something else than a sum."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_labels, check_same_shape, l2_normalize
from repjax.losses.layout import batch_sum, gather, kept
from repjax.losses.pairs import PairSums, log_sum_exp, pair_sums
from repjax.losses.partners import aligned, apart, others, places, products


def clustered_info_nce(
  query: jax.Array,
  key: jax.Array,
  labels: jax.Array,
  *,
  temperature: float | jax.Array = 0.1,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""`info_nce` whose negatives are of the query's own cluster.

  What told clusters apart before no longer helps, so that features are learned that did not.

  .. math::
    \ell_i = -\log \frac{\exp(\langle q_i, k_i\rangle / \tau)}
      {\sum_{j: y_j = y_i} \exp(\langle q_i, k_j\rangle / \tau)}

  One direction, query to key. A cluster of several stages is one number for each combination of
  their assignments, as in the authors' code, which also draws batches from one cluster each.

  Args:
    query: ``[batch, dim]``; normalised inside.
    key: row-aligned with ``query``, ``[batch, dim]``; normalised inside.
    labels: cluster of each pair, ``[batch]`` integers; -1 for rows that are to be left out.
    temperature: softmax temperature, > 0.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per query, ``[batch]`` float32, >= 0; 0 where left out and for a cluster of one.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Zhang et al., `Learning the Unlearned: Mitigating Feature Suppression in Contrastive Learning
    <https://arxiv.org/abs/2402.11816>`_, 2024; code at https://github.com/MajorDavidZhang/MCL.
  """
  check_labels(labels, query=query)
  label = jnp.asarray(labels)
  keep = kept(where, len(query)) & (label >= 0)
  rows, columns, positive = aligned(query, key, temperature, keep, axis_name)
  more = {"label": label}
  terms = functools.partial(_of_cluster, precision=precision)
  options = {"tile_size": tile_size, "axis_name": axis_name}
  sums = pair_sums(terms, rows | more, columns | more, **options)
  return jax.nn.softplus(sums.log_sums[0] - positive)


def hard_info_nce(
  query: jax.Array,
  key: jax.Array,
  *,
  share: float = 0.1,
  temperature: float | jax.Array = 0.1,
  where: jax.Array | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""`info_nce` whose negatives are those most similar to the query.

  With :math:`H_i` the share of the other keys that are the most similar to query i, rounded up,

  .. math::
    \ell_i = -\log \frac{\exp(\langle q_i, k_i\rangle / \tau)}
      {\exp(\langle q_i, k_i\rangle / \tau) + \sum_{j \in H_i} \exp(\langle q_i, k_j\rangle / \tau)}

  One direction, query to key.

  Args:
    query: ``[batch, dim]``; normalised inside.
    key: row-aligned with ``query``, ``[batch, dim]``; normalised inside.
    share: of the other keys that are negatives, in (0, 1]; 1 gives `info_nce`.
    temperature: softmax temperature, > 0.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per query, ``[batch]`` float32, >= 0; 0 where ``where`` is false or there is no other key.

  Raises:
    ValueError: if the shapes differ or are not rank 2, or ``share`` is out of range.

  References:
    Wang and Liu, `Understanding the Behaviour of Contrastive Loss
    <https://arxiv.org/abs/2012.09740>`_, 2020.
  """
  if not 0 < share <= 1:
    raise ValueError(f"share={share} is out of range; give a share of the keys in (0, 1]")
  keep = kept(where, len(query))
  rows, columns, positive = aligned(query, key, temperature, keep, axis_name)
  (logits,) = others(rows, gather(columns, axis_name), (), precision).log_sums
  count = batch_sum(jnp.sum(keep), axis_name) - 1
  # A little less, so that 0.1 of 10 is 1 also where it comes out as 1.0000001.
  last = jnp.maximum(jnp.ceil(share * count - 1e-4).astype(jnp.int32), 1) - 1
  least = -jnp.sort(-lax.stop_gradient(logits), 1)[:, last]
  negative = log_sum_exp(jnp.where(logits >= least[:, None], logits, -jnp.inf), 1)
  return jax.nn.softplus(negative - positive)


def averaged_info_nce(
  query: jax.Array,
  key: jax.Array,
  *,
  temperature: float | jax.Array = 0.1,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""`info_nce` against the mean of the negatives, which does not grow with the batch.

  .. math::
    \ell_i = -\log \frac{\exp(\langle q_i, k_i\rangle / \tau)}
      {\exp(\langle q_i, k_i\rangle / \tau)
        + \frac{1}{n - 1} \sum_{j \neq i} \exp(\langle q_i, k_j\rangle / \tau)}

  The contrastive term of cMIM, where query and key are two samples of one example's code and no
  augmentation is needed. One direction, query to key.

  Args:
    query: ``[batch, dim]``; normalised inside.
    key: row-aligned with ``query``, ``[batch, dim]``; normalised inside.
    temperature: softmax temperature, > 0.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per query, ``[batch]`` float32, >= 0; 0 where ``where`` is false or there is no other key.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Livne, `cMIM: A Contrastive Mutual Information Framework for Unified Generative and
    Discriminative Representation Learning <https://arxiv.org/abs/2502.19642>`_, 2025.
    Livne, `Contrastive Mutual Information Learning: Toward Robust Representations without
    Positive-Pair Augmentations <https://arxiv.org/abs/2509.21511>`_, 2025.
  """
  keep = kept(where, len(query))
  rows, columns, positive = aligned(query, key, temperature, keep, axis_name)
  terms = functools.partial(others, precision=precision)
  sums = pair_sums(terms, rows, columns, tile_size=tile_size, axis_name=axis_name)
  count = batch_sum(jnp.sum(keep, dtype=positive.dtype), axis_name)
  return jax.nn.softplus(sums.log_sums[0] - jnp.log(jnp.maximum(count - 1, 1)) - positive)


def gated_info_nce(
  query: jax.Array,
  key: jax.Array,
  gate: jax.Array,
  *,
  query_labels: jax.Array | None = None,
  key_labels: jax.Array | None = None,
  temperature: float | jax.Array = 0.1,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""`info_nce` in a subspace that a gate opens, so that any two examples may be partners.

  With :math:`s_{ij}` the cosine of :math:`g_i \odot q_i` and :math:`g_i \odot k_j`,

  .. math:: \ell_i = -\log \frac{\exp(s_{ii} / \tau)}{\sum_j \exp(s_{ij} / \tau)}

  A query and its key may be of two classes; their gate is that of the pair of classes, and is
  learned. One direction, query to key. With labels, keys of either of the two classes are left out
  of the sum, but for the query's own, as in the authors' code, which averages over all keys of the
  second class that way.

  Args:
    query: ``[batch, dim]``.
    key: row-aligned with ``query``, ``[batch, dim]``.
    gate: of each pair, ``[batch, dim]``, usually in [0, 1].
    query_labels: class of each query, ``[batch]`` integers; give both labels or neither.
    key_labels: class of each key, ``[batch]`` integers.
    temperature: softmax temperature, > 0.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per query, ``[batch]`` float32, >= 0; 0 where ``where`` is false or no key is left.

  Raises:
    ValueError: if the shapes differ or are not rank 2, or one side alone has labels.

  References:
    Wu et al., `Rethinking Positive Pairs in Contrastive Learning
    <https://arxiv.org/abs/2410.18200>`_, 2024.
  """
  check_same_shape(2, query=query, key=key, gate=gate)
  if (query_labels is None) != (key_labels is None):
    raise ValueError(
      "gated_info_nce has labels of one side alone; give those of both or of neither"
    )
  query, key, gate = map(at_least_float32, (query, key, gate))
  # <g q, g k> and |g k|^2 are products with g^2, so that no key is gated once for every query.
  seen = l2_normalize(gate * query)
  place = places(len(query), where, axis_name)
  rows = place | {"z": gate * seen / temperature, "gate": gate**2}
  columns = place | {"z": l2_normalize(key)}
  if query_labels is not None:
    check_labels(query_labels, query=query)
    check_labels(key_labels, key=key)
    rows |= {"first": jnp.asarray(query_labels), "second": jnp.asarray(key_labels)}
    columns |= {"label": jnp.asarray(key_labels)}
  terms = functools.partial(_gated_others, precision=precision)
  sums = pair_sums(terms, rows, columns, tile_size=tile_size, axis_name=axis_name)
  positive = jnp.sum(seen * l2_normalize(gate * columns["z"]), -1) / temperature
  return jax.nn.softplus(sums.log_sums[0] - positive)


def _of_cluster(row, column, shared, precision) -> PairSums:
  (logits,) = others(row, column, shared, precision).log_sums
  same = row["label"][:, None] == column["label"][None, :]
  return PairSums((jnp.where(same, logits, -jnp.inf),))


def _gated_others(row, column, shared, precision) -> PairSums:
  del shared
  square = jnp.matmul(row["gate"], (column["z"] ** 2).T, precision=precision)
  logits = products(row, column, precision) * lax.rsqrt(jnp.maximum(square, 1e-12))
  keep = apart(row, column)
  if "label" in column:
    label = column["label"][None, :]
    keep &= (label != row["first"][:, None]) & (label != row["second"][:, None])
  return PairSums((jnp.where(keep, logits, -jnp.inf),))
