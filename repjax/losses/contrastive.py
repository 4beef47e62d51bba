"""Losses that tell an example from the rest of its batch."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import check_same_shape, l2_normalize


def nt_xent(
  z_1: jax.Array,
  z_2: jax.Array,
  *,
  temperature: float = 0.5,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Normalised temperature-scaled cross entropy over two views.

  Each embedding must pick its partner out of every other embedding in the batch; under
  ``axis_name`` the batch is the whole mapped axis. For unit vectors :math:`z_i`, one direction is

  .. math::
    \ell_{ij} = -\log \frac{\exp(\langle z_i, z_j\rangle / \tau)}
      {\sum_{k \neq i} \exp(\langle z_i, z_k\rangle / \tau)}

  Args:
    z_1: first view, ``[batch, dim]``; normalised inside, in float32.
    z_2: second view, ``[batch, dim]``, row-aligned with ``z_1``.
    temperature: softmax temperature, > 0.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per pair, ``[batch]`` float32, averaged over its two directions.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Chen et al., `A Simple Framework for Contrastive Learning of Visual Representations
    <https://arxiv.org/abs/2002.05709>`_, 2020, eq. 1.
  """
  check_same_shape(2, z_1=z_1, z_2=z_2)
  batch = len(z_1)
  z = l2_normalize(jnp.concatenate([z_1, z_2]).astype(jnp.float32))
  first, everyone = 0, z
  if axis_name is not None:
    first = lax.axis_index(axis_name) * batch
    views = lax.all_gather(z.reshape(2, batch, -1), axis_name, axis=1, tiled=True)
    everyone = views.reshape(-1, views.shape[-1])
  total = len(everyone) // 2
  # [2 batch, 2 total]; accelerators would round float32 to 10 bits or fewer by default.
  logits = jnp.matmul(z, everyone.T, precision=lax.Precision.HIGHEST) / temperature

  row = first + jnp.arange(batch)
  own = jnp.concatenate([row, row + total])
  partner = jnp.concatenate([row + total, row])
  columns = jnp.arange(2 * total)
  logits = jnp.where(columns[None, :] == own[:, None], -jnp.inf, logits)
  positive = jnp.take_along_axis(logits, partner[:, None], 1)[:, 0]
  loss = jax.nn.logsumexp(logits, 1) - positive
  return jnp.mean(loss.reshape(2, batch), 0)
