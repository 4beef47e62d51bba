"""Losses of sentence embeddings: graded pairs, a guide that vets negatives, a teacher's margins."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize
from repjax.losses.layout import gather
from repjax.losses.pairs import PairSums, log_sum_exp, pair_sums
from repjax.losses.partners import apart, both_kept, places


def cosent(
  z_1: jax.Array,
  z_2: jax.Array,
  score: jax.Array,
  *,
  temperature: float | jax.Array = 0.05,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Ranks sentence pairs as their scores do, by the cosine of the two sentences.

  .. math::
    \ell = \log \Big( 1 + \sum_{y_i > y_j} \exp\big( (s_j - s_i) / \tau \big) \Big), \quad
    s_i = \cos(z_i, z_i')

  Only the order of scores counts, so that no gradient reaches them. Sentence Transformers calls
  :math:`1 / \tau = 20` the scale.

  Args:
    z_1: first sentence of each pair, ``[batch, dim]``; normalised inside.
    z_2: second sentence, row-aligned with ``z_1``, ``[batch, dim]``.
    score: how alike the two are by the annotators, ``[batch]``, in any unit.
    temperature: softmax temperature, > 0.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    tile_size: edge of the tiles in which pairs are compared, 0 for one matrix; by size if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss of the batch, a float32 scalar, >= 0; 0 where all scores are equal.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Huang et al., `CoSENT: Consistent Sentence Embedding via Similarity Ranking
    <https://penghao-bdsc.github.io/papers/CoSENT_TASLP2024.pdf>`_, 2024.
  """
  _check_scored(z_1, z_2, score)
  z_1, z_2 = (l2_normalize(at_least_float32(x)) for x in (z_1, z_2))
  similarity = jnp.sum(z_1 * z_2, -1) / temperature
  return _misranking(similarity, score, where, tile_size, axis_name)


def angle(
  z_1: jax.Array,
  z_2: jax.Array,
  score: jax.Array,
  *,
  temperature: float | jax.Array = 0.05,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""`cosent` with a similarity by angles in complex space, whose gradient does not fade.

  The first half of a vector is its real part and the second half its imaginary part. For unit
  vectors :math:`z = a + ib` and :math:`w = c + id`

  .. math::
    s = \Big| \operatorname{Re} \sum_k z_k \bar w_k + \operatorname{Im} \sum_k z_k \bar w_k \Big|
      = \big| \langle a, c\rangle + \langle b, d\rangle
      + \langle b, c\rangle - \langle a, d\rangle \big|

  We follow the authors' code, as Sentence Transformers does; eq. 3 of the paper subtracts the other
  way round. A last odd dimension is paired with 0. The paper adds `cosent` and in-batch
  `repjax.losses.contrastive.info_nce`.

  Args:
    z_1: first sentence of each pair, ``[batch, dim]``; normalised inside.
    z_2: second sentence, row-aligned with ``z_1``, ``[batch, dim]``.
    score: how alike the two are by the annotators, ``[batch]``, in any unit.
    temperature: softmax temperature, > 0.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    tile_size: edge of the tiles in which pairs are compared, 0 for one matrix; by size if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss of the batch, a float32 scalar, >= 0; 0 where all scores are equal.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Li and Li, `AnglE-optimized Text Embeddings <https://arxiv.org/abs/2309.12871>`_, 2023,
    section 3.
  """
  _check_scored(z_1, z_2, score)
  half = (jnp.shape(z_1)[1] + 1) // 2

  def parts(z):
    z = l2_normalize(at_least_float32(z))
    return z[:, :half], jnp.pad(z[:, half:], ((0, 0), (0, z.shape[1] % 2)))

  (a, b), (c, d) = parts(z_1), parts(z_2)
  similarity = jnp.abs(jnp.sum(a * c + b * d + b * c - a * d, -1)) / temperature
  return _misranking(similarity, score, where, tile_size, axis_name)


def guided_info_nce(
  query: jax.Array,
  key: jax.Array,
  guide_query: jax.Array,
  guide_key: jax.Array,
  *,
  temperature: float | jax.Array = 0.01,
  margin: float = 0.0,
  query_to_query: bool = True,
  key_to_key: bool = True,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""`info_nce` without the negatives that a guide finds closer than the positive.

  With cosines :math:`s` of the model and :math:`g` of the guide

  .. math::
    \ell_i = -\log \frac{\exp(s(q_i, k_i) / \tau)}{\exp(s(q_i, k_i) / \tau) + \sum_{j \neq i} \big(
      e(q_i, k_j) + e(q_i, q_j) + e(k_i, k_j) \big)}, \quad
    e(x, y) = \exp(s(x, y) / \tau) \, [\, g(x, y) \leq g(q_i, k_i) - m \,]

  GISTEmbed's loss, in the form of Sentence Transformers. There the guide has to keep a sentence
  from being its own negative; here it never is one. No gradient reaches the guide.

  Args:
    query: ``[batch, dim]``; normalised inside.
    key: row-aligned with ``query``, ``[batch, dim]``; normalised inside.
    guide_query: the guide's embedding of each query, ``[batch, guide_dim]``; normalised inside.
    guide_key: the guide's embedding of each key, ``[batch, guide_dim]``; normalised inside.
    temperature: softmax temperature, > 0.
    margin: how much less similar than the positive a negative has to be by the guide.
    query_to_query: whether other queries are negatives of a query.
    key_to_key: whether other keys are negatives of a key.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per query, ``[batch]`` float32, >= 0; 0 where ``where`` is false.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Solatorio, `GISTEmbed: Guided In-sample Selection of Training Negatives for Text Embedding
    Fine-tuning <https://arxiv.org/abs/2402.16829>`_, 2024.
  """
  check_same_shape(2, query=query, key=key)
  check_same_shape(2, guide_query=guide_query, guide_key=guide_key)
  if len(query) != len(guide_query):
    raise ValueError(f"expected one guide vector a row, got {len(guide_query)} for {len(query)}")
  query, key = (l2_normalize(at_least_float32(x)) for x in (query, key))
  guides = (lax.stop_gradient(x) for x in (guide_query, guide_key))
  guide_query, guide_key = (l2_normalize(at_least_float32(x)) for x in guides)
  scale = jnp.sqrt(1 / jnp.asarray(temperature, query.dtype))
  query, key = query * scale, key * scale
  row = {
    "query": query,
    "key": key,
    "guide_query": guide_query,
    "guide_key": guide_key,
    "limit": jnp.sum(guide_query * guide_key, -1) - margin,
    **places(len(query), where, axis_name),
  }
  sides = [("query", "key")]
  sides += [("query", "query")] * query_to_query + [("key", "key")] * key_to_key
  terms = functools.partial(_vetted, sides=tuple(sides), precision=precision)
  sums = pair_sums(terms, row, row, tile_size=tile_size, axis_name=axis_name)
  positive = jnp.sum(query * key, -1)
  loss = functools.reduce(jnp.logaddexp, sums.log_sums, positive) - positive
  return loss if where is None else jnp.where(where, loss, 0)


def margin_mse(student: jax.Array, teacher: jax.Array) -> jax.Array:
  r"""Squared error of how much better a student scores the positive than each negative.

  .. math::
    \ell = \frac{1}{n} \sum_{j=1}^n \big( (s_0 - s_j) - (t_0 - t_j) \big)^2

  A student of another scale than the teacher's only has to match differences. Scores may be dot
  products of embeddings, as in Sentence Transformers, or come from a cross encoder. No gradient
  reaches ``teacher``.

  Args:
    student: the student's scores of each query's passages, ``[batch, 1 + n]``, the positive first.
    teacher: the teacher's, same shape.

  Returns:
    Loss per query, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes differ or there is no negative.

  References:
    Hofstätter et al., `Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge
    Distillation <https://arxiv.org/abs/2010.02666>`_, 2020.
  """
  check_same_shape(2, student=student, teacher=teacher)
  if jnp.shape(student)[1] < 2:
    raise ValueError(f"expected [batch, 1 + n] scores of n >= 1 negatives, got {student.shape}")
  error = at_least_float32(student) - at_least_float32(lax.stop_gradient(teacher))
  return jnp.mean(jnp.square(error[:, :1] - error[:, 1:]), 1)


def _check_scored(z_1, z_2, score) -> None:
  check_same_shape(2, z_1=z_1, z_2=z_2)
  if jnp.shape(score) != (len(z_1),):
    raise ValueError(f"expected score of shape {(len(z_1),)}, got {jnp.shape(score)}")


def _misranking(similarity, score, where, tile_size, axis_name) -> jax.Array:
  """Log of one and the terms of all pairs of pairs."""
  row = {"similarity": similarity, "score": lax.stop_gradient(score)}
  row |= places(len(similarity), where, axis_name)
  sums = pair_sums(_misranked, row, row, tile_size=tile_size, axis_name=axis_name)
  return jnp.logaddexp(log_sum_exp(gather(sums.log_sums[0], axis_name), 0), 0)


def _misranked(row, column, shared) -> PairSums:
  """How much more alike the column's sentences are, where the row's should be."""
  del shared
  ranked = both_kept(row, column, row["score"][:, None] > column["score"][None, :], False)
  excess = column["similarity"][None, :] - row["similarity"][:, None]
  return PairSums((jnp.where(ranked, excess, -jnp.inf),))


def _vetted(row, column, shared, sides, precision) -> PairSums:
  """Logits of the other rows that the guide lets through."""
  del shared
  other = apart(row, column)
  product = lambda x, y: jnp.matmul(row[x], column[y].T, precision=precision)
  logits = []
  for x, y in sides:
    let_through = product(f"guide_{x}", f"guide_{y}") <= row["limit"][:, None]
    logits.append(jnp.where(other & let_through, product(x, y), -jnp.inf))
  return PairSums(tuple(logits))
