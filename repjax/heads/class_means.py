"""A class is where the mean of its examples is."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, l2_normalize
from repjax.heads.moments import Moments, check_dim
from repjax.heads.simplex import simplex_logits


class ClassMeans(NamedTuple):
  """Prototypes, those of classes still to come left open.

  Attributes:
    mean: ``[classes, dim]``.
    seen: ``[classes]`` bool, whether the class has had an example.
  """

  mean: jax.Array
  seen: jax.Array


def fit_class_means(moments: Moments) -> ClassMeans:
  """Nearest-mean classifier of all that moments have seen.

  Nothing is learned, so that classes may come one after another and in any order: the result is
  that of all at once (Janson et al.). For prototypes of directions, pass
  normalised features to `repjax.heads.update_moments`.

  Args:
    moments: with or without scatter.

  Returns:
    Parameters of `euclidean_logits` and `cosine_logits`.

  References:
    Mensink et al., `Distance-Based Image Classification: Generalizing to New Classes at Near-Zero
    Cost <https://doi.org/10.1109/TPAMI.2013.83>`_, 2013.
    Janson et al., `A Simple Baseline that Questions the Use of Pretrained-Models in Continual
    Learning <https://arxiv.org/abs/2210.04428>`_, 2022.
  """
  return ClassMeans(moments.mean, moments.count > 0)


def euclidean_logits(params: ClassMeans, features: jax.Array) -> jax.Array:
  """Negative squared distances to the class means.

  Args:
    params: from `fit_class_means`.
    features: ``[batch, dim]``.

  Returns:
    ``[batch, classes]``, <= 0 up to rounding, in at least float32; -inf for a class not seen.

  Raises:
    ValueError: if the dims differ.
  """
  check_dim(params.mean, features)
  x = at_least_float32(features)
  # Distances come out of differences, which keep their digits near the centre of all means.
  weight = params.seen / jnp.maximum(jnp.sum(params.seen), 1)
  centre = (weight.astype(x.dtype) @ params.mean)[None]
  x, mean = x - centre, params.mean - centre
  cross = jnp.matmul(x, mean.T, precision=lax.Precision.HIGHEST)
  square = jnp.sum(x * x, 1)[:, None] + jnp.sum(mean * mean, 1)[None] - 2 * cross
  return jnp.where(params.seen[None], -square, -jnp.inf)


def cosine_logits(
  params: ClassMeans, features: jax.Array, *, scale: float | jax.Array = 1.0
) -> jax.Array:
  """Scaled cosines to the class means, which are normalised after they were averaged.

  Args:
    params: from `fit_class_means` or `calibrate_new_classes`.
    features: ``[batch, dim]``.
    scale: what cosines are multiplied with, > 0; without effect on the nearest.

  Returns:
    ``[batch, classes]``, in at least float32; -inf for a class not seen.

  Raises:
    ValueError: if the dims differ.
  """
  check_dim(params.mean, features)
  logits = simplex_logits(params.mean, features, scale=scale)
  return jnp.where(params.seen[None], logits, -jnp.inf)


def calibrate_new_classes(
  params: ClassMeans,
  base: jax.Array,
  *,
  scale: float | jax.Array = 16.0,
  shift: float | jax.Array = 0.1,
) -> ClassMeans:
  r"""Moves prototypes of few examples towards those of the base classes that they are like (TEEN).

  With all prototypes :math:`p` at length 1, and :math:`\overline{v}` for :math:`v` at length 1,

  .. math::
    p'_n = (1 - \alpha) p_n + \alpha \,\overline{\sum_b w_{nb} p_b}, \qquad
    w_n = \mathrm{softmax}_b(\tau \cos(p_n, p_b))

  for every class seen that is not a base class. Classify by `cosine_logits`. The official code
  (``soft_calibration`` in models/teen/Network.py) is followed: it normalises the weighted base
  prototypes again, and has :math:`\tau = 16`, :math:`\alpha = 0.1` for CIFAR-100. The paper's text
  was not at hand.

  Args:
    params: from `fit_class_means`, base and new classes together.
    base: ``[classes]`` bool, classes of many examples, on which the encoder was trained.
    scale: :math:`\tau`, > 0; large for the most similar base class alone.
    shift: :math:`\alpha` in ``[0, 1]``; 0 leaves the directions as they are.

  Returns:
    Prototypes: of base classes and classes not seen as they were, of new ones as above.

  Raises:
    ValueError: if ``base`` is not one flag a class.

  References:
    Wang et al., `Few-Shot Class-Incremental Learning via Training-Free Prototype Calibration
    <https://arxiv.org/abs/2312.05229>`_, 2023.
  """
  if base.shape != params.seen.shape:
    raise ValueError(f"expected base [{len(params.seen)}], a flag a class, got {base.shape}")
  unit = l2_normalize(params.mean)
  known = base & params.seen
  cosine = jnp.matmul(unit, unit.T, precision=lax.Precision.HIGHEST)
  weights = jax.nn.softmax(jnp.where(known[None], scale * cosine, -jnp.inf), -1)
  alike = jnp.matmul(weights, unit, precision=lax.Precision.HIGHEST)
  moved = (1 - shift) * unit + shift * l2_normalize(alike)
  new = params.seen & ~base & jnp.any(known)
  return params._replace(mean=jnp.where(new[:, None], moved, params.mean))
