"""Losses that keep a batch's neighbourhoods as a frozen encoder sees them."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, l2_normalize
from repjax.losses.layout import batch_mean, gather, kept


def structure_preservation(
  aligned: jax.Array,
  original: jax.Array,
  *,
  temperature: float | jax.Array = 0.07,
  levels: int = 1,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Jensen-Shannon divergence of who is near whom, one step and more steps away.

  Embeddings :math:`z` are scaled to unit length, then the mean of the batch is subtracted. With

  .. math::
    P_{ij} = \operatorname{softmax}_j(\langle \tilde z_i, \tilde z_j\rangle / \tau)

  and its power :math:`P^l`, a random walk of l steps, the loss of a row is

  .. math::
    \ell_i = \frac{1}{L} \sum_{l=1}^L \frac{1}{l}
      \operatorname{JS}\big( (P_{\text{original}}^l)_i, (P_{\text{aligned}}^l)_i \big)

  We follow the paper; its code passes the arguments of both divergences swapped, to the sum of
  :math:`\operatorname{KL}(M \| P)` in place of :math:`\operatorname{KL}(P \| M)`, where M is the
  mean of both. It adds ten times the mean of the images' and the texts' losses to CLIP's. No
  gradient reaches ``original``. Levels above 1 hold matrices of the whole batch squared on every
  device.

  Args:
    aligned: what the projection makes of it, ``[batch, dim]``.
    original: the frozen encoder's embedding, ``[batch, original_dim]``.
    temperature: softmax temperature, > 0.
    levels: steps of the longest walk, >= 1.
    where: ``[batch]`` bool, rows that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per row, ``[batch]`` float32, in [0, log 2]; 0 where ``where`` is false.

  Raises:
    ValueError: if the batches differ or there is no level.

  References:
    Gröger et al., `With Limited Data for Multimodal Alignment, Let the STRUCTURE Guide You
    <https://arxiv.org/abs/2506.16895>`_, 2025.
  """
  shapes = {"aligned": jnp.shape(aligned), "original": jnp.shape(original)}
  if any(len(shape) != 2 for shape in shapes.values()) or len(aligned) != len(original):
    raise ValueError(f"expected [batch, dim] and [batch, original_dim], got {shapes}")
  if levels < 1:
    raise ValueError(f"levels={levels} compares nothing; give 1 or more")
  keep = kept(where, len(aligned))
  walks = [
    _walk(at_least_float32(z), temperature, keep, axis_name)
    for z in (aligned, lax.stop_gradient(original))
  ]
  loss = _jensen_shannon(*walks)
  steps = gather(walks, axis_name) if levels > 1 else []
  for level in range(2, levels + 1):
    walks = [jnp.matmul(x, y, precision="highest") for x, y in zip(walks, steps, strict=True)]
    loss += _jensen_shannon(*walks) / level
  return jnp.where(keep, loss / levels, 0)


def _walk(z, temperature, keep, axis_name) -> jax.Array:
  """Where a step from each row leads, ``[batch, total]``; nowhere from rows left out."""
  z = l2_normalize(z)
  z -= batch_mean(z, axis_name, where=keep)[None, :]
  columns, kept = gather((z, keep), axis_name)
  logits = jnp.matmul(z, columns.T, precision="highest") / temperature
  both = keep[:, None] & kept[None, :]
  # A row that is left out may look at all rows, so that no softmax is over nothing.
  step = jax.nn.softmax(jnp.where(both | ~keep[:, None], logits, -jnp.inf), -1)
  return jnp.where(both, step, 0)


def _jensen_shannon(p, q) -> jax.Array:
  """Of rows of probabilities, of which any may be 0."""
  log_mean = _log((p + q) / 2)
  return jnp.sum(p * (_log(p) - log_mean) + q * (_log(q) - log_mean), 1) / 2


def _log(x) -> jax.Array:
  """Logarithm, but 0 with no gradient where there is nothing to weigh with it."""
  some = x > jnp.finfo(x.dtype).tiny
  return jnp.where(some, jnp.log(jnp.where(some, x, 1)), 0)
