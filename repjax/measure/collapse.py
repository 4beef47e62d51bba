"""Neural collapse: how near features and classifier are to one point a class on a regular frame.

Conventions, for classes of any size: rows labelled -1 and classes without a row take no part; the
centre is the mean of the class means, and within-class covariance the mean of the classes' own
unless ``by_example``; both are the paper's for balanced classes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32, check_labels


class Frame(NamedTuple):
  """How class means lie to each other; all three are 0 on a simplex equiangular tight frame.

  Attributes:
    norm_deviation: standard deviation of their lengths over the mean length.
    angle_deviation: standard deviation of the cosines of two classes.
    angle_offset: mean absolute difference of these cosines from the frame's.
  """

  norm_deviation: jax.Array
  angle_deviation: jax.Array
  angle_offset: jax.Array


def class_means(
  features: jax.Array, labels: jax.Array, *, classes: int
) -> tuple[jax.Array, jax.Array]:
  """Mean features of each class, and how many rows it has.

  Args:
    features: ``[n, dim]``.
    labels: ``[n]`` integers in ``[0, classes)``, or -1.
    classes: number of classes.

  Returns:
    ``[classes, dim]`` float32, 0 for a class without a row, and ``[classes]`` counts of its dtype.

  Raises:
    ValueError: if shapes do not fit together or labels are no integers.
  """
  check_labels(labels, features=features)
  x = at_least_float32(features)
  # A label of -1 has no row in the identity, so that nothing is added anywhere.
  member = jax.nn.one_hot(labels, classes, dtype=x.dtype)
  counts = jnp.sum(member, 0)
  return jnp.matmul(member.T, x, precision="highest") / jnp.maximum(counts, 1)[:, None], counts


def within_class_variability(
  features: jax.Array,
  labels: jax.Array,
  *,
  classes: int,
  by_example: bool = False,
  rtol: float | None = None,
) -> jax.Array:
  r"""NC1: variance within classes in the directions and units in which their means differ.

  .. math:: \frac1C \mathrm{tr}(\Sigma_W \Sigma_B^+)

  It is invariant to invertible linear maps of features whose rank is that of the means. The value
  for features without structure is not small: with C of them per dimension and n examples a class
  it is near n. The covariance between is of rank C - 1 at most, and no ``[dim, dim]`` matrix is
  formed.

  Args:
    features: ``[n, dim]``.
    labels: ``[n]`` integers in ``[0, classes)``, or -1.
    classes: number of classes; C is that of those with rows.
    by_example: all examples count alike, in both covariances and the centre, so that large classes
      weigh more. By default all classes do.
    rtol: singular values of the centred means below this share of the means' own length count as
      0; by default ``max(classes, dim)`` machine epsilons.

  Returns:
    Scalar float32, >= 0; 0 for collapsed features, and undefined where all means coincide.

  Raises:
    ValueError: if shapes do not fit together or labels are no integers.

  References:
    Papyan et al., `Prevalence of Neural Collapse during the terminal phase of deep learning
    training <https://arxiv.org/abs/2008.08186>`_, 2020, figure 6.
  """
  means, counts = class_means(features, labels, classes=classes)
  x = at_least_float32(features)
  share = _shares(counts, by_example)
  centred = (means - jnp.sum(share[:, None] * means, 0, keepdims=True)) * jnp.sqrt(share)[:, None]
  _, values, directions = jnp.linalg.svd(centred, full_matrices=False)
  if rtol is None:
    rtol = max(centred.shape) * float(jnp.finfo(x.dtype).eps)
  # Centring takes one rank, whose singular value is rounding alone.
  some = jnp.arange(len(values)) < jnp.sum(counts > 0) - 1
  some &= values > rtol * jnp.sqrt(jnp.sum(share * jnp.sum(means * means, 1)))
  inverse = jnp.where(some, 1 / jnp.where(some, values, 1), 0)
  known = labels >= 0
  safe = jnp.where(known, labels, 0)
  weight = jnp.where(known, share[safe] / jnp.maximum(counts, 1)[safe], 0)
  about = jnp.matmul(x - means[safe], directions.T, precision="highest") * inverse[None]
  trace = jnp.sum(weight[:, None] * about * about) / jnp.sum(counts > 0)
  return jnp.where(jnp.any(some), trace, jnp.nan)


def frame_deviation(
  means: jax.Array,
  *,
  where: jax.Array | None = None,
  centre: bool = True,
  cosine: float | jax.Array | None = None,
) -> Frame:
  r"""NC2: how far class means, or a classifier's rows, are from equal lengths and equal angles.

  .. math::
    \frac{\mathrm{std}_c \lVert \tilde\mu_c \rVert}{\mathrm{mean}_c \lVert \tilde\mu_c \rVert},
    \qquad \mathrm{std}_{c \neq c'} \cos(\tilde\mu_c, \tilde\mu_{c'}),
    \qquad \mathrm{mean}_{c \neq c'} \lvert \cos(\tilde\mu_c, \tilde\mu_{c'}) - \kappa \rvert

  with :math:`\kappa = -1 / (C - 1)` for a simplex about its centre. Features after ReLU, or without
  a bias in the classifier, end in an orthogonal frame instead: ``centre=False, cosine=0``.

  Args:
    means: ``[classes, dim]``.
    where: ``[classes]`` boolean, the classes that take part; all if absent.
    centre: whether the mean of the class means is taken off first.
    cosine: :math:`\kappa`.

  Returns:
    A `Frame` of scalars.

  Raises:
    ValueError: if ``means`` is not rank 2, has one row, or ``where`` does not fit it.

  References:
    Papyan et al., `Prevalence of Neural Collapse during the terminal phase of deep learning
    training <https://arxiv.org/abs/2008.08186>`_, 2020, figures 2 to 4.
  """
  means, where = _checked(means, where)
  count = jnp.sum(where)
  if centre:
    means = _centred(means, where)
  norms = jnp.linalg.norm(means, axis=1)
  unit = means / jnp.maximum(norms, jnp.finfo(means.dtype).tiny)[:, None]
  cosines = jnp.matmul(unit, unit.T, precision="highest")
  pairs = (where[:, None] & where[None]) & ~jnp.eye(len(means), dtype=bool)
  kappa = -1 / (count - 1) if cosine is None else cosine
  return Frame(
    jnp.std(norms, where=where) / jnp.mean(norms, where=where),
    jnp.std(cosines, where=pairs),
    jnp.mean(jnp.abs(cosines - kappa), where=pairs),
  )


def self_duality(
  kernel: jax.Array, means: jax.Array, *, where: jax.Array | None = None, centre: bool = True
) -> jax.Array:
  r"""NC3: distance of the classifier from the class means, both scaled to unit Frobenius norm.

  .. math:: \Big\lVert \frac{W}{\lVert W \rVert_F} - \frac{\tilde M}{\lVert \tilde M \rVert_F}
    \Big\rVert_F^2

  Args:
    kernel: ``[dim, classes]``, as the heads have it.
    means: ``[classes, dim]``.
    where: ``[classes]`` boolean, the classes that take part; all if absent.
    centre: whether the mean of the class means is taken off them first; the kernel stays.

  Returns:
    Scalar float32 between 0 and 4; some 2 for two that have nothing to do with each other.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Papyan et al., `Prevalence of Neural Collapse during the terminal phase of deep learning
    training <https://arxiv.org/abs/2008.08186>`_, 2020, figure 5.
  """
  means, where = _checked(means, where)
  if jnp.shape(kernel) != means.shape[::-1]:
    raise ValueError(
      f"expected kernel [dim, classes] and means [classes, dim], got {jnp.shape(kernel)} and "
      f"{means.shape}"
    )
  means = _centred(means, where) if centre else means
  kernel = jnp.where(where[:, None], at_least_float32(kernel).T, 0)
  means = jnp.where(where[:, None], means, 0)
  unit = lambda x: x / jnp.maximum(jnp.linalg.norm(x), jnp.finfo(x.dtype).tiny)
  return jnp.sum(jnp.square(unit(kernel) - unit(means)))


def nearest_mean_disagreement(
  features: jax.Array,
  logits: jax.Array,
  means: jax.Array,
  *,
  where: jax.Array | None = None,
) -> jax.Array:
  r"""NC4: share of examples that the classifier puts elsewhere than the nearest class mean.

  Args:
    features: ``[n, dim]``.
    logits: ``[n, classes]``, what the classifier says of them.
    means: ``[classes, dim]``, of the train split as a rule.
    where: ``[classes]`` boolean, the classes that either may answer; all if absent.

  Returns:
    Scalar float32 between 0 and 1. Of equals, either takes the first class.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Papyan et al., `Prevalence of Neural Collapse during the terminal phase of deep learning
    training <https://arxiv.org/abs/2008.08186>`_, 2020, figure 7.
  """
  means, where = _checked(means, where)
  shapes = jnp.shape(features), jnp.shape(logits)
  if len(shapes[0]) != 2 or shapes != ((shapes[0][0], means.shape[1]), (shapes[0][0], len(means))):
    raise ValueError(
      f"expected features [n, dim], logits [n, classes] and means [classes, dim], got {shapes[0]}, "
      f"{shapes[1]} and {means.shape}"
    )
  x = at_least_float32(features)
  nearness = jnp.matmul(x, means.T, precision="highest") - jnp.sum(means * means, 1)[None] / 2
  chosen = [jnp.argmax(jnp.where(where[None], y, -jnp.inf), 1) for y in (nearness, logits)]
  return jnp.mean(chosen[0] != chosen[1], dtype=x.dtype)


def unconstrained_norms(
  counts: jax.Array, *, penalty_kernel: float | jax.Array, penalty_features: float | jax.Array
) -> tuple[jax.Array, jax.Array]:
  r"""Lengths that a classifier's rows and features take at best if features are free, by class.

  The minimum of :math:`\frac{1}{2N} \lVert W H - Y \rVert^2 + \frac{\lambda_W}{2} \lVert W
  \rVert^2 + \frac{\lambda_H}{2} \lVert H \rVert^2` with one-hot targets, no bias, and no fewer
  dimensions than classes has features that equal their class's mean, means that are orthogonal, and

  .. math::
    \lVert w_c \rVert^2 = \Big(\sqrt{n_c \lambda_H / \lambda_W} - N \lambda_H\Big)_+, \qquad
    \lVert h_c \rVert^2 = \Big(\sqrt{\lambda_W / (n_c \lambda_H)} - N \lambda_W / n_c\Big)_+

  so that a class of :math:`n_c \leq N^2 \lambda_W \lambda_H` examples is lost: both are 0.

  Args:
    counts: ``[classes]`` examples of each, > 0; N is their sum.
    penalty_kernel: :math:`\lambda_W` > 0.
    penalty_features: :math:`\lambda_H` > 0.

  Returns:
    Lengths of the classifier's rows and of the features, ``[classes]`` float32 each.

  Raises:
    ValueError: if ``counts`` is not rank 1.

  References:
    Dang et al., `Neural Collapse in Deep Linear Networks: From Balanced to Imbalanced Data
    <https://arxiv.org/abs/2301.00437>`_, 2023, section 4, one layer. The theorem's text was not at
    hand: the formula is derived here, class by class, and the tests hold it to the minimum.
  """
  if jnp.ndim(counts) != 1:
    raise ValueError(f"expected counts [classes], got {jnp.shape(counts)}")
  n = at_least_float32(counts)
  # What the product of both lengths is short of 1 by.
  product = jnp.maximum(1 - jnp.sum(n) * jnp.sqrt(penalty_kernel * penalty_features / n), 0)
  ratio = jnp.sqrt(n * penalty_features / penalty_kernel)
  return jnp.sqrt(product * ratio), jnp.sqrt(product / ratio)


def _shares(counts, by_example):
  weight = counts if by_example else (counts > 0).astype(counts.dtype)
  return weight / jnp.maximum(jnp.sum(weight), 1)


def _checked(means, where):
  shape = jnp.shape(means)
  if len(shape) != 2 or shape[0] < 2:
    raise ValueError(f"expected means [classes, dim] of two classes or more, got {shape}")
  if where is None:
    where = jnp.ones(shape[0], bool)
  if jnp.shape(where) != shape[:1]:
    raise ValueError(f"expected where [classes], got {jnp.shape(where)} for means of {shape}")
  return at_least_float32(means), jnp.asarray(where)


def _centred(means, where):
  return means - jnp.mean(means, 0, keepdims=True, where=where[:, None])
