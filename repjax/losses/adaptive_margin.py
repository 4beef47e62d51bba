"""Softmax over one vector per class, with a margin that the batch itself sets."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from repjax.losses.classes import (
  class_labels,
  cross_entropy,
  other_classes,
  own_class,
  products,
  to_unit,
)
from repjax.losses.layout import gather

# What is left to doubt of an example that lies on the vector of its class.
DOUBT = 1e-7


def madacos(
  embeddings: jax.Array,
  labels: jax.Array,
  centers: jax.Array,
  *,
  alpha: float = 0.02,
  min_scale: float = 32.0,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""`cosface` whose scale and margin follow the median cosine of the batch.

  For unit vectors :math:`z_i` and :math:`w_c` at angles :math:`\theta_{ic}`,

  .. math::
    \ell_i = -\log \frac{\exp(s (\cos\theta_{i y_i} - m))}
      {\exp(s (\cos\theta_{i y_i} - m)) + B_i}
    \qquad B_i = \sum_{c \neq y_i} \exp(s \cos\theta_{ic})

  in which, with k the example whose :math:`\cos\theta_{i y_i}` is the median of the batch (the
  lower one of two), scale and margin are such that k has probability :math:`\alpha`, and one that
  lay on the vector of its class among the same others would have :math:`\rho = 1 - 10^{-7}`:

  .. math::
    s = \frac{1}{1 - \cos\theta_{k y_k}}
      \log \frac{\rho\,(1 - \alpha)}{(1 - \rho)\,\alpha}
    \qquad
    m = \cos\theta_{k y_k} - \frac{1}{s} \log \frac{\alpha B_k}{1 - \alpha}

  Both rise as the classes are learned, and with them what is asked of the batch; no gradient flows
  through them. We follow the authors' code, in which the scale is at least ``min_scale`` and the
  margin at least 0; :math:`1 - \cos\theta_{k y_k}` counts for at least 0.001 with us, so that the
  scale stays finite.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: ``[batch]`` int; negative ones are left out.
    centers: a vector for each class, ``[classes, dim]``; normalised inside.
    alpha: probability of the median example's class, in (0, 1).
    min_scale: floor of the scale, > 0.
    where: ``[batch]`` bool, examples that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0; 0 where ``where`` is false or there is no label,
    nan if it names no class.

  Raises:
    ValueError: if the shapes do not fit together, labels are no integers, or ``alpha`` is not a
      probability.

  References:
    Zhu et al., `Coarse-to-Fine: Learning Compact Discriminative Representation for Single-Stage
    Image Retrieval <https://arxiv.org/abs/2308.04008>`_, 2023; scale, margin and their bounds as in
    `the authors' code <https://github.com/bassyess/CFCD>`_.
  """
  labels = class_labels(embeddings, labels, centers=centers)
  if not 0 < alpha < 1:
    raise ValueError(f"alpha={alpha} is no probability; give a number between 0 and 1")
  if where is not None:
    labels = jnp.where(where, labels, -1)
  z, centers = to_unit(embeddings, centers)
  cosine = jnp.sum(z * own_class(labels, centers), -1)

  everyone = gather({"cosine": lax.stop_gradient(cosine), "label": labels}, axis_name)
  known = (everyone["label"] >= 0) & (everyone["label"] < len(centers))
  order = jnp.argsort(jnp.where(known, everyone["cosine"], jnp.inf))
  middle = order[jnp.maximum(jnp.sum(known) - 1, 0) // 2]
  median = everyone["cosine"][middle]
  odds = math.log(alpha / (1 - alpha))
  scale = (math.log((1 - DOUBT) / DOUBT) - odds) / jnp.maximum(1 - median, 1e-3)
  scale = jnp.maximum(scale, min_scale)

  others = other_classes(products, scale * z, labels, centers, tile_size, precision)
  rest = gather(lax.stop_gradient(others), axis_name)[middle]
  rest = jnp.where(jnp.isfinite(rest), rest, 0)  # -inf if there is one class alone
  margin = jnp.maximum(median - (rest + odds) / scale, 0)
  return cross_entropy(scale * (cosine - margin), others, labels, len(centers))
