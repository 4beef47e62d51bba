"""Tokens that the class token attends to: top k, EViT; and choices that look at nothing."""

import jax
import jax.numpy as jnp
import numpy as np

from repjax.arrays import at_least_float32
from repjax.select.tokens import Reduction, add_up, check_left, keep_only, reduction_into


def class_attention(
  query: jax.Array, key: jax.Array, prefix: int, *, sizes: jax.Array | None = None
) -> jax.Array:
  """How much the first token attends to each patch, as the mean over heads.

  Args:
    query: ``[batch, tokens, heads, head_dim]`` of a block, the class token first.
    key: same shape.
    prefix: tokens before the patches, at least the class token.
    sizes: ``[batch, tokens]``, for how many tokens each stands; one if absent.

  Returns:
    ``[batch, patches]``, float32 at least; the softmax is over all tokens, so that the sum is
    below 1.

  Raises:
    ValueError: if there is no class token.
  """
  if prefix < 1:
    raise ValueError("attention of the class token needs prefix >= 1, got 0; use pool='cls'")
  query, key = at_least_float32(query[:, 0]), at_least_float32(key)
  scores = jnp.einsum("bhd,bkhd->bhk", query, key) / query.shape[-1] ** 0.5
  if sizes is not None:
    scores = scores + jnp.log(sizes)[:, None]
  return jnp.mean(jax.nn.softmax(scores), 1)[:, prefix:]


def top_attention(attention: jax.Array, left: int) -> Reduction:
  """Keeps the tokens of highest attention.

  Args:
    attention: ``[batch, tokens]``, as of `class_attention`.
    left: how many to keep.

  Returns:
    The reduction; all others are dropped.

  Raises:
    ValueError: if there are fewer.
  """
  check_left(left, attention.shape[1])
  return keep_only(jax.lax.top_k(attention, left)[1], attention.shape[1])


def evit(attention: jax.Array, left: int) -> Reduction:
  """EViT: keeps the tokens of highest attention, and puts all others into one.

  Args:
    attention: ``[batch, tokens]``, as of `class_attention`.
    left: how many to leave, the fused one among them; at least 2, or all.

  Returns:
    The reduction, for `fuse`. The fused token takes the place of the first of those that go.

  Raises:
    ValueError: if there are fewer.

  References:
    Liang et al., `Not All Patches are What You Need: Expediting Vision Transformers via Token
    Reorganizations <https://arxiv.org/abs/2202.07800>`_, 2022. The official code puts the fused
    token last.
  """
  tokens = attention.shape[1]
  check_left(left, tokens, min(2, tokens))
  order = jnp.argsort(-attention, 1)
  place = lambda row: jnp.arange(tokens).at[row[left - 1 :]].set(row[left - 1])
  return reduction_into(jax.vmap(place)(order), left)


def fuse(reduction: Reduction, x: jax.Array, attention: jax.Array) -> jax.Array:
  """Sums of the tokens that share a place, weighted by their attention; the others stay.

  Args:
    reduction: of `evit`.
    x: ``[batch, tokens, dim]``.
    attention: ``[batch, tokens]``.

  Returns:
    ``[batch, left, dim]`` in the dtype of ``x``. Weights of a sum are as they are, not scaled to 1.

  References:
    Liang et al., `Not All Patches are What You Need: Expediting Vision Transformers via Token
    Reorganizations <https://arxiv.org/abs/2202.07800>`_, 2022, as in the official code.
  """
  shared = add_up(reduction, jnp.ones_like(attention)) > 1
  shared = jnp.take_along_axis(shared, jnp.maximum(reduction.target, 0), 1)
  weights = jnp.where(shared, attention, 1)
  return add_up(reduction, at_least_float32(x) * weights[..., None]).astype(x.dtype)


def uniform_tokens(batch: int, tokens: int, left: int) -> Reduction:
  """Keeps tokens at even distances: a control.

  Args:
    batch: rows.
    tokens: in each.
    left: how many to keep.

  Returns:
    The reduction; all others are dropped.

  Raises:
    ValueError: if there are fewer.
  """
  check_left(left, tokens)
  kept = ((np.arange(left) + 0.5) * tokens / left).astype(int)
  return keep_only(jnp.broadcast_to(jnp.asarray(kept)[None], (batch, left)), tokens)


def random_tokens(key: jax.Array, batch: int, tokens: int, left: int) -> Reduction:
  """Keeps tokens drawn at random: a control.

  Args:
    key: of the draws.
    batch: rows, each with draws of its own.
    tokens: in each.
    left: how many to keep.

  Returns:
    The reduction; all others are dropped.

  Raises:
    ValueError: if there are fewer.
  """
  check_left(left, tokens)
  order = jnp.argsort(jax.random.uniform(key, (batch, tokens)), 1)
  return keep_only(order[:, :left], tokens)
