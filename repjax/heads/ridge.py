"""Least squares on one-hot labels, from moments; and random features to do it on."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_labels
from repjax.heads.logistic import Logistic
from repjax.heads.moments import Moments, total_moments

_HIGHEST = lax.Precision.HIGHEST


def gram_and_cross(moments: Moments, *, intercept: bool) -> tuple[jax.Array, jax.Array]:
  r"""What least squares need: :math:`X^\top X` and :math:`X^\top Y` with one-hot rows :math:`Y`.

  Args:
    moments: with a scatter, shared or of each class.
    intercept: whether both are centred on the mean of all rows.

  Returns:
    ``[dim, dim]`` and ``[dim, classes]``.

  Raises:
    ValueError: if no scatter was kept.
  """
  total = total_moments(moments)
  count = moments.count.astype(total.scatter.dtype)[:, None]
  if intercept:
    return total.scatter, (count * (moments.mean - total.mean)).T
  outer = jnp.matmul(total.mean.T, total.mean, precision=_HIGHEST)
  return total.scatter + jnp.sum(count) * outer, (count * moments.mean).T


def fit_ridge(moments: Moments, *, penalty: float | jax.Array, intercept: bool = True) -> Logistic:
  r"""Ridge regression to one-hot labels.

  .. math:: \min_{W, b} \sum_i \lVert W^\top x_i + b - e_{y_i} \rVert^2 + \lambda \lVert W \rVert^2

  Equal to scikit-learn's ``Ridge(alpha=penalty, fit_intercept=intercept)`` on one-hot labels, and
  in what it predicts to ``RidgeClassifier``. Moments hold the Gram and cross-Gram matrices, so that
  batches, shards and sessions merge without loss.

  Args:
    moments: with a scatter, shared or of each class.
    penalty: lambda, > 0, in units of the sum of squares: twice the rows want twice the penalty. In
      float32 what lies below 1e-7 of the largest eigenvalue is noise.
    intercept: whether there is a bias, which is not penalised.

  Returns:
    Parameters of `repjax.heads.logits`, whose scores are near 0 and 1 and no log probabilities; the
    bias of a class not seen is -inf.

  Raises:
    ValueError: if no scatter was kept.
  """
  gram, cross = gram_and_cross(moments, intercept=intercept)
  values, axes, turned = _turned(gram, cross)
  kernel = jnp.matmul(axes, turned / (values + penalty)[:, None], precision=_HIGHEST)
  return {"kernel": kernel, "bias": _bias(moments, kernel, intercept)}


def choose_penalty(
  moments: Moments,
  features: jax.Array,
  labels: jax.Array,
  *,
  penalties: jax.Array,
  intercept: bool = True,
) -> jax.Array:
  """The penalty of `fit_ridge` whose squared error on rows held out is smallest.

  One eigendecomposition serves all penalties. Refit afterwards on
  ``combine_moments(moments, moments of the held-out rows)``. RanPAC's code does the same with a
  fifth of the rows of the current session, on the grid of powers of ten from 1e-8 to 1e8.

  Args:
    moments: of the rows to fit.
    features: ``[held, dim]``.
    labels: ``[held]`` int; -1 is left out.
    penalties: ``[k]``, > 0.
    intercept: as in `fit_ridge`.

  Returns:
    One of ``penalties``, of equals the first.

  Raises:
    ValueError: if shapes do not fit together or no scatter was kept.

  References:
    McDonnell et al., `RanPAC: Random Projections and Pre-trained Models for Continual Learning
    <https://arxiv.org/abs/2307.02251>`_, 2023, algorithm 1.
  """
  check_labels(labels, features=features)
  penalties = jnp.asarray(penalties)
  if penalties.ndim != 1 or not len(penalties):
    raise ValueError(f"expected penalties [k], got shape {penalties.shape}")
  gram, cross = gram_and_cross(moments, intercept=intercept)
  values, axes, turned = _turned(gram, cross)
  seen = moments.count > 0
  target = (labels[:, None] == jnp.arange(len(seen))[None]).astype(gram.dtype)
  counts = (labels >= 0)[:, None] & seen[None]

  def error(penalty):
    kernel = jnp.matmul(axes, turned / (values + penalty)[:, None], precision=_HIGHEST)
    scores = jnp.matmul(at_least_float32(features), kernel, precision=_HIGHEST)
    wrong = scores + _bias(moments, kernel, intercept)[None] - target
    return jnp.sum(jnp.where(counts, wrong, 0) ** 2)

  return penalties[jnp.argmin(lax.map(error, penalties.astype(gram.dtype)))]


def _turned(gram, cross):
  """Eigenvalues and axes of the Gram matrix, and the cross-Gram matrix along them."""
  values, axes = jnp.linalg.eigh(gram)
  # Rounding leaves small ones below 0, where a Cholesky factor would be NaN.
  return jnp.maximum(values, 0), axes, jnp.matmul(axes.T, cross, precision=_HIGHEST)


def _bias(moments, kernel, intercept):
  if intercept:
    rows = jnp.maximum(jnp.sum(moments.count), 1)
    share = moments.count.astype(kernel.dtype) / rows
    bias = share - jnp.matmul(total_moments(moments).mean[0], kernel, precision=_HIGHEST)
  else:
    bias = jnp.zeros(kernel.shape[1], kernel.dtype)
  return jnp.where(moments.count > 0, bias, -jnp.inf)


def random_projection(key: jax.Array, dim: int, count: int) -> jax.Array:
  """A matrix that is drawn once and never trained, for `random_features`.

  Args:
    key: sole source of randomness.
    dim: of the features.
    count: of the random features; RanPAC has 10,000.

  Returns:
    ``[dim, count]``, standard normal entries as in RanPAC's code: features grow with the square
    root of ``dim``, and the penalty that suits them with their square.
  """
  return jax.random.normal(key, (dim, count))


def random_features(projection: jax.Array, features: jax.Array) -> jax.Array:
  """Rectified random projections, in which classes that were not are linearly separable.

  Args:
    projection: ``[dim, count]``, the same for all rows; see `random_projection`.
    features: ``[batch, dim]``.

  Returns:
    ``[batch, count]``, >= 0, in at least float32.

  Raises:
    ValueError: if the dims differ.

  References:
    McDonnell et al., `RanPAC: Random Projections and Pre-trained Models for Continual Learning
    <https://arxiv.org/abs/2307.02251>`_, 2023, section 4.2.
  """
  if features.ndim != 2 or features.shape[1] != len(projection):
    raise ValueError(
      f"expected features [batch, {len(projection)}] for this projection, got {features.shape}"
    )
  return jax.nn.relu(jnp.matmul(at_least_float32(features), projection, precision=_HIGHEST))
