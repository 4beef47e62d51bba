"""Losses that tell an example's partner from the rest of its batch."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize
from repjax.losses.layout import batch_mean, row_index, shards
from repjax.losses.pairs import PairSums, log_sum_exp, pair_sums
from repjax.losses.partners import aligned, apart, others, products


def info_nce(
  query: jax.Array,
  key: jax.Array,
  negatives: jax.Array | None = None,
  *,
  temperature: float | jax.Array = 0.1,
  in_batch: bool = True,
  normalize: bool = True,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Each query picks its own key out of the keys of the batch and any further negatives.

  .. math::
    \ell_i = -\log \frac{\exp(\langle q_i, k_i\rangle / \tau)}
      {\sum_j \exp(\langle q_i, k_j\rangle / \tau) + \sum_m \exp(\langle q_i, n_m\rangle / \tau)}

  One direction, query to key. MoCo's form is ``in_batch=False`` with a queue as ``negatives``;
  MoCo v3 multiplies by :math:`2 \tau`. Gradients reach all three arrays: stop those of a teacher
  or a queue before.

  Args:
    query: ``[batch, dim]``.
    key: row-aligned with ``query``, ``[batch, dim]``.
    negatives: a queue that all queries share, ``[n, dim]``, or each query's own,
      ``[batch, n, dim]``.
    temperature: softmax temperature, > 0.
    in_batch: whether the other keys of the batch are negatives.
    normalize: scale all vectors to unit length; otherwise plain products are compared.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per query, ``[batch]`` float32, >= 0; 0 where ``where`` is false.

  Raises:
    ValueError: if the shapes do not match, or there are neither ``in_batch`` nor other negatives.

  References:
    van den Oord et al., `Representation Learning with Contrastive Predictive Coding
    <https://arxiv.org/abs/1807.03748>`_, 2018, eq. 4.
    He et al., `Momentum Contrast for Unsupervised Visual Representation Learning
    <https://arxiv.org/abs/1911.05722>`_, 2019, eq. 1.
  """
  if negatives is None and not in_batch:
    raise ValueError("in_batch=False leaves no negatives; give an array of negatives")
  rows, columns, positive = aligned(query, key, temperature, where, axis_name, normalize=normalize)
  parts = [positive]
  if in_batch:
    terms = functools.partial(others, precision=precision)
    sums = pair_sums(terms, rows, columns, tile_size=tile_size, axis_name=axis_name)
    parts.append(sums.log_sums[0])
  if negatives is not None:
    negatives = at_least_float32(negatives)
    negatives = l2_normalize(negatives) if normalize else negatives
    parts.append(_queue_log_sum(rows["z"], negatives, tile_size, precision))
  loss = functools.reduce(jnp.logaddexp, parts) - positive
  return loss if where is None else jnp.where(where, loss, 0)


def nt_xent(
  z_1: jax.Array,
  z_2: jax.Array,
  *,
  temperature: float | jax.Array = 0.5,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Normalised temperature-scaled cross entropy over two views.

  Each embedding must pick its partner out of every other embedding in the batch; under
  ``axis_name`` the batch is the whole mapped axis. For unit vectors :math:`z_i`, one direction is

  .. math::
    \ell_{ij} = -\log \frac{\exp(\langle z_i, z_j\rangle / \tau)}
      {\sum_{k \neq i} \exp(\langle z_i, z_k\rangle / \tau)}

  The mean over the batch is that of lightly, solo-learn and pytorch-metric-learning, whose default
  temperatures are 0.5, 0.1 and 0.07.

  Args:
    z_1: first view, ``[batch, dim]``; normalised inside, in float32.
    z_2: second view, ``[batch, dim]``, row-aligned with ``z_1``.
    temperature: softmax temperature, > 0.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per pair, ``[batch]`` float32, averaged over its two directions; 0 where ``where`` is
    false.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Chen et al., `A Simple Framework for Contrastive Learning of Visual Representations
    <https://arxiv.org/abs/2002.05709>`_, 2020, eq. 1.
  """
  rows, positive = _two_views(z_1, z_2, temperature, where, axis_name)
  terms = functools.partial(others, precision=precision)
  sums = pair_sums(terms, rows, rows, symmetric=True, tile_size=tile_size, axis_name=axis_name)
  loss = jnp.mean(sums.log_sums[0].reshape(2, -1), 0) - positive
  return loss if where is None else jnp.where(where, loss, 0)


def dcl(
  z_1: jax.Array,
  z_2: jax.Array,
  *,
  temperature: float | jax.Array = 0.1,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Decoupled contrastive loss: `nt_xent` with the positive left out of the denominator.

  .. math::
    \ell_{ij} = -\langle z_i, z_j\rangle / \tau
      + \log \sum_{k \notin \{i, j\}} \exp(\langle z_i, z_k\rangle / \tau)

  Both directions are averaged, as in lightly.

  Args:
    z_1: first view, ``[batch, dim]``; normalised inside.
    z_2: second view, ``[batch, dim]``, row-aligned with ``z_1``.
    temperature: softmax temperature, > 0.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per pair, ``[batch]`` float32, of any sign; 0 where ``where`` is false or there is no
    negative.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Yeh et al., `Decoupled Contrastive Learning <https://arxiv.org/abs/2110.06848>`_, 2021, eq. 6.
  """
  options = {"temperature": temperature, "where": where, "axis_name": axis_name}
  one = lambda positive: 1.0
  return _decoupled(z_1, z_2, one, tile_size=tile_size, precision=precision, **options)


def dclw(
  z_1: jax.Array,
  z_2: jax.Array,
  *,
  temperature: float | jax.Array = 0.1,
  sigma: float = 0.5,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Decoupled contrastive loss in which positives that are far apart weigh more.

  `dcl` with its first term multiplied by

  .. math::
    w_i = 2 - \frac{\exp(\langle z_i, z_i'\rangle / \sigma)}
      {\frac{1}{n} \sum_j \exp(\langle z_j, z_j'\rangle / \sigma)}

  through which no gradient flows, as in lightly.

  Args:
    z_1: first view, ``[batch, dim]``; normalised inside.
    z_2: second view, ``[batch, dim]``, row-aligned with ``z_1``.
    temperature: softmax temperature, > 0.
    sigma: temperature of the weights, > 0.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per pair, ``[batch]`` float32, of any sign; 0 where ``where`` is false or there is no
    negative.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Yeh et al., `Decoupled Contrastive Learning <https://arxiv.org/abs/2110.06848>`_, 2021, eq. 7.
  """

  def weight(positive):
    # exp(x) <= exp(1 / sigma) for cosines: no overflow to guard against down to sigma = 0.02.
    strength = jnp.exp(lax.stop_gradient(positive) * temperature / sigma)
    mean = batch_mean(strength, axis_name, where=where)
    return 2 - strength / jnp.where(mean > 0, mean, 1)  # 0 where nothing takes part

  options = {"temperature": temperature, "where": where, "axis_name": axis_name}
  return _decoupled(z_1, z_2, weight, tile_size=tile_size, precision=precision, **options)


def hardness_weighted_info_nce(
  query: jax.Array,
  key: jax.Array,
  *,
  temperature: float | jax.Array = 0.02,
  alpha: float | jax.Array = 0.5,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Symmetric `info_nce` in which negatives that are close to the query weigh more.

  With :math:`s_{ij}` the cosine of query i and key j and :math:`\operatorname{sg}` stopping
  gradients, one direction is

  .. math::
    \ell_i = -\log \frac{\exp(s_{ii} / \tau)}{\exp(s_{ii} / \tau)
      + \sum_{j \neq i} \exp(\alpha \operatorname{sg}(s_{ij})) \exp(s_{ij} / \tau)}

  and the loss is the mean of both. We follow the authors' code, in which the weights come from the
  model in training itself.

  Args:
    query: ``[batch, dim]``; normalised inside.
    key: row-aligned with ``query``, ``[batch, dim]``.
    temperature: softmax temperature, > 0.
    alpha: how strongly hardness weighs; 0 gives CLIP's loss.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per pair, ``[batch]`` float32, >= 0; 0 where ``where`` is false.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Lan et al., `LLaVE: Large Language and Vision Embedding Models with Hardness-Weighted
    Contrastive Learning <https://arxiv.org/abs/2503.04812>`_, 2025, section 3.
  """
  rows, columns, positive = aligned(query, key, temperature, where, axis_name)
  terms = functools.partial(_hard_others, precision=precision)
  shared = {"weight": jnp.asarray(alpha * temperature, positive.dtype)}
  sums = pair_sums(terms, rows, columns, shared, tile_size=tile_size, axis_name=axis_name)
  to_key, to_query = sums.log_sums[0], sums.column_log_sums[0]
  loss = (jnp.logaddexp(to_key, positive) + jnp.logaddexp(to_query, positive)) / 2 - positive
  return loss if where is None else jnp.where(where, loss, 0)


def _hard_others(row, column, shared, precision) -> PairSums:
  logits = products(row, column, precision)
  logits += shared["weight"] * lax.stop_gradient(logits)
  logits = jnp.where(apart(row, column), logits, -jnp.inf)
  return PairSums((logits,), column_log_sums=(logits,))


def _queue_log_sum(query, negatives, tile_size, precision) -> jax.Array:
  """Log-sum-exp of the logits of negatives that do not come from the batch."""
  if negatives.ndim == 3:
    logits = jnp.einsum("bd,bnd->bn", query, negatives, precision=precision)
    return log_sum_exp(logits, 1)
  terms = functools.partial(_all, precision=precision)
  return pair_sums(terms, query, negatives, tile_size=tile_size).log_sums[0]


def _all(row, column, shared, precision) -> PairSums:
  del shared
  return PairSums((jnp.matmul(row, column.T, precision=precision),))


def _two_views(z_1, z_2, temperature, where, axis_name):
  """Rows of both views, scaled so that products are logits, and the logit of each pair."""
  check_same_shape(2, z_1=z_1, z_2=z_2)
  batch = len(z_1)
  z_1, z_2 = at_least_float32(z_1), at_least_float32(z_2)
  scale = jnp.sqrt(1 / jnp.asarray(temperature, z_1.dtype))
  z_1, z_2 = l2_normalize(z_1) * scale, l2_normalize(z_2) * scale
  index = row_index(batch, axis_name)
  total = batch * shards(axis_name)
  rows = {"z": jnp.concatenate([z_1, z_2]), "index": jnp.concatenate([index, index + total])}
  if where is not None:
    rows["keep"] = jnp.concatenate([where, where])
  return rows, jnp.sum(z_1 * z_2, -1)


def _decoupled(z_1, z_2, weight, *, temperature, where, tile_size, precision, axis_name):
  rows, positive = _two_views(z_1, z_2, temperature, where, axis_name)
  total = len(z_1) * shards(axis_name)
  # The same number for both views of an example, so that the partner is left out too.
  rows["index"] %= total
  terms = functools.partial(others, precision=precision)
  sums = pair_sums(terms, rows, rows, symmetric=True, tile_size=tile_size, axis_name=axis_name)
  some = jnp.isfinite(sums.log_sums[0][: len(z_1)])
  if where is not None:
    some &= where
  loss = jnp.mean(sums.log_sums[0].reshape(2, -1), 0) - weight(positive) * positive
  return jnp.where(some, loss, 0)
