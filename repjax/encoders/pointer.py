"""Pointer network: reads a sequence, then points at its elements one after another."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32
from repjax.encoders.deep_sets import check_set
from repjax.encoders.features import Features

#: Score of what cannot be pointed at: finite, for the sake of cross entropies.
NEVER = -1e30


class Pointed(NamedTuple):
  """What a pointer network read and where it points.

  Attributes:
    features: of the elements as read; ``pooled`` is the state after the last one.
    logits: ``[batch, steps, choices]`` float32; choices are the elements and, if there is one,
      the end after them, or the vocabulary.
    pointers: ``[batch, steps]`` int32, the best choice of each step.
  """

  features: Features
  logits: jax.Array
  pointers: jax.Array


class PointerNetwork(nn.Module):
  r"""An LSTM that reads and one that points, by attention whose weights are the output.

  .. math:: u^i_j = v^\top \tanh(W_1 e_j + W_2 d_i), \quad
            p(C_i = j \mid C_1 \dots C_{i-1}, P) = \mathrm{softmax}(u^i)_j

  The element that was pointed at is what the second LSTM reads next. There are as many choices as
  elements, so that no parameter depends on their number.

  Attributes:
    dim: width of both states.
    end: whether pointing may stop: the choice after the last element, with learned keys and input.
    again: whether an element may be pointed at twice, as in the paper; the end always may.
    vocabulary: the paper's rival, a sequence-to-sequence model with attention: this many choices,
      from the state and what attention blends. None for pointers.
    dtype: of the computation; parameters and scores are float32.

  References:
    Vinyals, Fortunato, Jaitly, `Pointer Networks <https://arxiv.org/abs/1506.03134>`_, 2015,
    sections 2.2 and 2.3, equation 3.
  """

  dim: int
  end: bool = False
  again: bool = True
  vocabulary: int | None = None
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    elements: jax.Array,
    *,
    train: bool = False,
    where: jax.Array | None = None,
    targets: jax.Array | None = None,
    steps: int | None = None,
  ) -> Pointed:
    """Reads and points.

    Args:
      elements: ``[batch, n, any]``, floating, in the order in which they are read.
      train: without effect; every encoder takes it.
      where: ``[batch, n]`` boolean, the elements that are there; all if absent. The others are not
        read and never pointed at.
      targets: ``[batch, steps]`` int32 choices that are read in place of its own: teacher forcing.
        -1 reads the first element and is for the caller to leave out. Greedy if absent.
      steps: how many choices to make without ``targets``; ``n``, and one for the end, if absent.

    Returns:
      Where it points.

    Raises:
      ValueError: if ``elements`` is not rank 3, or ``where`` or ``steps`` do not fit.
    """
    del train
    check_set(elements, where)
    batch, count, width = elements.shape
    if targets is not None and steps not in (None, targets.shape[1]):
      raise ValueError(
        f"targets have {targets.shape[1]} steps, got steps={steps}; leave steps= out"
      )
    steps = count + self.end if steps is None else steps
    there = jnp.ones((batch, count), bool) if where is None else where
    elements = elements.astype(self.dtype)
    share = {"variable_broadcast": "params", "split_rngs": {"params": False}}
    read = nn.scan(_Read, in_axes=1, out_axes=1, **share)
    state = (jnp.zeros((batch, self.dim), self.dtype),) * 2
    state, states = read(self.dim, self.dtype, name="reader")(state, (elements, there))
    features = Features(state[1], states, (states,))

    start, stop = self.param("inputs", nn.initializers.normal(0.1), (2, width)).astype(self.dtype)
    if self.end:
      last = self.param("end", nn.initializers.normal(0.1), (self.dim,)).astype(self.dtype)
      append = lambda x, row: jnp.concatenate([x, jnp.broadcast_to(row, (batch, 1, len(row)))], 1)
      elements, states = append(elements, stop), append(states, last)
      there = jnp.pad(there, ((0, 0), (0, 1)), constant_values=True)
    keys = nn.Dense(self.dim, use_bias=False, dtype=self.dtype, name="key")(states)
    length = steps if targets is None else None
    point = nn.scan(_Point, in_axes=(1, *[nn.broadcast] * 3), out_axes=1, length=length, **share)
    point = point(self.dim, self.end, self.again, self.vocabulary, self.dtype, name="pointer")
    first = jnp.broadcast_to(start, (batch, width))
    carry = (state, first, there)
    _, (logits, pointers) = point(carry, targets, elements, states, keys)
    return Pointed(features, logits, pointers)


class _Read(nn.Module):
  dim: int
  dtype: DTypeLike

  @nn.compact
  def __call__(self, state, inputs):
    x, there = inputs
    after, y = nn.OptimizedLSTMCell(self.dim, dtype=self.dtype, name="cell")(state, x)
    return jax.tree.map(lambda a, b: jnp.where(there[:, None], a, b), after, state), y


class _Point(nn.Module):
  dim: int
  end: bool
  again: bool
  vocabulary: int | None
  dtype: DTypeLike

  @nn.compact
  def __call__(self, carry, target, elements, states, keys):
    state, x, free = carry
    state, y = nn.OptimizedLSTMCell(self.dim, dtype=self.dtype, name="cell")(state, x)
    query = nn.Dense(self.dim, use_bias=False, dtype=self.dtype, name="query")(y)
    weight = nn.Dense(1, use_bias=False, dtype=self.dtype, name="weight")
    scores = at_least_float32(weight(jnp.tanh(keys + query[:, None]))[..., 0])
    scores = jnp.where(free, scores, NEVER)
    if self.vocabulary is not None:
      blend = jnp.einsum("bn,bnd->bd", jax.nn.softmax(scores).astype(self.dtype), states)
      both = jnp.concatenate([y, blend], -1)
      scores = at_least_float32(nn.Dense(self.vocabulary, dtype=self.dtype, name="out")(both))
    pointer = jnp.argmax(scores, -1).astype(jnp.int32)
    chosen = pointer if target is None else target
    # A word of the vocabulary may stand for an element that is not there: the last is read.
    row = jnp.clip(chosen, 0, elements.shape[1] - 1)
    x = jnp.take_along_axis(elements, row[:, None, None], 1)[:, 0]
    if not self.again:
      used = jax.nn.one_hot(row, elements.shape[1], dtype=bool)
      used = used.at[:, -1].set(False) if self.end else used
      free = free & ~used
    return (state, x, free), (scores, pointer)
