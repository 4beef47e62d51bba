"""Pairs of variables whose mutual information is known, for estimators to be judged on."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from repjax.measure.gaussian_information import covariance_information


class Task(NamedTuple):
  """Two variables and what they tell of each other.

  Attributes:
    sample: ``(key, n) -> (x [n, dim_x], y [n, dim_y])``, float32, traceable for a fixed n.
    information: mutual information in nats.
  """

  sample: Callable[[jax.Array, int], tuple[jax.Array, jax.Array]]
  information: float


def normal_task(covariance: np.ndarray, dim_x: int) -> Task:
  """Two parts of a normal vector.

  Args:
    covariance: ``[dim, dim]``, positive definite.
    dim_x: how many of the first coordinates are ``x``.

  Returns:
    The task.

  Raises:
    ValueError: if the covariance is not square or does not leave both parts some coordinates.
  """
  information = float(covariance_information(jnp.asarray(covariance), dim_x))
  root = jnp.asarray(np.linalg.cholesky(covariance), jnp.float32)

  def sample(key, n):
    z = jax.random.normal(key, (n, len(root))) @ root.T
    return z[:, :dim_x], z[:, dim_x:]

  return Task(sample, information)


def dense_correlation(dim_x: int, dim_y: int, *, correlation: float = 0.5) -> np.ndarray:
  """All coordinates correlate alike.

  Args:
    dim_x: coordinates of ``x``.
    dim_y: coordinates of ``y``.
    correlation: of any two.

  Returns:
    ``[dim_x + dim_y, dim_x + dim_y]``, a covariance for `normal_task` and `student_task`.
  """
  dim = dim_x + dim_y
  return np.eye(dim) * (1 - correlation) + correlation


def sparse_correlation(
  dim_x: int, dim_y: int, *, pairs: int = 2, correlation: float = 0.8
) -> np.ndarray:
  """The first coordinates of either side correlate one by one; the rest is noise.

  Args:
    dim_x: coordinates of ``x``.
    dim_y: coordinates of ``y``.
    pairs: how many correlate.
    correlation: of a pair.

  Returns:
    ``[dim_x + dim_y, dim_x + dim_y]``, a covariance for `normal_task` and `student_task`.
  """
  matrix = np.eye(dim_x + dim_y)
  first = np.arange(pairs)
  matrix[first, dim_x + first] = matrix[dim_x + first, first] = correlation
  return matrix


def student_task(dispersion: np.ndarray, dim_x: int, *, freedom: float) -> Task:
  r"""Two parts of a vector of Student's distribution, which depend even if nothing correlates.

  The information is that of normal variables of this covariance and a term for the scale that all
  coordinates share, :math:`h(d_x) + h(d_y) - h(d_x + d_y)` with the differential entropy

  .. math::
    h(d) = \log \frac{\Gamma(\nu / 2)}{\Gamma((\nu + d) / 2)} + \frac{d}{2} \log \nu \pi
    + \frac{\nu + d}{2} \Big(\psi\Big(\frac{\nu + d}{2}\Big) - \psi\Big(\frac{\nu}{2}\Big)\Big)

  Args:
    dispersion: ``[dim, dim]``, positive definite; the identity is as good as any other.
    dim_x: how many of the first coordinates are ``x``.
    freedom: degrees of freedom, > 0; there is no covariance up to 2.

  Returns:
    The task.

  Raises:
    ValueError: if the dispersion is not square or does not leave both parts some coordinates.

  References:
    Arellano-Valle et al., `Shannon Entropy and Mutual Information for Multivariate Skew-Elliptical
    Distributions <https://doi.org/10.1111/j.1467-9469.2011.00774.x>`_, 2013, eq. 7.
  """
  normal = normal_task(dispersion, dim_x)
  dims = dim_x, len(dispersion) - dim_x
  entropy = lambda dim: _student_entropy(dim, freedom)
  shared = entropy(dims[0]) + entropy(dims[1]) - entropy(sum(dims))

  def sample(key, n):
    k_normal, k_scale = jax.random.split(key)
    scale = jnp.sqrt(freedom / 2 / jax.random.gamma(k_scale, freedom / 2, (n, 1)))
    x, y = normal.sample(k_normal, n)
    return x * scale, y * scale

  return Task(sample, normal.information + shared)


def _student_entropy(dim, freedom):
  from scipy.special import digamma

  half = (freedom + dim) / 2
  log_term = math.lgamma(freedom / 2) - math.lgamma(half) + dim / 2 * math.log(freedom * math.pi)
  return log_term + half * float(digamma(half) - digamma(freedom / 2))


def additive_uniform_task(noise: float) -> Task:
  r"""A uniform number and the same with uniform noise.

  .. math:: x \sim U(0, 1), \quad y = x + U(-\epsilon, \epsilon), \quad
    I = \epsilon - \log 2 \epsilon \ \text{up to}\ \epsilon = \tfrac12, \ \frac{1}{4 \epsilon} \
    \text{beyond}

  Args:
    noise: epsilon, > 0.

  Returns:
    The task.
  """

  def sample(key, n):
    k_x, k_noise = jax.random.split(key)
    x = jax.random.uniform(k_x, (n, 1))
    return x, x + jax.random.uniform(k_noise, (n, 1), minval=-noise, maxval=noise)

  return Task(sample, 0.25 / noise if noise > 0.5 else noise - math.log(2 * noise))


def mapped_task(
  task: Task,
  map_x: Callable[[jax.Array], jax.Array],
  map_y: Callable[[jax.Array], jax.Array] = lambda y: y,
) -> Task:
  """The same information in other coordinates.

  Args:
    task: where points come from.
    map_x: ``[n, dim_x] -> [n, any]``, one to one in each row, such as `half_cube` or `spiral`.
    map_y: likewise for ``y``.

  Returns:
    The task.
  """

  def sample(key, n):
    x, y = task.sample(key, n)
    return map_x(x), map_y(y)

  return Task(sample, task.information)


def half_cube(x: jax.Array) -> jax.Array:
  r"""Makes tails longer: :math:`x \sqrt{|x|}`.

  Args:
    x: any shape.

  Returns:
    Same shape.
  """
  return x * jnp.sqrt(jnp.abs(x))


def uniform_margin(x: jax.Array) -> jax.Array:
  """Distribution function of the normal distribution: makes normal coordinates uniform.

  Args:
    x: any shape.

  Returns:
    Same shape, in [0, 1].
  """
  return jax.scipy.stats.norm.cdf(x)


def swiss_roll(x: jax.Array) -> jax.Array:
  """Rolls an interval up in the plane.

  Args:
    x: ``[n, 1]``, in [0, 1].

  Returns:
    ``[n, 2]``, in about [-0.7, 0.7].

  Raises:
    ValueError: if there is more than one coordinate.
  """
  if jnp.ndim(x) != 2 or jnp.shape(x)[1] != 1:
    raise ValueError(f"expected x [n, 1], got {jnp.shape(x)}")
  t = 1.5 * jnp.pi * (1 + 2 * x)
  return jnp.concatenate([t * jnp.cos(t), t * jnp.sin(t)], 1) / 21


def spiral(x: jax.Array, *, speed: float = 1 / 3) -> jax.Array:
  """Turns the first two coordinates by an angle that grows with the square of a point's length.

  Args:
    x: ``[n, dim]``, dim >= 2.
    speed: radians for each unit of squared length.

  Returns:
    Same shape; lengths stay.

  Raises:
    ValueError: if there is one coordinate.
  """
  if jnp.ndim(x) != 2 or jnp.shape(x)[1] < 2:
    raise ValueError(f"expected x [n, dim] of two coordinates or more, got {jnp.shape(x)}")
  angle = speed * jnp.sum(x * x, 1)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  first = jnp.stack([cos * x[:, 0] - sin * x[:, 1], sin * x[:, 0] + cos * x[:, 1]], 1)
  return jnp.concatenate([first, x[:, 2:]], 1)


def information_tasks() -> dict[str, Task]:
  """A table of tasks, named as in the benchmark that most are from.

  Returns:
    Tasks by name, from one to fifty coordinates a side and 0.22 to 1.71 nats.

  References:
    Czyż et al., `Beyond Normal: On the Evaluation of Mutual Information Estimators
    <https://arxiv.org/abs/2306.11078>`_, 2023, section 3 and appendix D. Its spirals turn ``y`` in
    another plane.
  """
  pair = normal_task(dense_correlation(1, 1, correlation=0.75), 1)
  uniform = mapped_task(pair, uniform_margin, uniform_margin)
  sparse = normal_task(sparse_correlation(5, 5), 5)
  student = student_task(np.eye(2), 1, freedom=1)
  return {
    "1v1-normal-0.75": pair,
    "1v1-uniform-margins": uniform,
    "1v1-half-cube": mapped_task(pair, half_cube, half_cube),
    "1v1-additive-0.1": additive_uniform_task(0.1),
    "1v1-additive-0.75": additive_uniform_task(0.75),
    "student-1-1-1": student,
    "asinh-student-1-1-1": mapped_task(student, jnp.arcsinh, jnp.arcsinh),
    "student-2-2-2": student_task(np.eye(4), 2, freedom=2),
    "swiss-roll-2-1": mapped_task(uniform, swiss_roll),
    "normal-dense-5-5": normal_task(dense_correlation(5, 5), 5),
    "normal-dense-50-50": normal_task(dense_correlation(50, 50), 50),
    "normal-sparse-5-5": sparse,
    "half-cube-sparse-5-5": mapped_task(sparse, half_cube, half_cube),
    "spiral-sparse-5-5": mapped_task(sparse, spiral, spiral),
  }


def benchmark_tasks() -> dict[str, Task]:
  """The 40 tasks of the package benchmark-mi, where it is installed.

  Its release 0.1.3 needs a tensorflow-probability that does not import beside JAX 0.10: until it is
  mended, `information_tasks` are the ones to use.

  Returns:
    Tasks by the package's names. They are drawn with NumPy, so that ``sample`` is not traceable.

  Raises:
    ModuleNotFoundError: if the package is not installed.

  References:
    Czyż et al., `Beyond Normal: On the Evaluation of Mutual Information Estimators
    <https://arxiv.org/abs/2306.11078>`_, 2023.
  """
  import bmi

  def converted(task):
    def sample(key, n):
      seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
      return tuple(jnp.asarray(side, jnp.float32) for side in task.sample(n, seed=seed))

    return Task(sample, float(task.mutual_information))

  return {name: converted(task) for name, task in bmi.benchmark.BENCHMARK_TASKS.items()}
