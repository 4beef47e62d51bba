"""Losses that hold embeddings to an isotropic normal distribution, one direction at a time."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from repjax.arrays import at_least_float32, l2_normalize
from repjax.losses.layout import batch_mean, batch_sum, kept


def epps_pulley(
  x: jax.Array,
  *,
  knots: int = 17,
  t_max: float = 3.0,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""How far samples are from a standard normal distribution, by characteristic functions.

  .. math::
    T = n \int_{-t_{\max}}^{t_{\max}} \Bigl|\frac{1}{n} \sum_i e^{\mathrm{i} t x_i}
      - e^{-t^2 / 2}\Bigr|^2 e^{-t^2 / 2} \, dt

  by the trapezoidal rule on ``[0, t_max]``, doubled, as in the authors' code; the paper integrates
  from -5 to 5. A statistic of the test of Epps and Pulley, which grows with n for samples of
  another distribution, and does not for normal ones.

  Args:
    x: independent samples, one column a distribution, ``[batch, columns]``.
    knots: points at which the integrand is evaluated, > 1.
    t_max: up to which frequency, > 0.
    where: ``[batch]`` bool, rows that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    The statistic of each column, ``[columns]`` float32, >= 0; 0 where nothing takes part.

  Raises:
    ValueError: if ``x`` is not rank 2 or ``knots`` is below 2.

  References:
    Epps and Pulley, `A Test for Normality Based on the Empirical Characteristic Function
    <https://doi.org/10.1093/biomet/70.3.723>`_, 1983.
    Balestriero and LeCun, `LeJEPA: Provable and Scalable Self-Supervised Learning Without the
    Heuristics <https://arxiv.org/abs/2511.08544>`_, 2025.
  """
  if x.ndim != 2 or knots < 2:
    raise ValueError(f"expected [batch, columns] and two knots or more, got {x.shape}, {knots}")
  x = at_least_float32(x)
  keep = kept(where, len(x))
  x = jnp.where(keep[:, None], x, 0)
  t, step = np.linspace(0, t_max, knots, retstep=True)
  normal = np.exp(-(t**2) / 2)
  weight = 2 * step * normal
  weight[[0, -1]] /= 2

  @jax.checkpoint  # so that one matrix is kept and not one for each frequency
  def wave(frequency):
    angle = frequency * x
    shown = lambda y: jnp.sum(jnp.where(keep[:, None], y, 0), 0)
    return shown(jnp.cos(angle)), shown(jnp.sin(angle))

  sums = lax.map(wave, jnp.asarray(t, x.dtype))
  (cosine, sine), count = batch_sum((sums, jnp.sum(keep)), axis_name)
  cosine, sine = cosine / jnp.maximum(count, 1), sine / jnp.maximum(count, 1)
  distance = jnp.square(cosine - jnp.asarray(normal, x.dtype)[:, None]) + jnp.square(sine)
  return count * jnp.sum(jnp.asarray(weight, x.dtype)[:, None] * distance, 0)


def sigreg(
  z: jax.Array,
  key: jax.Array,
  *,
  slices: int = 1024,
  knots: int = 17,
  t_max: float = 3.0,
  where: jax.Array | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Sketched isotropic Gaussian regularisation: `epps_pulley` along random directions.

  .. math::
    \ell = \frac{1}{m} \sum_{a} T(\{\langle a, z_i\rangle\}_i)

  over m unit vectors a, drawn evenly from the sphere. Embeddings of mean 0, variance 1 in every
  direction and normal shape have the least of it, so it needs no negatives, no teacher and no
  stopping of gradients. The statistic grows with the batch, as in the authors' code and lightly,
  and the weight that suits it with it.

  Args:
    z: embeddings, ``[batch, dim]``, or several views of them, ``[batch, views, dim]``, each of
      which is held to the distribution; not normalised.
    key: a new one for each step, the same on all shards.
    slices: m; directions are new in each step, so that few of them see all of the space in time.
    knots: points at which the integrand is evaluated, > 1.
    t_max: up to which frequency, > 0.
    where: ``[batch]`` bool, rows that take part; all if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    The loss, a float32 scalar, >= 0; 0 where nothing takes part.

  Raises:
    ValueError: if ``z`` is not rank 2 or 3, or ``knots`` is below 2.

  References:
    Balestriero and LeCun, `LeJEPA: Provable and Scalable Self-Supervised Learning Without the
    Heuristics <https://arxiv.org/abs/2511.08544>`_, 2025; we follow the `authors' code
    <https://github.com/rbalestr-lab/lejepa>`_.
  """
  if z.ndim not in (2, 3):
    raise ValueError(f"expected [batch, dim] or [batch, views, dim], got {z.shape}")
  z = at_least_float32(z)
  directions = _directions(key, slices, z)
  along = jnp.matmul(z, directions.T, precision=precision).reshape(len(z), -1)
  options = {"knots": knots, "t_max": t_max, "where": where, "axis_name": axis_name}
  return jnp.mean(epps_pulley(along, **options))


def lejepa(
  z: jax.Array,
  key: jax.Array,
  *,
  sigreg_weight: float | jax.Array = 0.05,
  global_views: int | None = None,
  slices: int = 1024,
  knots: int = 17,
  t_max: float = 3.0,
  where: jax.Array | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Every view predicts the mean of the global ones, and every view is held to a normal one.

  .. math::
    \ell = \frac{1 - \lambda}{n k d} \sum_{i,v} \lVert z_{iv} - \bar z_i \rVert^2
      + \frac{\lambda}{k} \sum_v \operatorname{SIGReg}(Z_v)

  with :math:`\bar z_i` the mean of example i's global views and the same directions for all views.
  Gradients reach both sides of the first term. As in lightly and the authors' minimal example.

  Args:
    z: views of each example, global ones first, ``[batch, views, dim]``; not normalised.
    key: a new one for each step, the same on all shards.
    sigreg_weight: :math:`\lambda`, from 0 to 1; the paper tries 0.01 to 0.1.
    global_views: how many views are global; all if absent.
    slices: directions in which embeddings are looked at.
    knots: points at which the integrand is evaluated, > 1.
    t_max: up to which frequency, > 0.
    where: ``[batch]`` bool, examples that take part; all if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    The loss, a float32 scalar, >= 0; 0 where nothing takes part.

  Raises:
    ValueError: if ``z`` is not rank 3 or does not have so many global views.

  References:
    Balestriero and LeCun, `LeJEPA: Provable and Scalable Self-Supervised Learning Without the
    Heuristics <https://arxiv.org/abs/2511.08544>`_, 2025; we follow the `authors' code
    <https://github.com/rbalestr-lab/lejepa>`_.
  """
  if z.ndim != 3:
    raise ValueError(f"expected [batch, views, dim], got {z.shape}; stack the views on axis 1")
  if global_views is not None and not 0 < global_views <= z.shape[1]:
    raise ValueError(f"global_views={global_views} of {z.shape[1]} views; give 1 to all of them")
  z = at_least_float32(z)
  if where is not None:
    z = jnp.where(where[:, None, None], z, 0)
  centre = jnp.mean(z[:, :global_views], 1, keepdims=True)
  error = batch_mean(jnp.mean(jnp.square(z - centre), (1, 2)), axis_name, where=where)
  options = {"slices": slices, "knots": knots, "t_max": t_max, "precision": precision}
  shape = sigreg(z, key, where=where, axis_name=axis_name, **options)
  return (1 - sigreg_weight) * error + sigreg_weight * shape


def _directions(key, slices, z) -> jax.Array:
  """Unit vectors in the space of z, the same whatever its precision."""
  a = jax.random.normal(key, (slices, z.shape[-1]), jnp.float32)
  return l2_normalize(a.astype(z.dtype))
