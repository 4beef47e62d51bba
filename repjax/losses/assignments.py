"""Soft assignments in which every prototype gets its share of the batch."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32
from repjax.losses.layout import batch_sum


def sinkhorn(
  scores: jax.Array,
  *,
  epsilon: float | jax.Array = 0.05,
  iterations: int = 3,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Assignments of examples to prototypes that use all prototypes about equally.

  Of all :math:`Q \geq 0` in which each of n examples has weight 1 and each of k prototypes weight
  n / k, the one that maximises

  .. math:: \langle Q, S \rangle + \varepsilon H(Q)

  is :math:`Q_{ij} = \exp(S_{ij} / \varepsilon - u_i - v_j)`. Each iteration sets v, so that the
  weights of prototypes are right, then u, so that those of examples are. After a few, the rows sum
  to 1 and the columns nearly to n / k. The potentials u and v stay logarithms throughout, so that
  no ``epsilon`` is too small; otherwise this is SwAV's code, lightly's ``sinkhorn`` and DINOv2's
  ``sinkhorn_knopp_teacher``, where ``epsilon`` is the teacher's temperature.

  Those let no gradient through. Here it flows, as some losses need, and those that take
  assignments stop it. To balance over a queue too, put its scores below those of the batch and
  drop its rows after.

  Args:
    scores: similarities of examples and prototypes, ``[batch, prototypes]``; -inf forbids a pair.
    epsilon: weight of the entropy, > 0; assignments become one-hot as it falls.
    iterations: how often columns and rows are scaled, >= 1.
    where: ``[batch]`` bool, examples that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Assignments, ``[batch, prototypes]`` float32, rows that sum to 1; 0 where ``where`` is false.

  Raises:
    ValueError: if ``scores`` is not rank 2 or there is no iteration.

  References:
    Cuturi, `Sinkhorn Distances: Lightspeed Computation of Optimal Transport
    <https://arxiv.org/abs/1306.0895>`_, 2013.
    Caron et al., `Unsupervised Learning of Visual Features by Contrasting Cluster Assignments
    <https://arxiv.org/abs/2006.09882>`_, 2020, section 3.1.
  """
  if jnp.ndim(scores) != 2:
    raise ValueError(f"expected scores [batch, prototypes], got shape {jnp.shape(scores)}")
  if iterations < 1:
    raise ValueError(f"iterations={iterations} scales nothing; take at least 1")
  logits = at_least_float32(scores) / epsilon
  if where is None:
    counted = logits
  else:
    logits = jnp.where(where[:, None], logits, 0)
    counted = jnp.where(where[:, None], logits, -jnp.inf)

  def balanced(of_row):
    return logits - _log_sum(counted - of_row[:, None], 0, axis_name)[None]

  of_row = lax.fori_loop(
    0,
    iterations - 1,
    lambda _, of_row: _log_sum(balanced(of_row), 1),
    jnp.zeros_like(logits[:, 0]),
  )
  assignments = jax.nn.softmax(balanced(of_row), -1)
  return assignments if where is None else jnp.where(where[:, None], assignments, 0)


def _log_sum(x: jax.Array, axis: int, axis_name: str | None = None) -> jax.Array:
  """Log-sum-exp, over the shards too; 0 where every term is left out."""
  peak = lax.stop_gradient(jnp.max(x, axis, keepdims=True))
  if axis_name is not None:
    peak = lax.pmax(peak, axis_name)
  peak = jnp.where(jnp.isfinite(peak), peak, 0)
  total = batch_sum(jnp.sum(jnp.exp(x - peak), axis), axis_name)
  some = total > 0
  return jnp.where(some, jnp.log(jnp.where(some, total, 1)) + jnp.squeeze(peak, axis), 0)
