"""Relative representations: features by their similarity to anchors, the same in any net's space.

Nets trained apart turn and scale their spaces as it happens. What does not depend on that, the
similarity to embeddings of the same few examples, is a language that both speak: a head fitted on
one net's relative features works on the other's.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32, l2_normalize
from repjax.measure.kernels import squared_distances


def cosine_similarities(features: jax.Array, anchors: jax.Array) -> jax.Array:
  """Cosines of features with anchors: seen by no turn and no scale, not even one per example.

  Args:
    features: ``[n, dim]``.
    anchors: ``[anchors, dim]``.

  Returns:
    ``[n, anchors]`` in [-1, 1], at least float32.
  """
  x, a = (l2_normalize(at_least_float32(z)) for z in (features, anchors))
  return jnp.matmul(x, a.T, precision="highest")


def angular_similarities(features: jax.Array, anchors: jax.Array) -> jax.Array:
  """1 less the angle as a share of pi, which spreads out what is nearly parallel.

  Args:
    features: ``[n, dim]``.
    anchors: ``[anchors, dim]``.

  Returns:
    ``[n, anchors]`` in [0, 1], at least float32.
  """
  return 1 - jnp.arccos(jnp.clip(cosine_similarities(features, anchors), -1, 1)) / jnp.pi


def euclidean_distances(features: jax.Array, anchors: jax.Array) -> jax.Array:
  """Distances of features from anchors: seen by no turn and no shift, but by scale.

  Args:
    features: ``[n, dim]``.
    anchors: ``[anchors, dim]``.

  Returns:
    ``[n, anchors]`` >= 0, at least float32.
  """
  return jnp.sqrt(squared_distances(features, anchors))


def basis_coordinates(features: jax.Array, anchors: jax.Array) -> jax.Array:
  """Coordinates in the basis of anchors, of least norm: seen by no invertible linear map.

  Args:
    features: ``[n, dim]``.
    anchors: ``[anchors, dim]``, linearly independent; with more anchors than dimensions coordinates
      are not unique, and those of least norm depend on the space.

  Returns:
    ``[n, anchors]``, at least float32.
  """
  x, a = (at_least_float32(z) for z in (features, anchors))
  return jnp.matmul(x, jnp.linalg.pinv(a), precision="highest")


def relative_representation(
  features: jax.Array,
  anchors: jax.Array,
  *,
  similarity: Callable[[jax.Array, jax.Array], jax.Array] = cosine_similarities,
  centre: bool = False,
) -> jax.Array:
  r"""Features by their similarity to anchors.

  .. math:: r(x) = \big(\mathrm{sim}(e_x, e_{a_1}), \dots, \mathrm{sim}(e_x, e_{a_k})\big)

  Anchors are the same examples for every net, embedded by each with its own encoder (parallel
  anchors, such as an image and its caption, will do).

  Args:
    features: ``[n, dim]``.
    anchors: ``[anchors, dim]``, of the same encoder.
    similarity: ``([n, dim], [anchors, dim]) -> [n, anchors]``; `cosine_similarities` in the paper.
    centre: take the anchors' mean off both first, which makes cosines of features that lie in a
      narrow cone, as after a ReLU, differ more; the paper does not.

  Returns:
    ``[n, anchors]``, at least float32.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Moschella et al., `Relative representations enable zero-shot latent space communication
    <https://arxiv.org/abs/2209.15430>`_, 2023, section 3.
  """
  shapes = jnp.shape(features), jnp.shape(anchors)
  if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != shapes[1][1]:
    raise ValueError(
      f"expected features [n, dim] and anchors [anchors, dim] of one encoder, got {shapes[0]} and "
      f"{shapes[1]}"
    )
  x, a = at_least_float32(features), at_least_float32(anchors)
  if centre:
    mean = jnp.mean(a, 0)[None]
    x, a = x - mean, a - mean
  return similarity(x, a)
