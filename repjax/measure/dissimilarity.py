"""Dissimilarity matrices (RDMs) of a representation, and their topology."""

import jax
import jax.numpy as jnp
import numpy as np

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize, safe_sqrt
from repjax.measure.kernels import squared_distances
from repjax.measure.ordering import ranks


def euclidean_rdm(features: jax.Array, *, squared: bool = False) -> jax.Array:
  r"""Euclidean distances of all pairs of examples.

  Args:
    features: ``[n, dim]``, n >= 2.
    squared: their squares; divided by ``dim`` they are what rsatoolbox calls Euclidean.

  Returns:
    ``[n (n - 1) / 2]``, at least float32, in the order of scipy's ``pdist``: (0, 1), (0, 2), ...,
    (1, 2), ...

  Raises:
    ValueError: if ``features`` is not rank 2 or has no two rows.

  References:
    Kriegeskorte et al., `Representational similarity analysis - connecting the branches of systems
    neuroscience <https://doi.org/10.3389/neuro.06.004.2008>`_, 2008.
  """
  x = _pairs_of(features)
  square = squared_distances(x, x)[np.triu_indices(len(x), 1)]
  return square if squared else safe_sqrt(square)


def correlation_rdm(features: jax.Array) -> jax.Array:
  """1 less the correlation of two examples over dimensions.

  Args:
    features: ``[n, dim]``, n >= 2.

  Returns:
    ``[n (n - 1) / 2]`` in [0, 2], at least float32, in the order of scipy's ``pdist``; 1 for an
    example whose dimensions are all equal.

  Raises:
    ValueError: if ``features`` is not rank 2 or has no two rows.

  References:
    Kriegeskorte et al., `Representational similarity analysis - connecting the branches of systems
    neuroscience <https://doi.org/10.3389/neuro.06.004.2008>`_, 2008.
  """
  x = _pairs_of(features)
  x = l2_normalize(x - jnp.mean(x, 1, keepdims=True))
  cosine = jnp.matmul(x, x.T, precision="highest")[np.triu_indices(len(x), 1)]
  return 1 - jnp.clip(cosine, -1, 1)


def geo_topological(
  rdm: jax.Array, low: float | jax.Array, high: float | jax.Array, *, rank: bool = False
) -> jax.Array:
  r"""Dissimilarities of which small ones are made 0 and large ones 1.

  .. math::
    t(d) = \mathrm{clip}\Big(\frac{d - l}{u - l}, 0, 1\Big)

  with l and u the quantiles ``low`` and ``high`` of the dissimilarities themselves. (0, 1) is the
  geometry, up to an offset and a scale; ``low`` = ``high`` the topology, a graph that joins those
  below the quantile; what lies between keeps part of either.

  Args:
    rdm: ``[pairs]``, as from `euclidean_rdm`.
    low: quantile in [0, 1].
    high: quantile in [``low``, 1].
    rank: replace dissimilarities by their ranks first, of equal ones the mean.

  Returns:
    ``[pairs]`` in [0, 1], at least float32.

  Raises:
    ValueError: if ``rdm`` is not rank 1.

  References:
    Lin and Kriegeskorte, `The Topology and Geometry of Neural Representations
    <https://arxiv.org/abs/2309.11028>`_, 2023. The paper's text was not at hand; quantiles without
    ranks are those of rsatoolbox (``geotopological_transform``), ``rank=True`` is the authors' own
    code (``gt_transform``).
  """
  check_same_shape(1, rdm=rdm)
  d = at_least_float32(rdm)
  d = ranks(d) if rank else d
  lower, upper = jnp.quantile(d, jnp.asarray(low)), jnp.quantile(d, jnp.asarray(high))
  width = upper - lower
  slope = jnp.clip((d - lower) / jnp.where(width > 0, width, 1), 0, 1)
  return jnp.where(width > 0, slope, jnp.asarray(d > lower, d.dtype))


def _pairs_of(features):
  check_same_shape(2, features=features)
  if len(features) < 2:
    raise ValueError(f"features of shape {jnp.shape(features)} hold no pair; give 2 rows or more")
  return at_least_float32(features)
