"""Losses that compare embeddings with learned representatives of the classes."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from repjax.losses.classes import (
  class_labels,
  cross_entropy,
  is_own,
  of_labelled,
  other_classes,
  own_class,
  products,
  sides,
  to_unit,
)
from repjax.losses.layout import batch_sum
from repjax.losses.pairs import PairSums, pair_sums


def proxy_nca(
  embeddings: jax.Array,
  labels: jax.Array,
  proxies: jax.Array,
  *,
  temperature: float | jax.Array = 1.0,
  own_in_sum: bool = True,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
) -> jax.Array:
  r"""Neighbourhood component analysis in which a proxy stands for each class.

  For unit vectors :math:`z_i` and :math:`p_c`,

  .. math::
    \ell_i = -\log \frac{\exp(-\lVert z_i - p_{y_i}\rVert^2 / \tau)}
      {\sum_c \exp(-\lVert z_i - p_c\rVert^2 / \tau)}

  The sum over all classes, which makes this a probability, is that of ProxyNCA++, whose
  temperature is 1/9, and of pytorch-metric-learning's ProxyNCALoss, of which this is the mean over
  the batch at a ``softmax_scale`` of :math:`1 / \tau`. As first published, the own proxy is not in
  the sum: ``own_in_sum=False``.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: ``[batch]`` int; negative ones are left out.
    proxies: a vector for each class, ``[classes, dim]``; normalised inside.
    temperature: softmax temperature, > 0.
    own_in_sum: whether the own proxy is in the denominator too.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0 unless the own proxy is left out of the sum; 0
    without a label or without another class, nan if the label names no class.

  Raises:
    ValueError: if the shapes do not fit together or labels are no integers.

  References:
    Movshovitz-Attias et al., `No Fuss Distance Metric Learning using Proxies
    <https://arxiv.org/abs/1703.07464>`_, 2017.
    Teh et al., `ProxyNCA++: Revisiting and Revitalizing Proxy Neighborhood Component Analysis
    <https://arxiv.org/abs/2004.01113>`_, 2020.
  """
  labels = class_labels(embeddings, labels, proxies=proxies)
  z, proxies = to_unit(embeddings, proxies)
  # The squared distance of unit vectors is 2 less twice their product, and the 2 cancels.
  z *= 2 / temperature
  own = jnp.sum(z * own_class(labels, proxies), -1)
  others = other_classes(products, z, labels, proxies, tile_size, precision)
  if own_in_sum:
    return cross_entropy(own, others, labels, len(proxies))
  some = jnp.isfinite(others)
  return of_labelled(jnp.where(some, jnp.where(some, others, 0) - own, 0), labels, len(proxies))


def proxy_anchor(
  embeddings: jax.Array,
  labels: jax.Array,
  proxies: jax.Array,
  *,
  margin: float | jax.Array = 0.1,
  alpha: float | jax.Array = 32.0,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Each proxy pulls its class in the batch and pushes away the rest, the hardest ones most.

  With :math:`s_{ic}` the cosine of embedding i and proxy c, C proxies of which C+ have examples in
  the batch,

  .. math::
    \ell = \frac{1}{C_+} \sum_c \log\Bigl(1 + \sum_{y_i = c} \exp(-\alpha (s_{ic} - \delta))\Bigr)
      + \frac{1}{C} \sum_c \log\Bigl(1 + \sum_{y_i \neq c} \exp(\alpha (s_{ic} + \delta))\Bigr)

  This is pytorch-metric-learning's ProxyAnchorLoss.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: ``[batch]`` int; negative ones are left out.
    proxies: a vector for each class, ``[classes, dim]``; normalised inside.
    margin: :math:`\delta`, of the cosine.
    alpha: sharpness, > 0.
    where: ``[batch]`` bool, examples that take part; all if absent.
    tile_size: edge of the tiles in which cosines are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss of the batch, a float32 scalar >= 0, the same on all shards; 0 where nothing takes part,
    nan if a label names no class. (Not ``[batch]``: a proxy couples all examples.)

  Raises:
    ValueError: if the shapes do not fit together or labels are no integers.

  References:
    Kim et al., `Proxy Anchor Loss for Deep Metric Learning <https://arxiv.org/abs/2003.13911>`_,
    2020.
  """
  labels = class_labels(embeddings, labels, proxies=proxies)
  if where is not None:
    labels = jnp.where(where, labels, -1)
  z, proxies = to_unit(embeddings, proxies)
  rows, columns = sides(z, labels, proxies)
  shared = {"margin": jnp.asarray(margin, z.dtype), "alpha": jnp.asarray(alpha, z.dtype)}
  terms = functools.partial(_pulls_and_pushes, precision=precision)
  sums = pair_sums(terms, rows, columns, shared, tile_size=tile_size)
  pulls, pushes = (_over_shards(x, axis_name) for x in sums.column_log_sums)
  with_examples = jnp.maximum(jnp.sum(jnp.isfinite(pulls)), 1)
  loss = jnp.sum(jax.nn.softplus(pulls)) / with_examples + jnp.mean(jax.nn.softplus(pushes))
  unknown = batch_sum(jnp.sum(labels >= len(proxies)), axis_name)
  return jnp.where(unknown > 0, jnp.nan, loss)


def soft_triple(
  embeddings: jax.Array,
  labels: jax.Array,
  centers: jax.Array,
  *,
  scale: float | jax.Array = 20.0,
  gamma: float | jax.Array = 0.1,
  margin: float | jax.Array = 0.01,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
) -> jax.Array:
  r"""Cross entropy over classes that have several centers, weighted by how near they are.

  For unit vectors :math:`z_i` and :math:`w_{ck}`,

  .. math::
    S_{ic} = \sum_k \frac{\exp(\langle z_i, w_{ck}\rangle / \gamma)}
      {\sum_l \exp(\langle z_i, w_{cl}\rangle / \gamma)} \langle z_i, w_{ck}\rangle
    \qquad
    \ell_i = -\log \frac{\exp(\lambda (S_{i y_i} - \delta))}
      {\exp(\lambda (S_{i y_i} - \delta)) + \sum_{c \neq y_i} \exp(\lambda S_{ic})}

  The mean over the batch is pytorch-metric-learning's SoftTripleLoss. As there, the paper's
  regulariser, which merges centers of a class, is not part of it.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: ``[batch]`` int; negative ones are left out.
    centers: some vectors for each class, ``[classes, centers, dim]``; normalised inside.
    scale: :math:`\lambda`, > 0.
    gamma: temperature of the weights of the centers, > 0.
    margin: :math:`\delta`, of the similarity.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0; 0 without a label, nan if it names no class.

  Raises:
    ValueError: if the shapes do not fit together or labels are no integers.

  References:
    Qian et al., `SoftTriple Loss: Deep Metric Learning Without Triplet Sampling
    <https://arxiv.org/abs/1909.05235>`_, 2019.
  """
  labels = class_labels(embeddings, labels, 3, centers=centers)
  z, centers = to_unit(embeddings, centers)
  shared = {"scale": jnp.asarray(scale, z.dtype), "gamma": jnp.asarray(gamma, z.dtype)}
  cosines = jnp.sum(z[:, None] * own_class(labels, centers), -1)
  own = scale * (_softly_nearest(cosines, shared["gamma"]) - margin)
  others = other_classes(_soft_products, z, labels, centers, tile_size, precision, shared)
  return cross_entropy(own, others, labels, len(centers))


def _pulls_and_pushes(row, column, shared, precision) -> PairSums:
  own = is_own(row, column)
  known = row["class"][:, None] >= 0
  alpha, margin = shared["alpha"], shared["margin"]
  cosine = products(row["z"], column["z"], (), precision)
  pulls = jnp.where(own, -alpha * (cosine - margin), -jnp.inf)
  pushes = jnp.where(known & ~own, alpha * (cosine + margin), -jnp.inf)
  return PairSums(column_log_sums=(pulls, pushes))


def _over_shards(log_sums, axis_name) -> jax.Array:
  """Log-sum-exp over the shards of what each has, by a sum, so that all have the same."""
  if axis_name is None:
    return log_sums
  peak = lax.pmax(lax.stop_gradient(log_sums), axis_name)
  peak = jnp.where(jnp.isfinite(peak), peak, 0)
  total = batch_sum(jnp.exp(log_sums - peak), axis_name)
  some = total > 0
  return jnp.where(some, jnp.log(jnp.where(some, total, 1)) + peak, -jnp.inf)


def _softly_nearest(cosines, gamma) -> jax.Array:
  return jnp.sum(jax.nn.softmax(cosines / gamma, -1) * cosines, -1)


def _soft_products(z, centers, shared, precision) -> jax.Array:
  cosines = jnp.einsum("bd,ckd->bck", z, centers, precision=precision)
  return shared["scale"] * _softly_nearest(cosines, shared["gamma"])
