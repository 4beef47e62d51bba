"""Losses that let views agree while every dimension varies and no two vary together."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape
from repjax.losses.layout import batch_sum
from repjax.losses.moments import centered, products, taking_part


def vicreg(
  z_1: jax.Array,
  z_2: jax.Array,
  *,
  invariance_weight: float | jax.Array = 25.0,
  variance_weight: float | jax.Array = 25.0,
  covariance_weight: float | jax.Array = 1.0,
  eps: float = 1e-4,
  where: jax.Array | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Pulls two views together, while every dimension varies and no two vary together.

  .. math::
    \ell = \frac{\lambda}{n d} \sum_b \lVert z_b - z'_b \rVert^2
      + \frac{\mu}{2} (v(Z) + v(Z')) + \nu (c(Z) + c(Z'))

    v(Z) = \frac{1}{d} \sum_j \max\bigl(0, 1 - \sqrt{\operatorname{Var}(z_j) + \epsilon}\bigr),
    \qquad c(Z) = \frac{1}{d} \sum_i \sum_{j \neq i} \operatorname{Cov}(z_i, z_j)^2

  with unbiased moments; those of a batch of one are 0. We follow the authors' code, as lightly
  does: the paper does not halve the variance term and averages the first term over rows alone.
  solo-learn does not halve it either: its weight of 25 is 50 here.

  Args:
    z_1: first view, ``[batch, dim]``.
    z_2: second view, ``[batch, dim]``, row-aligned with ``z_1``.
    invariance_weight: :math:`\lambda`, of the distance of views.
    variance_weight: :math:`\mu`, of what standard deviations lack to 1.
    covariance_weight: :math:`\nu`, of what dimensions have in common.
    eps: added to variances.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    The loss, a float32 scalar, >= 0; 0 where nothing takes part.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Bardes et al., `VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised
    Learning <https://arxiv.org/abs/2105.04906>`_, 2021, section 4.1.
  """
  check_same_shape(2, z_1=z_1, z_2=z_2)
  weights = invariance_weight, variance_weight, covariance_weight
  return _vicreg(z_1, z_2, weights, where, axis_name, eps, precision)


def vicregl(
  z_1: jax.Array,
  z_2: jax.Array,
  map_1: jax.Array,
  map_2: jax.Array,
  grid_1: jax.Array,
  grid_2: jax.Array,
  *,
  alpha: float | jax.Array = 0.75,
  num_matches: tuple[int, ...] = (20, 4),
  invariance_weight: float | jax.Array = 25.0,
  variance_weight: float | jax.Array = 25.0,
  covariance_weight: float | jax.Array = 1.0,
  eps: float = 1e-4,
  where: jax.Array | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""`vicreg` of two views and of those of their local features that match.

  .. math::
    \ell = \alpha\, \ell(Z, Z') + \frac{1 - \alpha}{4} \sum_{d} \sum_{m}
      \bigl(\ell(M_{d,m}) + \ell(M'_{d,m})\bigr)

  Each local feature has a nearest one in the other view, by features or by place (the sum over
  d); :math:`M_{d,m}` holds the m closest of the pairs that start from the first view,
  :math:`M'_{d,m}` of those that start from the second. All :math:`\ell` are `vicreg` with half the
  weight of covariances. Both numbers of matches serve in both directions, as in the authors' code
  and lightly; in the paper they are for large and small crops. The moments of matches are taken
  over the batch, match by match, of which the closest comes first, as in lightly; the authors'
  code keeps their order in the map. With small crops, average over pairs of views.

  Args:
    z_1: pooled first view, ``[batch, dim]``.
    z_2: pooled second view, ``[batch, dim]``.
    map_1: local features of the first view, ``[batch, tokens_1, map_dim]``.
    map_2: local features of the second view, ``[batch, tokens_2, map_dim]``.
    grid_1: where in the image they are, ``[batch, tokens_1, 2]``.
    grid_2: the same for the second view, ``[batch, tokens_2, 2]``.
    alpha: weight of the pooled views, from 0 to 1.
    num_matches: how many pairs are kept, m above; all if there are fewer.
    invariance_weight: of the distance of views.
    variance_weight: of what standard deviations lack to 1.
    covariance_weight: of what dimensions have in common.
    eps: added to variances.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    The loss, a float32 scalar, >= 0; 0 where nothing takes part.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Bardes et al., `VICRegL: Self-Supervised Learning of Local Visual Features
    <https://arxiv.org/abs/2210.01571>`_, 2022.
  """
  check_same_shape(2, z_1=z_1, z_2=z_2)
  of_batch = lambda m: m.ndim == 3 and len(m) == len(z_1)
  fits = of_batch(map_1) and of_batch(map_2) and map_1.shape[2] == map_2.shape[2]
  places = ((grid_1, map_1), (grid_2, map_2))
  if not fits or any(grid.shape != (*m.shape[:2], 2) for grid, m in places):
    shapes = {"map_1": map_1, "grid_1": grid_1, "map_2": map_2, "grid_2": grid_2}
    shapes = {name: jnp.shape(x) for name, x in shapes.items()}
    raise ValueError(
      f"expected [batch, tokens, dim] maps and [batch, tokens, 2] grids of {len(z_1)} rows, "
      f"got {shapes}"
    )
  weights = invariance_weight, variance_weight, covariance_weight / 2
  options = weights, where, axis_name, eps, precision
  map_1, map_2 = at_least_float32(map_1), at_least_float32(map_2)
  grid_1, grid_2 = (lax.stop_gradient(at_least_float32(x)) for x in (grid_1, grid_2))
  local = 0.0
  for distances in (_between_features(map_1, map_2), _between_places(grid_1, grid_2)):
    for x, y, d in ((map_1, map_2, distances), (map_2, map_1, distances.swapaxes(1, 2))):
      each = _vicreg(*_closest(x, y, d, max(num_matches)), *options)
      local += sum(jnp.mean(each[:count]) for count in num_matches)
  local /= 2 * len(num_matches)
  return alpha * _vicreg(z_1, z_2, *options) + (1 - alpha) * local


def sie(
  invariant_1: jax.Array,
  invariant_2: jax.Array,
  equivariant_1: jax.Array,
  equivariant_2: jax.Array,
  prediction: jax.Array,
  *,
  invariance_weight: float | jax.Array = 10.0,
  equivariance_weight: float | jax.Array = 4.5,
  variance_weight: float | jax.Array = 10.0,
  covariance_weight: float | jax.Array = 1.0,
  eps: float = 1e-4,
  where: jax.Array | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""`vicreg` of an embedding of which a part stays while the rest moves with the transformation.

  .. math::
    \ell = \lambda_i \operatorname{mse}(I, I') + \lambda_e \operatorname{mse}(\hat E, E')
      + \frac{\mu}{2} \bigl(v(Z) + v(Z') + v(\hat E)\bigr) + \nu (c(Z) + c(Z')), \qquad
    Z = [I, E]

  with v and c as in `vicreg`. :math:`\hat E` predicts the second view's equivariant part from the
  first one's and the transformation between them; its variance keeps the predictor from
  collapsing. Gradients reach both sides of both errors. Weights are those of the authors' command,
  whose ``--equi-factor`` of 0.45 multiplies its ``--sim-coeff`` of 10.

  Args:
    invariant_1: first view's part that is to stay the same, ``[batch, invariant_dim]``.
    invariant_2: the second view's, same shape.
    equivariant_1: first view's part that is to be predictable, ``[batch, equivariant_dim]``.
    equivariant_2: the second view's, same shape.
    prediction: of ``equivariant_2``, same shape.
    invariance_weight: :math:`\lambda_i`, of the distance of invariant parts.
    equivariance_weight: :math:`\lambda_e`, of the error of the prediction.
    variance_weight: :math:`\mu`, of what standard deviations lack to 1.
    covariance_weight: :math:`\nu`, of what dimensions have in common, also across the parts.
    eps: added to variances.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    The loss, a float32 scalar, >= 0; 0 where nothing takes part.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Garrido et al., `Self-supervised learning of Split Invariant Equivariant representations
    <https://arxiv.org/abs/2302.10283>`_, 2023; we follow the `authors' code
    <https://github.com/facebookresearch/SIE>`_.
  """
  check_same_shape(2, invariant_1=invariant_1, invariant_2=invariant_2)
  check_same_shape(
    2, equivariant_1=equivariant_1, equivariant_2=equivariant_2, prediction=prediction
  )
  if len(invariant_1) != len(equivariant_1):
    rows = f"{len(invariant_1)} and {len(equivariant_1)}"
    raise ValueError(f"expected parts of the same examples, got {rows} rows")
  z_1 = jnp.concatenate([invariant_1, equivariant_1], -1)
  z_2 = jnp.concatenate([invariant_2, equivariant_2], -1)
  invariance = _squared_error(invariant_1, invariant_2, where, axis_name)
  equivariance = _squared_error(prediction, equivariant_2, where, axis_name)
  # The covariances of the prediction are not used, and so not computed by a compiled program.
  moments = (_moments(z, where, axis_name, eps, precision) for z in (z_1, z_2, prediction))
  (variance_1, covariance_1), (variance_2, covariance_2), (variance_3, _) = moments
  return (
    invariance_weight * invariance
    + equivariance_weight * equivariance
    + variance_weight * (variance_1 + variance_2 + variance_3) / 2
    + covariance_weight * (covariance_1 + covariance_2)
  )


def _vicreg(z_1, z_2, weights, where, axis_name, eps, precision) -> jax.Array:
  """Of ``[batch, ..., dim]``, for each of what stands between."""
  invariance = _squared_error(z_1, z_2, where, axis_name)
  moments = (_moments(z, where, axis_name, eps, precision) for z in (z_1, z_2))
  (variance_1, covariance_1), (variance_2, covariance_2) = moments
  of_invariance, of_variance, of_covariance = weights
  return (
    of_invariance * invariance
    + of_variance * (variance_1 + variance_2) / 2
    + of_covariance * (covariance_1 + covariance_2)
  )


def _squared_error(x, y, where, axis_name) -> jax.Array:
  """Mean over dimensions and the rows that take part; 0 where none does."""
  difference = at_least_float32(x) - at_least_float32(y)
  difference, count = taking_part(difference, where, axis_name)
  total = batch_sum(jnp.sum(jnp.mean(jnp.square(difference), -1), 0), axis_name)
  return total / jnp.maximum(count, 1)


def _moments(z, where, axis_name, eps, precision) -> tuple[jax.Array, jax.Array]:
  """What standard deviations lack to 1, and what dimensions have in common."""
  z, count = centered(z, where, axis_name)
  degrees = jnp.maximum(count - 1, 1)
  variance = batch_sum(jnp.sum(jnp.square(z), 0), axis_name) / degrees
  lack = jnp.mean(jax.nn.relu(1 - jnp.sqrt(variance + eps)), -1)
  covariance = products(z, z, axis_name, precision=precision) / degrees
  own = jnp.broadcast_to(jnp.eye(z.shape[-1], dtype=bool), covariance.shape)
  common = jnp.sum(jnp.square(jnp.where(own, 0, covariance)), (-2, -1)) / z.shape[-1]
  return jnp.where(count > 0, lack, 0), common


def _between_features(x, y) -> jax.Array:
  """Squared distances of all tokens of an image, ``[batch, tokens_1, tokens_2]``."""
  x, y = lax.stop_gradient((x, y))
  dots = jnp.einsum("bic,bjc->bij", x, y, precision="highest")
  lengths = jnp.sum(x * x, -1)[:, :, None] + jnp.sum(y * y, -1)[:, None, :]
  return lengths - 2 * dots


def _between_places(x, y) -> jax.Array:
  """The same from differences, since on grids many are equal and ought to stay so."""
  apart = lambda k: jnp.square(x[:, :, None, k] - y[:, None, :, k])
  return apart(0) + apart(1)


def _closest(x, y, distance, count) -> tuple[jax.Array, jax.Array]:
  """The rows of x that are closest to their nearest rows of y, and those; closest first."""
  nearest = jnp.argmin(distance, 2)
  order = lax.top_k(-jnp.min(distance, 2), min(count, x.shape[1]))[1]
  pick = lambda rows, index: jnp.take_along_axis(rows, index[:, :, None], 1)
  return pick(x, order), pick(y, jnp.take_along_axis(nearest, order, 1))
