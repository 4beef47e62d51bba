"""How well classes lie apart, without labels."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize


def component_lifetimes(features: jax.Array) -> jax.Array:
  """Distances at which connected components die as balls about all points grow.

  They are the zeroth persistent homology of the Vietoris-Rips filtration, all born at 0: the edges
  of a minimum spanning tree.

  Args:
    features: ``[n, dim]``, two rows or more.

  Returns:
    ``[n - 1]`` float32 in ascending order. Takes time ``n**2`` and memory ``[n, dim]``.

  Raises:
    ValueError: if ``features`` is not rank 2 or has one row.

  References:
    Prim, `Shortest connection networks and some generalizations
    <https://doi.org/10.1002/j.1538-7305.1957.tb01515.x>`_, 1957.
  """
  check_same_shape(2, features=features)
  if len(features) < 2:
    raise ValueError(f"features of shape {features.shape} hold no pair; give 2 rows or more")
  x = at_least_float32(features)

  def grow(carry, _):
    newest, nearest = carry
    nearest = jnp.minimum(nearest, jnp.sum(jnp.square(x - x[newest][None]), 1))
    nearest = nearest.at[newest].set(-jnp.inf)  # within the tree, whatever comes
    outside = jnp.where(jnp.isneginf(nearest), jnp.inf, nearest)
    newest = jnp.argmin(outside)
    return (newest, nearest), outside[newest]

  start = jnp.argmin(x[:, 0]), jnp.full(len(x), jnp.inf, x.dtype)
  _, squares = lax.scan(grow, start, length=len(x) - 1)
  return jnp.sort(jnp.sqrt(squares))


def topological_separability(features: jax.Array, *, normalize: bool = True) -> jax.Array:
  r"""Estimates class separability from the lifetimes of connected components.

  .. math:: 1 - \frac{1}{n - 1} \sum_i \frac{p_i}{\max_j p_j}

  Where classes lie apart, a few components live long and most die young. It depends on the number
  of examples, and one outlier can raise it: compare sets of one size.

  Args:
    features: ``[n, dim]``, two rows or more.
    normalize: scale all vectors to unit length first, which the paper finds to help.

  Returns:
    Scalar float32, from 0 to below 1; higher for classes that lie apart.

  Raises:
    ValueError: if ``features`` is not rank 2 or has one row.

  References:
    Gourgoulias et al., `Estimating class separability of text embeddings with persistent homology
    <https://arxiv.org/abs/2305.15016>`_, 2023, section 3. It divides lifetimes by the largest; that
    the score is their mean is from memory, and the sign is turned so that higher is better.
  """
  check_same_shape(2, features=features)
  x = at_least_float32(features)
  lifetimes = component_lifetimes(l2_normalize(x) if normalize else x)
  return 1 - jnp.mean(lifetimes) / jnp.maximum(lifetimes[-1], jnp.finfo(x.dtype).tiny)
