"""Tasks of known mutual information: published values, scipy's densities, and what maps keep."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from repjax import measure

RNG = np.random.default_rng(0)
# Of benchmark-mi 0.1.3, to four places.
PUBLISHED = {
  "1v1-normal-0.75": 0.4133,
  "1v1-half-cube": 0.4133,
  "1v1-additive-0.1": 1.7094,
  "student-1-1-1": 0.2242,
  "swiss-roll-2-1": 0.4133,
  "normal-dense-5-5": 0.5928,
  "normal-dense-50-50": 1.6243,
  "normal-sparse-5-5": 1.0217,
  "spiral-sparse-5-5": 1.0217,
}
tasks = functools.cache(measure.information_tasks)


def test_information_is_what_the_benchmark_publishes():
  for name, value in PUBLISHED.items():
    np.testing.assert_allclose(tasks()[name].information, value, atol=6e-5, err_msg=name)


def test_noise_wider_than_the_signal_is_a_case_of_its_own_and_meets_the_other():
  np.testing.assert_allclose(tasks()["1v1-additive-0.75"].information, 1 / 3)
  ends = [measure.additive_uniform_task(e).information for e in (0.5, 0.5 + 1e-9)]
  np.testing.assert_allclose(*ends, rtol=1e-6)


def test_the_information_of_students_is_the_mean_of_scipys_log_ratios():
  dispersion, freedom, n = measure.sparse_correlation(2, 1, pairs=1), 3.0, 20000
  task = measure.student_task(dispersion, 2, freedom=freedom)
  draw = np.concatenate(jax.jit(task.sample, static_argnums=1)(jax.random.key(0), n), 1)
  of = lambda z, part: stats.multivariate_t(shape=dispersion[part, part], df=freedom).logpdf(z)
  everything, x, y = slice(None), slice(0, 2), slice(2, 3)
  ratio = of(draw, everything) - of(draw[:, x], x) - of(draw[:, y], y)
  noise = ratio.std() / np.sqrt(n)
  np.testing.assert_allclose(task.information, ratio.mean(), atol=4 * noise)
  assert noise < 0.01
  # With much freedom it is the normal distribution's.
  far = measure.student_task(dispersion, 2, freedom=1e5).information
  np.testing.assert_allclose(far, measure.normal_task(dispersion, 2).information, atol=1e-4)


def test_normal_samples_have_their_covariance():
  covariance = measure.dense_correlation(2, 1, correlation=0.3)
  task = measure.normal_task(covariance, 2)
  draw = np.concatenate(jax.jit(task.sample, static_argnums=1)(jax.random.key(1), 20000), 1)
  np.testing.assert_allclose(np.cov(draw.T), covariance, atol=0.05)


def test_maps_can_be_undone_and_so_keep_information():
  x = RNG.normal(size=(20, 3)).astype(np.float32)
  cubed = np.asarray(measure.half_cube(x))
  np.testing.assert_allclose(np.sign(cubed) * np.abs(cubed) ** (2 / 3), x, rtol=1e-4)
  back = stats.norm.ppf(np.asarray(measure.uniform_margin(x), np.float64))
  np.testing.assert_allclose(back, x, atol=1e-4)
  there = jax.jit(lambda x: measure.spiral(measure.spiral(x, speed=2.0), speed=-2.0))(x)
  np.testing.assert_allclose(there, x, atol=1e-4)
  assert np.abs(np.asarray(measure.spiral(x)) - x).max() > 0.1
  t = np.linspace(0, 1, 50, dtype=np.float32)[:, None]
  rolled = np.asarray(measure.swiss_roll(t))
  length = np.linalg.norm(rolled, axis=1) * 21 / (1.5 * np.pi)
  np.testing.assert_allclose((length - 1) / 2, t[:, 0], atol=1e-5)


def test_an_estimator_finds_what_tasks_say():
  for name in ("1v1-normal-0.75", "1v1-additive-0.1", "swiss-roll-2-1", "asinh-student-1-1-1"):
    x, y = tasks()[name].sample(jax.random.key(2), 800)
    value = jax.jit(measure.ksg_information)(x, y)
    np.testing.assert_allclose(value, tasks()[name].information, atol=0.15, err_msg=name)


def test_the_packages_tasks_are_ours_where_it_is_installed():
  pytest.importorskip("bmi")
  found = measure.benchmark_tasks()
  assert len(found) == 40
  np.testing.assert_allclose(found["1v1-normal-0.75"].information, 0.4133, atol=6e-5)


def test_errors_name_the_shape():
  with pytest.raises(ValueError, match=r"x \[n, 1\], got \(3, 2\)"):
    measure.swiss_roll(jnp.ones((3, 2)))
  with pytest.raises(ValueError, match=r"two coordinates or more, got \(3, 1\)"):
    measure.spiral(jnp.ones((3, 1)))
