"""Softmax attention, the core of every transformer here."""

from functools import partial

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  where: jax.Array | None = None,
  bias: jax.Array | None = None,
) -> jax.Array:
  """Softmax attention in plain products, for XLA to fuse.

  The backward pass reads the weights, in the dtype of the inputs, and nothing else of their size;
  that of `jax.nn.dot_product_attention` without cuDNN also reads float32 exponentials, and
  multiplies float32 gradients of the scores. Either can be differentiated forwards.

  Args:
    query: ``[..., queries, heads, head_dim]``.
    key: ``[..., keys, heads, head_dim]``.
    value: same shape as ``key``.
    where: boolean, broadcast to ``[..., heads, queries, keys]``: what each query may see; all if
      absent. Queries that may see nothing find 0.
    bias: ``[..., heads, queries, keys]`` with axes of 1 where it is shared, added to the scores;
      none if absent.

  Returns:
    Same shape as ``query``.
  """
  query = query * jnp.asarray(query.shape[-1] ** -0.5, query.dtype)
  # A CPU multiplies matrices that lie together, heads first; to bring few tokens there costs more
  # than it saves (benchmarks/NOTES.md).
  if key.shape[-3] < 32:
    weights = _weights("...qhd,...khd->...hqk", query, key, where, bias)
    return jnp.einsum("...hqk,...khd->...qhd", weights, value)
  query, key, value = (jnp.swapaxes(x, -3, -2) for x in (query, key, value))
  weights = _weights("...qd,...kd->...qk", query, key, where, bias)
  return jnp.swapaxes(jnp.matmul(weights, value), -3, -2)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _weights(
  axes: str,
  query: jax.Array,
  key: jax.Array,
  where: jax.Array | None,
  bias: jax.Array | None,
) -> jax.Array:
  dtype = jnp.promote_types(query.dtype, jnp.float32)
  scores = jnp.einsum(axes, query, key, preferred_element_type=dtype)
  if bias is not None:
    scores = scores + bias.astype(dtype)
  return jax.nn.softmax(scores, where=where).astype(query.dtype)


@_weights.defjvp
def _weights_jvp(axes, primals, tangents):
  (query, key, where, bias), (d_query, d_key, _, d_bias) = primals, tangents
  weights = _weights(axes, query, key, where, bias)
  product = lambda *args: jnp.einsum(axes, *args)
  # Products give what they take, so that gradients of scores, too, are multiplied as such.
  change = product(d_query, key) + product(query, d_key)
  if bias is not None:
    change = change + d_bias.astype(change.dtype)
  return weights, _softmax_change(weights, change)


@jax.checkpoint  # keeps the weights as they are, not as they are computed with
def _softmax_change(weights, change):
  wide, change = at_least_float32(weights), at_least_float32(change)
  return (wide * (change - jnp.sum(wide * change, -1, keepdims=True))).astype(weights.dtype)
