"""Learning curves: curves of the family are found again, and SciPy's least squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.measure import best_switch, fit_piecewise_power_law, fit_power_law, predict_error

SIZES = np.geomspace(10, 5000, 9)
fit = jax.jit(lambda n, e, switch: fit_piecewise_power_law(n, e, switch=switch))


def curve(n, a=0.4, b=-0.45, c=-0.08, switch=300.0):
  x = np.log(n)
  return np.exp(a + b * x + c * np.where(n < switch, (x - np.log(switch)) ** 2, 0))


def test_a_curve_of_the_family_is_found_and_carried_on():
  few = jnp.asarray(SIZES[:4], jnp.float32)
  found = fit(few, jnp.asarray(curve(SIZES[:4]), jnp.float32), 300.0)
  np.testing.assert_allclose(found[:3], [0.4, -0.45, -0.08], rtol=2e-2)
  later = jnp.asarray(SIZES[4:], jnp.float32)
  np.testing.assert_allclose(predict_error(found, later), curve(SIZES[4:]), rtol=1e-2)


def test_a_power_law_is_a_straight_line_whatever_the_switch():
  errors = jnp.asarray(3 * SIZES**-0.3, jnp.float32)
  sizes = jnp.asarray(SIZES, jnp.float32)
  for found in (fit_power_law(sizes, errors), fit(sizes, errors, 200.0), fit(sizes, errors, 1.0)):
    np.testing.assert_allclose(found[:3], [np.log(3), -0.3, 0], atol=1e-3)
  slope, intercept = np.polyfit(np.log(SIZES), np.log(curve(SIZES)), 1)
  found = fit_power_law(sizes, jnp.asarray(curve(SIZES), jnp.float32))
  np.testing.assert_allclose(found[:2], [intercept, slope], rtol=1e-3)
  assert found.curvature == 0


def test_the_fit_is_that_of_the_papers_five_coefficients_under_its_two_conditions():
  from scipy.optimize import minimize

  x = np.log(SIZES)
  y = np.log(curve(SIZES)) + 0.1 * np.random.default_rng(0).normal(size=9)
  at = np.log(300.0)
  told = lambda v: np.where(x < at, v[0] + v[1] * x + v[2] * x**2, v[3] + v[4] * x)
  conditions = [
    {"type": "eq", "fun": lambda v: v[0] + v[1] * at + v[2] * at**2 - v[3] - v[4] * at},
    {"type": "eq", "fun": lambda v: v[1] + 2 * v[2] * at - v[4]},
  ]
  best = minimize(
    lambda v: np.sum((told(v) - y) ** 2),
    np.zeros(5),
    constraints=conditions,
    options={"ftol": 1e-14, "maxiter": 500},
  )
  sizes = jnp.asarray(SIZES, jnp.float32)
  found = predict_error(fit(sizes, jnp.asarray(np.exp(y), jnp.float32), 300.0), sizes)
  np.testing.assert_allclose(np.log(found), told(best.x), atol=2e-3)


def test_value_and_slope_are_continuous_at_the_switch():
  sizes = jnp.asarray(SIZES, jnp.float32)
  found = fit(sizes, jnp.asarray(curve(SIZES), jnp.float32), 300.0)
  log = lambda x: jnp.log(predict_error(found, jnp.exp(x)[None])[0])
  below, above = (jax.value_and_grad(log)(jnp.log(300.0) + d) for d in (-1e-3, 1e-3))
  np.testing.assert_allclose(below, above, atol=2e-3)


def test_the_best_switch_is_the_one_that_made_the_curve():
  candidates = jnp.array([30.0, 100.0, 300.0, 1000.0])
  sizes = jnp.asarray(SIZES, jnp.float32)
  found = best_switch(sizes, jnp.asarray(curve(SIZES), jnp.float32), candidates=candidates)
  assert found == 300
  with pytest.raises(ValueError, match="sizes"):
    fit_power_law(sizes, sizes[1:])
