"""Losses over groups of pixels that share a learned prototype."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize
from repjax.losses.layout import batch_mean, batch_sum
from repjax.losses.pairs import PairSums, pair_sums
from repjax.losses.self_distillation import ibot


def group_pixels(
  features: jax.Array, prototypes: jax.Array, *, temperature: float | jax.Array = 0.07
) -> tuple[jax.Array, jax.Array, jax.Array]:
  r"""Groups pixels softly by their nearest prototype and pools each group.

  .. math::
    a_{pk} = \operatorname{softmax}_k(\cos(f_p, c_k) / \tau) + \epsilon, \qquad
    s_k = \sum_p \frac{a_{pk}}{\sum_{p'} a_{p'k}} f_p

  with :math:`\epsilon = 10^{-6}`, as in SlotCon's code.

  Args:
    features: ``[batch, pixels, dim]``; pooled as they are.
    prototypes: learned, ``[slots, dim]``.
    temperature: > 0.

  Returns:
    Slots, ``[batch, slots, dim]`` float32; scores, the cosines, ``[batch, pixels, slots]``; and
    wins, which slots are the nearest of any pixel, ``[batch, slots]`` bool.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Wen et al., `Self-Supervised Visual Representation Learning with Semantic Grouping
    <https://arxiv.org/abs/2205.15288>`_, 2022, section 3.
  """
  shapes = {"features": jnp.shape(features), "prototypes": jnp.shape(prototypes)}
  if [len(x) for x in shapes.values()] != [3, 2] or len({x[-1] for x in shapes.values()}) > 1:
    raise ValueError(f"expected [batch, pixels, dim] and [slots, dim], got {shapes}")
  features, prototypes = at_least_float32(features), at_least_float32(prototypes)
  product = functools.partial(jnp.einsum, precision="highest")
  scores = product("bpd,kd->bpk", l2_normalize(features), l2_normalize(prototypes))
  weights = jax.nn.softmax(scores / temperature, -1) + 1e-6
  slots = product("bpk,bpd->bkd", weights / jnp.sum(weights, 1, keepdims=True), features)
  nearest = jnp.argmax(scores, -1)[..., None] == jnp.arange(len(prototypes))[None, None]
  return slots, scores, jnp.any(nearest, 1)


def slot_info_nce(
  query: jax.Array,
  key: jax.Array,
  query_wins: jax.Array,
  key_wins: jax.Array,
  *,
  temperature: float | jax.Array = 0.2,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Each slot of one view picks its own slot of the other view out of all slots of the batch.

  Over slots i that win a pixel in both views, and keys j that win one in theirs,

  .. math::
    \ell = \frac{2 \tau}{|I|} \sum_{i \in I} -\log
      \frac{\exp(\cos(q_i, k_i) / \tau)}{\sum_j \exp(\cos(q_i, k_j) / \tau)}

  The mean is over the slots of the whole batch; the authors' code takes it on each device. No
  gradient reaches the keys.

  Args:
    query: the student's slots after a predictor, ``[batch, slots, dim]``; normalised inside.
    key: the teacher's slots of the other view, same shape; normalised inside.
    query_wins: ``[batch, slots]`` bool, slots that win a pixel, from `group_pixels`.
    key_wins: the same of the teacher's view.
    temperature: > 0.
    where: ``[batch]`` bool, images that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Scalar float32, >= 0, the same on all shards; 0 if no slot wins in both views.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Wen et al., `Self-Supervised Visual Representation Learning with Semantic Grouping
    <https://arxiv.org/abs/2205.15288>`_, 2022, section 3.
  """
  check_same_shape(3, query=query, key=key)
  slots = jnp.shape(query)[:2]
  for name, wins in {"query_wins": query_wins, "key_wins": key_wins}.items():
    if jnp.shape(wins) != slots:
      raise ValueError(f"expected {name} of shape {slots}, got {jnp.shape(wins)}")
  if where is not None:
    query_wins, key_wins = query_wins & where[:, None], key_wins & where[:, None]
  flat = lambda x: x.reshape(slots[0] * slots[1], *x.shape[2:])
  query, key = (flat(l2_normalize(at_least_float32(x))) for x in (query, key))
  query, key = query / temperature, lax.stop_gradient(key)
  anchors, wins = flat(query_wins & key_wins), flat(key_wins)
  terms = functools.partial(_winners, precision=precision)
  columns = {"z": key, "wins": wins}
  sums = pair_sums(terms, query, columns, tile_size=tile_size, axis_name=axis_name)
  loss = jnp.where(anchors, sums.log_sums[0] - jnp.sum(query * key, -1), 0)
  total, count = batch_sum((jnp.sum(loss), jnp.sum(anchors)), axis_name)
  return 2 * temperature * total / jnp.maximum(count, 1)


def slotcon(
  student_scores: jax.Array,
  teacher_scores: jax.Array,
  center: jax.Array,
  query: jax.Array,
  key: jax.Array,
  query_wins: jax.Array,
  key_wins: jax.Array,
  *,
  student_temperature: float | jax.Array = 0.1,
  teacher_temperature: float | jax.Array = 0.07,
  temperature: float | jax.Array = 0.2,
  group_weight: float | jax.Array = 0.5,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""SlotCon: views agree on which pixels belong together and on what each group looks like.

  .. math:: \ell = \lambda \, \ell_{\text{group}} + (1 - \lambda) \, \ell_{\text{slot}}

  The first term is `ibot` of all pixels: the student's scores of one view predict the teacher's of
  the other, both brought to the region that the views share. The second is `slot_info_nce`. One
  direction; the method adds the one in which the views change places. The temperature of the
  student's predictions is the authors' default. No gradient reaches the teacher or the centre,
  which `update_center` moves to the mean of the teacher's scores before they are brought together.

  Args:
    student_scores: cosines of pixels of one view and prototypes, in the common region,
      ``[batch, pixels, slots]``.
    teacher_scores: the same of the other view and the teacher.
    center: running mean of the teacher's scores, ``[slots]``.
    query: the student's slots of one view after a predictor, ``[batch, slots, dim]``.
    key: the teacher's slots of the other view, same shape.
    query_wins: ``[batch, slots]`` bool, slots that win a pixel, from `group_pixels`.
    key_wins: the same of the teacher's view.
    student_temperature: > 0.
    teacher_temperature: > 0.
    temperature: of `slot_info_nce`, > 0.
    group_weight: between 0, slots alone, and 1, grouping alone.
    where: ``[batch]`` bool, images that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products of slots; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Scalar float32, >= 0, the same on all shards.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Wen et al., `Self-Supervised Visual Representation Learning with Semantic Grouping
    <https://arxiv.org/abs/2205.15288>`_, 2022, section 3.
  """
  grouping = ibot(
    student_scores,
    teacher_scores,
    jnp.ones(jnp.shape(student_scores)[:2], bool),
    center,
    student_temperature=student_temperature,
    teacher_temperature=teacher_temperature,
  )
  contrast = slot_info_nce(
    query,
    key,
    query_wins,
    key_wins,
    temperature=temperature,
    where=where,
    tile_size=tile_size,
    precision=precision,
    axis_name=axis_name,
  )
  grouping = batch_mean(grouping, axis_name, where=where)
  return group_weight * grouping + (1 - group_weight) * contrast


def _winners(query, column, shared, precision) -> PairSums:
  """Logits of the slots that win a pixel."""
  del shared
  logits = jnp.matmul(query, column["z"].T, precision=precision)
  return PairSums((jnp.where(column["wins"][None], logits, -jnp.inf),))
