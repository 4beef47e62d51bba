"""Whether an image and a text belong together, as wholes and word by word."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize, masked_mean
from repjax.losses.layout import gather
from repjax.losses.pairs import log_sum_exp
from repjax.losses.partners import apart, places


def hard_negatives(
  key: jax.Array,
  anchor: jax.Array,
  other: jax.Array,
  *,
  temperature: float | jax.Array = 0.07,
  labels: jax.Array | None = None,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Draws for each row one wrong partner, the likelier the more alike they are.

  .. math:: P(j \mid i) \propto \exp(\langle a_i, o_j\rangle / \tau), \quad j \notin P(i)

  The positives :math:`P(i)` are the row's own partner and those with its label. For images and
  texts call it once each way, with keys of their own. Unlike BLIP's code it adds no small constant
  to the probabilities: the draw is made on logits, which do not underflow. What is drawn for a row
  does not depend on how the batch is spread over devices.

  Args:
    key: random key, the same on all shards.
    anchor: ``[batch, dim]``; normalised inside.
    other: the partners, row-aligned with ``anchor``, ``[batch, dim]``; normalised inside.
    temperature: softmax temperature, > 0.
    labels: ``[batch]`` int, which image or caption a row shows; -1 is like nothing else.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Where in the whole batch the negative stands, ``[batch]`` int32; -1 where there is none or
    ``where`` is false. Pick rows with it out of what `gather` returns.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Li et al., `Align before Fuse: Vision and Language Representation Learning with Momentum
    Distillation <https://arxiv.org/abs/2107.07651>`_, 2021, section 3.2.
  """
  check_same_shape(2, anchor=anchor, other=other)
  anchor, other = (l2_normalize(at_least_float32(x)) for x in (anchor, other))
  row = places(len(anchor), where, axis_name) | {"other": other}
  if labels is not None:
    row["label"] = labels
  column = gather(row, axis_name)
  allowed = apart(row, column)
  if labels is not None:
    alike = row["label"][:, None] == column["label"][None, :]
    allowed &= ~alike | (row["label"] < 0)[:, None]
  logits = jnp.matmul(anchor, column["other"].T, precision="highest") / temperature
  logits = jnp.where(allowed, logits, -jnp.inf)

  def draw(index, logits):
    # Of the row's place in the whole batch, so that all layouts draw alike.
    return jax.random.categorical(jax.random.fold_in(key, index), logits)

  drawn = jax.vmap(draw)(row["index"], logits)
  return jnp.where(jnp.any(allowed, 1), drawn, -1).astype(jnp.int32)


def image_text_matching(
  positive: jax.Array, negatives: jax.Array, *, mask: jax.Array | None = None
) -> jax.Array:
  r"""Binary cross entropy that tells a true pair from wrong ones.

  .. math::
    \ell = \frac{1}{1 + n} \Big( -\log \sigma(s^+) - \sum_{j=1}^n \log(1 - \sigma(s^-_j)) \Big)

  With one hard negative text and one hard negative image per pair (see `hard_negatives`) the mean
  over the batch is that of ALBEF and BLIP, whose head has two logits: :math:`s` is their
  difference.

  Args:
    positive: logits of the true pairs, ``[batch]``.
    negatives: logits of each one's wrong pairs, ``[batch, n]``.
    mask: ``[batch, n]`` bool, negatives that there are; all if absent.

  Returns:
    Loss per true pair, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Li et al., `Align before Fuse: Vision and Language Representation Learning with Momentum
    Distillation <https://arxiv.org/abs/2107.07651>`_, 2021, section 3.2.
    Li et al., `BLIP: Bootstrapping Language-Image Pre-training for Unified Vision-Language
    Understanding and Generation <https://arxiv.org/abs/2201.12086>`_, 2022.
  """
  shapes = {"positive": jnp.shape(positive), "negatives": jnp.shape(negatives)}
  if jnp.ndim(positive) != 1 or jnp.shape(negatives)[:-1] != jnp.shape(positive):
    raise ValueError(f"expected positive [batch] and negatives [batch, n], got {shapes}")
  mask = jnp.ones(shapes["negatives"], bool) if mask is None else mask
  check_same_shape(2, negatives=negatives, mask=mask)
  wrong = jax.nn.softplus(at_least_float32(negatives))
  right = jax.nn.softplus(-at_least_float32(positive))
  total = right + jnp.sum(jnp.where(mask, wrong, 0), 1)
  return total / (1 + jnp.sum(mask, 1))


def word_region_alignment(
  words: jax.Array,
  regions: jax.Array,
  *,
  word_mask: jax.Array | None = None,
  region_mask: jax.Array | None = None,
  beta: float = 0.5,
  iterations: int = 50,
) -> jax.Array:
  r"""Cost of carrying the words of a text over to the regions of an image.

  .. math::
    \ell = \min_{T \geq 0} \sum_{ij} T_{ij} (1 - \cos(w_i, r_j)), \quad
    T \mathbf 1 = \tfrac{1}{n} \mathbf 1, \; T^\top \mathbf 1 = \tfrac{1}{m} \mathbf 1

  The plan :math:`T` is found by proximal point iterations (IPOT) with one Sinkhorn step each, and
  as in UNITER's code no gradient flows through it, so that the gradient is that of the minimum.
  UNITER subtracts the cost of wrong pairs from that of true pairs, weighs both by 0.1, and adds
  them to `image_text_matching`.

  Args:
    words: ``[batch, words, dim]``; normalised inside.
    regions: ``[batch, regions, dim]``; normalised inside.
    word_mask: ``[batch, words]`` bool, words that are no padding; all if absent.
    region_mask: ``[batch, regions]`` bool, regions that are no padding; all if absent.
    beta: weight of the proximal term, > 0; the step is its inverse.
    iterations: how many.

  Returns:
    Cost per pair, ``[batch]`` float32, in [0, 2]; 0 where one side is all padding.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Chen et al., `UNITER: UNiversal Image-TExt Representation Learning
    <https://arxiv.org/abs/1909.11740>`_, 2019, section 3.2.
    Xie et al., `A Fast Proximal Point Method for Computing Exact Wasserstein Distance
    <https://arxiv.org/abs/1802.04307>`_, 2018, algorithm 1.
  """
  shapes = {"words": jnp.shape(words), "regions": jnp.shape(regions)}
  ends = [shape[:1] + shape[2:] for shape in shapes.values()]
  if jnp.ndim(words) != 3 or jnp.ndim(regions) != 3 or ends[0] != ends[1]:
    raise ValueError(f"expected [batch, words, dim] and [batch, regions, dim], got {shapes}")
  word_mask = jnp.ones(shapes["words"][:2], bool) if word_mask is None else word_mask
  region_mask = jnp.ones(shapes["regions"][:2], bool) if region_mask is None else region_mask
  masks = {"word_mask": jnp.shape(word_mask), "region_mask": jnp.shape(region_mask)}
  if tuple(masks.values()) != (shapes["words"][:2], shapes["regions"][:2]):
    raise ValueError(f"expected masks without the last axis of {shapes}, got {masks}")
  words, regions = (l2_normalize(at_least_float32(x)) for x in (words, regions))
  cost = 1 - jnp.einsum("bid,bjd->bij", words, regions, precision="highest")
  plan = _transport_plan(lax.stop_gradient(cost), word_mask, region_mask, beta, iterations)
  return jnp.sum(plan * cost, (1, 2))


def masked_soft_labels(logits: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:
  r"""Kullback-Leibler divergence to soft labels of what was hidden.

  .. math:: \ell = \frac{1}{|M|} \sum_{r \in M} \sum_c q_{rc} \log \frac{q_{rc}}{p_{rc}}

  UNITER's masked region classification with a detector's class probabilities as :math:`q`. Its code
  takes the mean over classes too, so that its value is ours divided by the number of classes. Its
  masked region feature regression is `repjax.losses.masked.masked_pixels` with ``norm="l2"``. No
  gradient reaches ``target``.

  Args:
    logits: of each region's class, ``[batch, regions, classes]``.
    target: probabilities of its classes, same shape.
    mask: what was hidden, ``[batch, regions]`` bool.

  Returns:
    Loss per image, ``[batch]`` float32, >= 0; 0 where nothing is masked.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Chen et al., `UNITER: UNiversal Image-TExt Representation Learning
    <https://arxiv.org/abs/1909.11740>`_, 2019, section 3.2.
  """
  check_same_shape(3, logits=logits, target=target)
  if jnp.shape(mask) != jnp.shape(target)[:2]:
    raise ValueError(f"expected mask of shape {jnp.shape(target)[:2]}, got {jnp.shape(mask)}")
  target = at_least_float32(lax.stop_gradient(target))
  log_prediction = jax.nn.log_softmax(at_least_float32(logits))
  log_target = jnp.log(jnp.where(target > 0, target, 1))
  return masked_mean(jnp.sum(target * (log_target - log_prediction), -1), mask, axis=1)


def _transport_plan(cost, word_mask, region_mask, beta, iterations) -> jax.Array:
  """IPOT's plan, ``[batch, words, regions]``, worked out on logarithms; 0 in padded places."""

  def share(mask):
    return -jnp.log(jnp.maximum(jnp.sum(mask, 1, keepdims=True), 1).astype(cost.dtype))

  def scale(share, logits, axis):
    total = log_sum_exp(logits, axis)
    return jnp.where(jnp.isfinite(total), share - total, 0)  # padding has no share

  word_share, region_share = share(word_mask), share(region_mask)

  def step(state, _):
    log_plan, of_words = state
    log_plan = log_plan - cost / beta
    of_regions = scale(region_share, log_plan + of_words[:, :, None], 1)
    of_words = scale(word_share, log_plan + of_regions[:, None, :], 2)
    return (of_words[:, :, None] + log_plan + of_regions[:, None, :], of_words), None

  both = word_mask[:, :, None] & region_mask[:, None, :]
  # Sums with the costs, so that a loop's carry varies over the mapped axes over which they vary.
  start = jnp.where(both, 0 * cost, -jnp.inf), word_share + 0 * cost[:, :, 0]
  (log_plan, _), _ = lax.scan(step, start, length=iterations)
  return jnp.exp(log_plan)
