"""UMBC: a set seen in pieces gives what the whole set gives, on average its gradient too."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32
from repjax.encoders.deep_sets import check_set
from repjax.encoders.features import Features
from repjax.encoders.mlp import MLP
from repjax.encoders.transformer import check_heads


class SlotSums(NamedTuple):
  """What slots found in the elements so far; sums of two parts of a set are added.

  Attributes:
    found: ``[batch, slots, heads, head_dim]`` float32, weighted values.
    weight: ``[batch, slots, heads]`` float32, weights.
  """

  found: jax.Array
  weight: jax.Array


class UMBC(nn.Module):
  """Slots that sum over a set, and any encoder of sets, consistent or not, over the slots.

  A slot weighs an element by a positive function of that element alone, so that numerator and
  denominator of its average are sums over elements: each partition of a set has the same.

  Attributes:
    decoder: encoder of sets ``[batch, slots, dim]``, such as `SetTransformer`.
    dims: widths of the net that sees each element alone; none if empty.
    slots: number of slots.
    dim: width of a slot.
    heads: attention heads; divides ``dim``.
    activation: of the scores. ``slot_sigmoid`` has the slots share each element, as the paper's
      experiments do, and so has ``slot_softmax``; ``sigmoid`` does not; ``exp`` makes the average a
      softmax over the set, with scores cut off at 10 as in the official code.
    dtype: of the computation; parameters are float32, and so are sums.

  References:
    Willette et al., `Scalable Set Encoding with Universal Mini-Batch Consistency and Unbiased Full
    Set Gradient Approximation <https://arxiv.org/abs/2208.12401>`_, 2022, section 3.
    Slots are deterministic and, as in the official code, added to what they found before a norm.
  """

  decoder: nn.Module
  dims: Sequence[int] = (128, 128)
  slots: int = 32
  dim: int = 128
  heads: int = 4
  activation: Literal["slot_sigmoid", "slot_softmax", "sigmoid", "exp"] = "slot_sigmoid"
  dtype: DTypeLike = jnp.float32

  def setup(self):
    check_heads(self.dim, self.heads)
    layer = lambda: nn.Dense(
      self.dim, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform()
    )
    self.each = MLP(self.dims, dtype=self.dtype) if self.dims else None
    init = nn.initializers.xavier_uniform()
    self.table = self.param("table", init, (self.slots, self.dim))
    self.query, self.key, self.value = layer(), layer(), layer()
    self.norm = nn.LayerNorm(1e-6, dtype=self.dtype)

  def __call__(
    self,
    elements: jax.Array,
    *,
    train: bool = False,
    where: jax.Array | None = None,
    learn: jax.Array | None = None,
  ) -> Features:
    """Encodes sets.

    Args:
      elements: ``[batch, n, any]``, floating.
      train: handed on to the decoder.
      where: ``[batch, n]`` boolean, the elements that are there, for sets of unequal size; all if
        absent.
      learn: ``[batch, m]`` int32, the elements that gradients go through, drawn without
        replacement; all if absent. The value is that of the whole set. Its gradient, with respect
        to parameters and decoder alike, has that of the whole set as its mean over draws.

    Returns:
      The decoder's features, whose ``tokens`` are of slots, with the slots first among ``layers``.

    Raises:
      ValueError: if ``elements`` is not rank 3, ``where`` does not fit it, or ``heads`` does not
        divide ``dim``.
    """
    sums = self.sums(elements, where)
    if learn is not None:
      there = jnp.ones(elements.shape[:2], bool) if where is None else where
      chosen = jnp.take_along_axis(there, learn, 1)
      part = self.sums(jnp.take_along_axis(elements, learn[..., None], 1), chosen)
      scale = jnp.sum(there, 1) / jnp.maximum(jnp.sum(chosen, 1), 1)
      sums = unbiased(sums, part, scale)
    return self.finalize(sums, train=train)

  def sums(self, elements: jax.Array, where: jax.Array | None = None) -> SlotSums:
    """What the slots find in a part of a set.

    Args:
      elements: ``[batch, n, any]``.
      where: ``[batch, n]`` boolean, those that are there; all if absent.

    Returns:
      The sums of this part.
    """
    check_set(elements, where)
    x = self.each(elements) if self.dims else elements
    split = lambda y: y.reshape(*y.shape[:-1], self.heads, self.dim // self.heads)
    query, key, value = split(self._queries()), split(self.key(x)), split(self.value(x))
    scores = jnp.einsum("shd,bnhd->bnsh", at_least_float32(query), key)
    weights = self._weights(scores * query.shape[-1] ** -0.5)
    if where is not None:
      weights = jnp.where(where[..., None, None], weights, 0)
      value = jnp.where(where[..., None, None], value, 0)
    found = jnp.einsum("bnsh,bnhd->bshd", weights, at_least_float32(value))
    return SlotSums(found, jnp.sum(weights, 1))

  def finalize(self, sums: SlotSums, *, train: bool = False) -> Features:
    """Averages, and what the decoder makes of them.

    Args:
      sums: of the whole set.
      train: handed on to the decoder.

    Returns:
      As calling the module does.
    """
    average = sums.found / jnp.maximum(sums.weight, 1e-20)[..., None]
    slots = average.reshape(*average.shape[:2], self.dim) + self._queries()[None]
    slots = self.norm(slots.astype(self.dtype))
    features = self.decoder(slots, train=train)
    return features._replace(layers=(slots, *features.layers))

  def _queries(self):
    return self.query(self.table)

  def _weights(self, scores):
    """Positive weights of ``[batch, n, slots, heads]`` scores, those of an element by it alone."""
    if self.activation == "slot_softmax":
      return jax.nn.softmax(scores, 2)
    if self.activation == "exp":
      return jnp.exp(jnp.minimum(scores, 10))
    weights = jax.nn.sigmoid(scores)
    if self.activation == "slot_sigmoid":
      weights = weights / jnp.sum(weights, 2, keepdims=True)
    return weights


def unbiased(whole: SlotSums, part: SlotSums, scale: jax.Array | float) -> SlotSums:
  """Sums of a whole set, with the gradient of a part that stands for it.

  The official code multiplies gradients of parameters instead, which is wrong for the slots where
  they are added to what they found; here what lies after the sums has its own gradient.

  Args:
    whole: sums of all elements, through which no gradient goes.
    part: sums of some, drawn without replacement.
    scale: how many all are, divided by how many some are; ``[batch]`` or one number.

  Returns:
    The values of ``whole``; the gradient is ``scale`` times that of ``part``, whose mean over draws
    is that of ``whole``.

  References:
    Willette et al., 2022, section 3.
  """

  def estimate(whole, part):
    factor = jnp.broadcast_to(scale, len(whole)).reshape(-1, *[1] * (whole.ndim - 1))
    return lax.stop_gradient(whole) + factor * (part - lax.stop_gradient(part))

  return SlotSums(*map(estimate, whole, part))


class Stream(NamedTuple):
  """A set seen in pieces, whose state has the size of the slots.

  Attributes:
    init: ``batch -> sums`` of no elements.
    update: ``(variables, sums, elements, where=None) -> sums`` with those of ``elements``
      ``[batch, n, any]``.
    combine: ``(sums, sums) -> sums`` of two parts; associative and commutative.
    finalize: ``(variables, sums) -> Features`` of the set.
  """

  init: Callable[[int], SlotSums]
  update: Callable[..., SlotSums]
  combine: Callable[[SlotSums, SlotSums], SlotSums]
  finalize: Callable[[Any, SlotSums], Features]


def stream(umbc: UMBC) -> Stream:
  """The functions by which an encoder takes in a set piece by piece.

  Args:
    umbc: the encoder.

  Returns:
    The functions; ``lax.scan`` over pieces of one size needs their memory once. For training, sum
    all pieces under ``lax.stop_gradient`` and join them with one piece by `unbiased`.
  """

  def init(batch):
    shape = (batch, umbc.slots, umbc.heads)
    return SlotSums(jnp.zeros((*shape, umbc.dim // umbc.heads)), jnp.zeros(shape))

  combine = lambda sums_1, sums_2: jax.tree.map(jnp.add, sums_1, sums_2)

  def update(variables, sums, elements, where=None):
    return combine(sums, umbc.apply(variables, elements, where, method="sums"))

  finalize = lambda variables, sums: umbc.apply(variables, sums, method="finalize")
  return Stream(init, update, combine, finalize)
