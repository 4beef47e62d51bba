"""Softmax over one vector per class, made harder for the own class by a margin.

The classes are those of the whole training set, and each has a learned vector. Over a mesh these
may be split along their first axis, as the compiler then does to the logits. Where they are too
many for a step, see `repjax.losses.class_sampling`.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, safe_sqrt
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
from repjax.losses.pairs import PairSums, pair_sums


def normalized_softmax(
  embeddings: jax.Array,
  labels: jax.Array,
  centers: jax.Array,
  *,
  temperature: float | jax.Array = 0.05,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
) -> jax.Array:
  r"""Cross entropy of the cosines between an embedding and the classes.

  For unit vectors :math:`z_i` and :math:`w_c`,

  .. math::
    \ell_i = -\log \frac{\exp(\langle z_i, w_{y_i}\rangle / \tau)}
      {\sum_c \exp(\langle z_i, w_c\rangle / \tau)}

  The mean over the batch is pytorch-metric-learning's NormalizedSoftmaxLoss.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: ``[batch]`` int; negative ones are left out.
    centers: a vector for each class, ``[classes, dim]``; normalised inside.
    temperature: softmax temperature, > 0.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0; 0 without a label, nan if it names no class.

  Raises:
    ValueError: if the shapes do not fit together or labels are no integers.

  References:
    Wang et al., `NormFace: L2 Hypersphere Embedding for Face Verification
    <https://arxiv.org/abs/1704.06369>`_, 2017.
    Zhai and Wu, `Classification is a Strong Baseline for Deep Metric Learning
    <https://arxiv.org/abs/1811.12649>`_, 2018.
  """
  options = {"tile_size": tile_size, "precision": precision}
  return cosface(embeddings, labels, centers, margin=0.0, scale=1 / temperature, **options)


def cosface(
  embeddings: jax.Array,
  labels: jax.Array,
  centers: jax.Array,
  *,
  margin: float | jax.Array = 0.35,
  scale: float | jax.Array = 64.0,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
) -> jax.Array:
  r"""Large-margin cosine loss: the cosine of the own class counts for less by a margin.

  For unit vectors :math:`z_i` and :math:`w_c` at angles :math:`\theta_{ic}`,

  .. math::
    \ell_i = -\log \frac{\exp(s (\cos\theta_{i y_i} - m))}
      {\exp(s (\cos\theta_{i y_i} - m)) + \sum_{c \neq y_i} \exp(s \cos\theta_{ic})}

  Also known as AM-Softmax. The mean over the batch is pytorch-metric-learning's CosFaceLoss.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: ``[batch]`` int; negative ones are left out.
    centers: a vector for each class, ``[classes, dim]``; normalised inside.
    margin: m, one number or one for each example, ``[batch]``.
    scale: s, > 0.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0; 0 without a label, nan if it names no class.

  Raises:
    ValueError: if the shapes do not fit together or labels are no integers.

  References:
    Wang et al., `CosFace: Large Margin Cosine Loss for Deep Face Recognition
    <https://arxiv.org/abs/1801.09414>`_, 2018.
    Wang et al., `Additive Margin Softmax for Face Verification
    <https://arxiv.org/abs/1801.05599>`_, 2018.
  """
  labels = class_labels(embeddings, labels, centers=centers)
  z, centers = to_unit(embeddings, centers)
  own = scale * (jnp.sum(z * own_class(labels, centers), -1) - margin)
  others = other_classes(products, scale * z, labels, centers, tile_size, precision)
  return cross_entropy(own, others, labels, len(centers))


def arcface(
  embeddings: jax.Array,
  labels: jax.Array,
  centers: jax.Array,
  *,
  margin: float | jax.Array = 0.5,
  scale: float | jax.Array = 64.0,
  easy_margin: bool = False,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
) -> jax.Array:
  r"""Additive angular margin: the angle to the own class counts for more by a margin.

  For unit vectors :math:`z_i` and :math:`w_c` at angles :math:`\theta_{ic}`,

  .. math::
    \ell_i = -\log \frac{\exp(s\,\psi(\theta_{i y_i}))}
      {\exp(s\,\psi(\theta_{i y_i})) + \sum_{c \neq y_i} \exp(s \cos\theta_{ic})}
    \qquad
    \psi(\theta) = \begin{cases}
      \cos(\theta + m) & \theta + m \le \pi \\ \cos\theta - m \sin m & \text{beyond}
    \end{cases}

  The second line, of the authors' code and not of the paper, keeps :math:`\psi` falling up to
  :math:`\pi`. With ``easy_margin`` there is no margin where :math:`\theta \ge \pi / 2`. The margin
  is in radians; pytorch-metric-learning's ArcFaceLoss, of which this is the mean over the batch,
  takes degrees. We add angles from the cosine and the sine, the latter the length of what of the
  embedding is orthogonal to its class: an arc cosine, or a sine from the cosine, has an infinite
  slope at angle 0 and loses half of the digits near it.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: ``[batch]`` int; negative ones are left out.
    centers: a vector for each class, ``[classes, dim]``; normalised inside.
    margin: m in radians, in ``[0, pi]``; one number or one for each example, ``[batch]``.
    scale: s, > 0.
    easy_margin: whether embeddings on the far side of their class have no margin.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0; 0 without a label, nan if it names no class.

  Raises:
    ValueError: if the shapes do not fit together, labels are no integers, or the margin is not in
      ``[0, pi]``.

  References:
    Deng et al., `ArcFace: Additive Angular Margin Loss for Deep Face Recognition
    <https://arxiv.org/abs/1801.07698>`_, 2018.
  """
  labels = class_labels(embeddings, labels, centers=centers)
  _check_radians(margin)
  z, centers = to_unit(embeddings, centers)
  own = scale * _add_to_angle(z, own_class(labels, centers), margin, easy_margin)
  others = other_classes(products, scale * z, labels, centers, tile_size, precision)
  return cross_entropy(own, others, labels, len(centers))


def sub_center_arcface(
  embeddings: jax.Array,
  labels: jax.Array,
  centers: jax.Array,
  *,
  margin: float | jax.Array = 0.5,
  scale: float | jax.Array = 64.0,
  easy_margin: bool = False,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
) -> jax.Array:
  r"""`arcface` with several vectors for each class, of which the nearest one counts.

  .. math:: \cos\theta_{ic} = \max_k \langle z_i, w_{ck}\rangle

  So noisy examples may gather around vectors of their own. The mean over the batch is
  pytorch-metric-learning's SubCenterArcFaceLoss, whose margin is in degrees.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: ``[batch]`` int; negative ones are left out.
    centers: some vectors for each class, ``[classes, centers, dim]``; normalised inside.
    margin: m in radians, in ``[0, pi]``; one number or one for each example, ``[batch]``.
    scale: s, > 0.
    easy_margin: whether embeddings on the far side of their class have no margin.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0; 0 without a label, nan if it names no class.

  Raises:
    ValueError: if the shapes do not fit together, labels are no integers, or the margin is not in
      ``[0, pi]``.

  References:
    Deng et al., `Sub-center ArcFace: Boosting Face Recognition by Large-Scale Noisy Web Faces
    <https://www.ecva.net/papers/eccv_2020/papers_ECCV/papers/123560715.pdf>`_, 2020.
  """
  labels = class_labels(embeddings, labels, 3, centers=centers)
  _check_radians(margin)
  z, centers = to_unit(embeddings, centers)
  candidates = own_class(labels, centers)
  nearest = jnp.argmax(jnp.sum(z[:, None] * candidates, -1), 1)
  center = jnp.take_along_axis(candidates, nearest[:, None, None], 1)[:, 0]
  own = scale * _add_to_angle(z, center, margin, easy_margin)
  others = other_classes(_nearest_products, scale * z, labels, centers, tile_size, precision)
  return cross_entropy(own, others, labels, len(centers))


def sphereface(
  embeddings: jax.Array,
  labels: jax.Array,
  centers: jax.Array,
  *,
  margin: int = 4,
  scale: float | jax.Array = 1.0,
  ease: float | jax.Array = 0.0,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
) -> jax.Array:
  r"""A-Softmax: the angle to the own class counts m times; embeddings keep their length.

  For unit vectors :math:`w_c` at angles :math:`\theta_{ic}` to the embeddings :math:`x_i`,

  .. math::
    \ell_i = -\log \frac{\exp(s \lVert x_i\rVert\,\psi(\theta_{i y_i}))}
      {\exp(s \lVert x_i\rVert\,\psi(\theta_{i y_i}))
        + \sum_{c \neq y_i} \exp(s \lVert x_i\rVert \cos\theta_{ic})}
    \qquad
    \psi(\theta) = (-1)^k \cos(m \theta) - 2 k, \quad k = \lfloor m \theta / \pi \rfloor

  The authors start from the easier :math:`(\lambda \cos\theta + \psi(\theta)) / (1 + \lambda)`
  and lower :math:`\lambda`, our ``ease``, during training. Without it and with a scale of 1 the
  mean over the batch is pytorch-metric-learning's SphereFaceLoss.

  Args:
    embeddings: ``[batch, dim]``; not normalised.
    labels: ``[batch]`` int; negative ones are left out.
    centers: a vector for each class, ``[classes, dim]``; normalised inside.
    margin: m, an integer >= 1.
    scale: s, > 0.
    ease: weight of the plain cosine against that with a margin, >= 0.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0; 0 without a label, nan if it names no class.

  Raises:
    ValueError: if the shapes do not fit together, labels are no integers, or the margin is none.

  References:
    Liu et al., `SphereFace: Deep Hypersphere Embedding for Face Recognition
    <https://arxiv.org/abs/1704.08063>`_, 2017.
  """
  (centers,) = to_unit(centers)
  options = {"margin": margin, "scale": scale, "ease": ease}
  options |= {"tile_size": tile_size, "precision": precision}
  return large_margin_softmax(embeddings, labels, centers, **options)


def large_margin_softmax(
  embeddings: jax.Array,
  labels: jax.Array,
  centers: jax.Array,
  *,
  margin: int = 4,
  scale: float | jax.Array = 1.0,
  ease: float | jax.Array = 0.0,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
) -> jax.Array:
  r"""L-Softmax: the angle to the own class counts m times; nothing is normalised.

  `sphereface` in which the vectors of the classes keep their length too:

  .. math::
    \ell_i = -\log \frac{\exp(s \lVert x_i\rVert \lVert w_{y_i}\rVert\,\psi(\theta_{i y_i}))}
      {\exp(s \lVert x_i\rVert \lVert w_{y_i}\rVert\,\psi(\theta_{i y_i}))
        + \sum_{c \neq y_i} \exp(s \langle x_i, w_c\rangle)}

  Without ``ease`` and with a scale of 1 the mean over the batch is pytorch-metric-learning's
  LargeMarginSoftmaxLoss.

  Args:
    embeddings: ``[batch, dim]``; not normalised.
    labels: ``[batch]`` int; negative ones are left out.
    centers: a vector for each class, ``[classes, dim]``; not normalised.
    margin: m, an integer >= 1.
    scale: s, > 0; 1 in the paper.
    ease: weight of the plain cosine against that with a margin, >= 0.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0; 0 without a label, nan if it names no class.

  Raises:
    ValueError: if the shapes do not fit together, labels are no integers, or the margin is none.

  References:
    Liu et al., `Large-Margin Softmax Loss for Convolutional Neural Networks
    <https://arxiv.org/abs/1612.02295>`_, 2016, eq. 6 and 7.
  """
  labels = class_labels(embeddings, labels, centers=centers)
  if not isinstance(margin, int) or margin < 1:
    raise ValueError(f"margin={margin} multiplies the angle; give an integer of at least 1")
  embeddings, centers = at_least_float32(embeddings), at_least_float32(centers)
  center = own_class(labels, centers)
  z, direction = to_unit(embeddings, center)
  cosine = jnp.sum(z * direction, -1)
  harder = (ease * cosine + _multiply_angle(cosine, margin)) / (1 + ease)
  own = scale * _length(embeddings) * _length(center) * harder
  others = other_classes(products, scale * embeddings, labels, centers, tile_size, precision)
  return cross_entropy(own, others, labels, len(centers))


def p2s_grad(
  embeddings: jax.Array,
  labels: jax.Array,
  centers: jax.Array,
  *,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
) -> jax.Array:
  r"""Squared error of the cosines to the classes, of which the own one is to be 1, the others 0.

  For unit vectors :math:`z_i` and :math:`w_c` of C classes,

  .. math::
    \ell_i = \frac{1}{C} \sum_c (\langle z_i, w_c\rangle - [c = y_i])^2

  P2SGrad is a gradient and not a loss; C / 2 times ours has it. The mean over the batch is
  pytorch-metric-learning's P2SGradLoss, which however sets the vectors of the classes to unit
  length before a step, where we normalise them in it. No margin and no scale are to be chosen.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    labels: ``[batch]`` int; negative ones are left out.
    centers: a vector for each class, ``[classes, dim]``; normalised inside.
    tile_size: edge of the tiles in which cosines are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0; 0 without a label, nan if it names no class.

  Raises:
    ValueError: if the shapes do not fit together or labels are no integers.

  References:
    Zhang et al., `P2SGrad: Refined Gradients for Optimizing Deep Face Models
    <https://arxiv.org/abs/1905.02479>`_, 2019, eq. 11.
  """
  labels = class_labels(embeddings, labels, centers=centers)
  z, centers = to_unit(embeddings, centers)
  own = jnp.sum(z * own_class(labels, centers), -1)
  terms = functools.partial(_squares_of_others, precision=precision)
  (others,) = pair_sums(terms, *sides(z, labels, centers), tile_size=tile_size).sums
  return of_labelled(((own - 1) ** 2 + others) / len(centers), labels, len(centers))


def _check_radians(margin) -> None:
  if isinstance(margin, (int, float)) and not 0 <= margin <= math.pi:
    raise ValueError(f"margin={margin} is not in [0, pi]; give radians, such as math.radians(28.6)")


def _add_to_angle(z, center, margin, easy_margin) -> jax.Array:
  """ArcFace's cosine of the angle between unit vectors and a margin, falling up to pi."""
  cosine = jnp.sum(z * center, -1)
  sine = _length(z - cosine[:, None] * center)
  margin = jnp.asarray(margin, cosine.dtype)
  added = cosine * jnp.cos(margin) - sine * jnp.sin(margin)
  if easy_margin:
    return jnp.where(cosine > 0, added, cosine)
  return jnp.where(cosine >= -jnp.cos(margin), added, cosine - margin * jnp.sin(margin))


def _multiply_angle(cosine, margin: int) -> jax.Array:
  """SphereFace's cosine of a multiple of the angle, falling up to pi; a piece of polynomials."""
  before, multiple = jnp.ones_like(cosine), cosine
  for _ in range(margin - 1):  # Chebyshev's recurrence for cos(m theta)
    before, multiple = multiple, 2 * cosine * multiple - before
  bounds = (math.cos(k * math.pi / margin) for k in range(1, margin))
  k = sum((cosine < bound).astype(cosine.dtype) for bound in bounds)
  return (1 - 2 * (k % 2)) * multiple - 2 * k


def _length(x) -> jax.Array:
  return safe_sqrt(jnp.sum(x * x, -1))


def _nearest_products(z, centers, shared, precision) -> jax.Array:
  del shared
  return jnp.max(jnp.einsum("bd,ckd->bck", z, centers, precision=precision), -1)


def _squares_of_others(row, column, shared, precision) -> PairSums:
  squares = products(row["z"], column["z"], shared, precision) ** 2
  return PairSums(sums=(jnp.where(is_own(row, column), 0, squares),))
