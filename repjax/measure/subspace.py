"""Aligning two modalities in the small subspace that they share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from repjax.measure.alignment import check_pair
from repjax.measure.canonical import CanonicalCorrelation, cca
from repjax.measure.maps import LinearMap, affine_map, apply_map


class SubspaceAlignment(NamedTuple):
  """A shared subspace and the map from one side to the other within it.

  Attributes:
    shared: the canonical directions of both sides, of which the first ``dim`` are used.
    within: the map from the source's coordinates to the target's, ``[dim, dim]``.
  """

  shared: CanonicalCorrelation
  within: LinearMap


def fit_subspace_alignment(
  source: jax.Array,
  target: jax.Array,
  *,
  dim: int,
  ridge: float | jax.Array = 0.0,
) -> SubspaceAlignment:
  r"""Finds what two embeddings share by CCA on anchors, and maps one to the other in there.

  .. math::
    X^r = X W_X, \quad Y^r = Y W_Y, \quad T(x^r) = x^r R + b, \quad
    R, b = \arg\min \lVert X^r_A R + b - Y^r_A \rVert_F

  with W the first ``dim`` canonical directions. Encoders of different modalities agree in few
  directions; a map of the full spaces spends its anchors on the others.

  Args:
    source: ``[anchors, dim_source]``.
    target: ``[anchors, dim_target]``, of the same things in the same order.
    dim: of the subspace, at most both widths; 50 in the paper, with 30,000 anchors.
    ridge: of the CCA, as in `repjax.measure.cca`; needed where anchors are hardly more than
      dimensions. The paper has none.

  Returns:
    What `project_source` and `project_target` take.

  Raises:
    ValueError: if shapes do not fit together or ``dim`` is above a width.

  References:
    Hadgi et al., `Escaping Plato's Cave: Towards the Alignment of 3D and Text Latent Spaces
    <https://arxiv.org/abs/2503.05283>`_, 2025, section 3 (common subspace projection). The paper's
    text was not at hand; facts are from a review of it.
  """
  x, y = check_pair(source, target)
  if not 1 <= dim <= min(x.shape[1], y.shape[1]):
    raise ValueError(f"{dim=} is not within widths of {x.shape[1]} and {y.shape[1]}")
  shared = cca(x, y, ridge=ridge)
  # Units of length over the anchors: coordinates of variance near 1, whatever their number.
  scale = jnp.sqrt(jnp.asarray(len(x), x.dtype))
  shared = shared._replace(
    weights_1=shared.weights_1[:, :dim] * scale, weights_2=shared.weights_2[:, :dim] * scale
  )
  coordinates = SubspaceAlignment(shared, _identity(dim, x.dtype))
  within = affine_map(project_source(coordinates, x), project_target(coordinates, y))
  return SubspaceAlignment(shared, within)


def project_source(alignment: SubspaceAlignment, features: jax.Array) -> jax.Array:
  """Brings the source into the subspace, in the target's coordinates.

  Args:
    alignment: from `fit_subspace_alignment`.
    features: ``[n, dim_source]``.

  Returns:
    ``[n, dim]``, to be compared with `project_target` by cosine.
  """
  shared = alignment.shared
  x = features - shared.mean_1[None]
  return apply_map(alignment.within, jnp.matmul(x, shared.weights_1, precision="highest"))


def project_target(alignment: SubspaceAlignment, features: jax.Array) -> jax.Array:
  """Brings the target into the subspace.

  Args:
    alignment: from `fit_subspace_alignment`.
    features: ``[n, dim_target]``.

  Returns:
    ``[n, dim]``.
  """
  shared = alignment.shared
  return jnp.matmul(features - shared.mean_2[None], shared.weights_2, precision="highest")


def local_cka_gain(
  anchors_1: jax.Array, anchors_2: jax.Array, queries_1: jax.Array, queries_2: jax.Array
) -> jax.Array:
  r"""By how much linear CKA of anchors rises or falls with one more pair, for all pairs of queries.

  .. math::
    \log \mathrm{CKA}([X_A, x_q], [Y_A, y_c]) - \log \mathrm{CKA}(X_A, Y_A)

  CKA is largest where pairs are right, so that the y that raises it most is x's match. No map is
  fitted. Only the gain has digits left where anchors are many; CKA itself is that of the anchors
  times its exponential. With :math:`u = x_q - \bar x_A`, :math:`v = y_c - \bar y_A`,
  :math:`s = m / (m + 1)`, the cross product of the centred sets is :math:`X_A^T Y_A + s u v^T`:
  memory holds ``[queries_1, queries_2]`` and the squares of widths.

  Args:
    anchors_1: ``[m, dim_1]``.
    anchors_2: ``[m, dim_2]``, of the same things in the same order.
    queries_1: ``[queries_1, dim_1]``.
    queries_2: ``[queries_2, dim_2]``.

  Returns:
    ``[queries_1, queries_2]``, at least float32; biased HSIC, as the paper has it.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Maniparambil et al., `Do Vision and Language Encoders Represent the World Similarly?
    <https://arxiv.org/abs/2401.05224>`_, 2024 (localized CKA).
    Hadgi et al., `Escaping Plato's Cave: Towards the Alignment of 3D and Text Latent Spaces
    <https://arxiv.org/abs/2503.05283>`_, 2025 (in the subspace).
  """
  x, y = check_pair(anchors_1, anchors_2)
  widths = (jnp.shape(queries_1)[1:], jnp.shape(queries_2)[1:])
  if widths != (x.shape[1:], y.shape[1:]):
    raise ValueError(f"anchors of widths {x.shape[1]} and {y.shape[1]}, queries of {widths}")
  share = len(x) / (len(x) + 1)
  mean_x, mean_y = jnp.mean(x, 0)[None], jnp.mean(y, 0)[None]
  x, y, u, v = x - mean_x, y - mean_y, queries_1 - mean_x, queries_2 - mean_y
  dot = lambda a, b: jnp.matmul(a, b, precision="highest")
  length_u, length_v = jnp.sum(u * u, 1), jnp.sum(v * v, 1)

  cross = dot(x.T, y)
  rise = 2 * share * dot(dot(u, cross), v.T) + share**2 * length_u[:, None] * length_v[None]

  def own(z, w, length):
    scatter = dot(z.T, z)
    more = 2 * share * jnp.sum(dot(w, scatter) * w, 1) + share**2 * length**2
    return jnp.log1p(more / jnp.sum(scatter**2)) / 2

  gain = jnp.log1p(rise / jnp.sum(cross**2))
  return gain - own(x, u, length_u)[:, None] - own(y, v, length_v)[None]


def _identity(dim, dtype):
  zero = jnp.zeros(dim, dtype)
  return LinearMap(jnp.eye(dim, dtype=dtype), zero, zero)
