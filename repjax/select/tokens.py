"""Where tokens go when there are to be fewer: keeping, merging, tracing, putting back."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32


class Reduction(NamedTuple):
  """Where tokens go when there are to be fewer.

  Attributes:
    kept: ``[batch, left]`` int32: the token whose place each of those left takes.
    target: ``[batch, tokens]`` int32: which of those left each token goes into; -1 if it is dropped
      without trace.
  """

  kept: jax.Array
  target: jax.Array


def reduction_into(into: jax.Array, left: int, kept: jax.Array | None = None) -> Reduction:
  """A reduction from the token that each token goes into.

  Args:
    into: ``[batch, tokens]`` integers: itself for a token that stays, one that stays for a token
      that is merged, -1 for one that is dropped.
    left: how many stay, in every row.
    kept: ``[batch, left]`` integers, those that stay in another order; their own if absent.

  Returns:
    The reduction.
  """
  tokens = into.shape[1]
  if kept is None:
    kept = jnp.argsort(into != jnp.arange(tokens)[None], axis=1, stable=True)[:, :left]
  place = jax.vmap(lambda row: jnp.zeros(tokens, int).at[row].set(jnp.arange(left)))(kept)
  target = jnp.where(into < 0, -1, jnp.take_along_axis(place, jnp.maximum(into, 0), 1))
  return Reduction(kept.astype(jnp.int32), target.astype(jnp.int32))


def keep_only(kept: jax.Array, tokens: int) -> Reduction:
  """A reduction that drops all but some tokens.

  Args:
    kept: ``[batch, left]`` integers, distinct in a row, in any order.
    tokens: how many there are.

  Returns:
    The reduction, in the tokens' order.
  """
  kept = jnp.sort(kept, axis=1).astype(jnp.int32)
  places = jnp.arange(kept.shape[1], dtype=jnp.int32)
  target = jax.vmap(lambda row: jnp.full(tokens, -1, jnp.int32).at[row].set(places))(kept)
  return Reduction(kept, target)


def keep_all(batch: int, tokens: int) -> Reduction:
  """The reduction that changes nothing.

  Args:
    batch: rows.
    tokens: in each.

  Returns:
    The reduction.
  """
  same = jnp.broadcast_to(jnp.arange(tokens, dtype=jnp.int32)[None], (batch, tokens))
  return Reduction(same, same)


def behind(reduction: Reduction, prefix: int) -> Reduction:
  """The reduction of a sequence whose first tokens stay.

  Args:
    reduction: of the tokens behind them.
    prefix: how many stay, such as the class token.

  Returns:
    The reduction of all.
  """
  first = jnp.arange(prefix, dtype=jnp.int32)[None]
  first = jnp.broadcast_to(first, (len(reduction.kept), prefix))
  target = jnp.where(reduction.target < 0, -1, reduction.target + prefix)
  join = lambda x: jnp.concatenate([first, x], 1)
  return Reduction(join(reduction.kept + prefix), join(target))


def compose(first: Reduction, second: Reduction) -> Reduction:
  """One reduction after another, as one.

  Args:
    first: of all tokens.
    second: of those that the first leaves.

  Returns:
    The reduction of all tokens to those that the second leaves.
  """
  kept = jnp.take_along_axis(first.kept, second.kept, 1)
  target = jnp.take_along_axis(second.target, jnp.maximum(first.target, 0), 1)
  return Reduction(kept, jnp.where(first.target < 0, -1, target))


def take(reduction: Reduction, x: jax.Array) -> jax.Array:
  """The tokens that are kept, as they are.

  Args:
    reduction: which.
    x: ``[batch, tokens, ...]``.

  Returns:
    ``[batch, left, ...]``.
  """
  return jax.vmap(lambda row, kept: row[kept])(x, reduction.kept)


def add_up(reduction: Reduction, x: jax.Array) -> jax.Array:
  """Sums of what goes into each of those left.

  Args:
    reduction: what goes where.
    x: ``[batch, tokens, ...]``, floating.

  Returns:
    ``[batch, left, ...]``, float32 at least.
  """
  left = reduction.kept.shape[1]

  def one(target, row):
    zero = jnp.zeros((left, *row.shape[1:]), row.dtype)
    return zero.at[jnp.where(target < 0, left, target)].add(row, mode="drop")

  return jax.vmap(one)(reduction.target, at_least_float32(x))


def merge(
  reduction: Reduction, x: jax.Array, sizes: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
  """Means of what goes into each of those left, by size.

  Args:
    reduction: what goes where.
    x: ``[batch, tokens, dim]``, floating.
    sizes: ``[batch, tokens]``, for how many tokens each stands; one if absent.

  Returns:
    Tokens ``[batch, left, dim]`` in the dtype of ``x``, and sizes ``[batch, left]`` in float32.

  References:
    Bolya et al., `Token Merging: Your ViT But Faster <https://arxiv.org/abs/2210.09461>`_, 2022,
    section 3.
  """
  sizes = jnp.ones(x.shape[:2]) if sizes is None else at_least_float32(sizes)
  total = add_up(reduction, sizes)
  mean = add_up(reduction, at_least_float32(x) * sizes[..., None]) / total[..., None]
  return mean.astype(x.dtype), total


def token_sizes(reduction: Reduction) -> jax.Array:
  """How many tokens each of those left stands for.

  Args:
    reduction: what went where.

  Returns:
    ``[batch, left]`` float32.
  """
  return add_up(reduction, jnp.ones(reduction.target.shape, jnp.float32))


def unmerge(reduction: Reduction, x: jax.Array) -> jax.Array:
  """Puts tokens back: each gets what it went into, for maps of as many places as before.

  Args:
    reduction: what went where.
    x: ``[batch, left, ...]``.

  Returns:
    ``[batch, tokens, ...]``, 0 where a token was dropped.
  """

  def one(row, target):
    there = (target >= 0).reshape(-1, *[1] * (row.ndim - 1))
    return jnp.where(there, row[jnp.maximum(target, 0)], jnp.zeros((), row.dtype))

  return jax.vmap(one)(x, reduction.target)


def check_left(left: int, tokens: int, least: int = 1) -> None:
  """Raises unless a number of tokens can be left.

  Args:
    left: how many are wanted.
    tokens: how many there are.
    least: the fewest that the method can leave.

  Raises:
    ValueError: with all three.
  """
  if not least <= left <= tokens:
    raise ValueError(f"of {tokens} tokens {least} to {tokens} can be left, got left={left}")
