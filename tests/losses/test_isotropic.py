"""Laws and closed forms of the losses that hold embeddings to a normal distribution."""

import functools

import jax
import numpy as np
import pytest
from definitions.isotropic import epps_pulley

from repjax.losses import isotropic

KEY = jax.random.key(0)
few = functools.partial(isotropic.sigreg, key=KEY, slices=64)


def draw(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_epps_pulley_equals_the_integral_over_both_signs():
  x = draw(9, 3) ** 2
  np.testing.assert_allclose(isotropic.epps_pulley(x), epps_pulley(x), rtol=1e-5)


def test_epps_pulley_of_many_knots_is_the_integral():
  # Of samples that are all 0 the integrand is (1 - g)^2 g, with g = exp(-t^2 / 2).
  whole = np.sqrt(2 * np.pi) * (1 - 2 / np.sqrt(2) + 1 / np.sqrt(3))
  ours = isotropic.epps_pulley(np.zeros((5, 1), np.float32), knots=101, t_max=9.0)
  np.testing.assert_allclose(ours, 5 * whole, rtol=1e-5)


def test_normal_samples_have_the_expected_statistic():
  # The wave of one sample has variance 1 - g^2 around its mean g, of n samples an n-th of it.
  t = np.linspace(-3, 3, 33)
  g = np.exp(-(t**2) / 2)
  wanted = np.trapezoid((1 - g**2) * g, t)
  np.testing.assert_allclose(np.mean(isotropic.epps_pulley(draw(50, 5000))), wanted, rtol=0.05)


@pytest.mark.parametrize(
  "change",
  [lambda z: z + 1, lambda z: 2 * z, lambda z: z / 2, np.sign, lambda z: z * 0],
  ids=["shifted", "wide", "narrow", "of two values", "collapsed"],
)
def test_embeddings_of_another_distribution_cost_more(change):
  z = draw(500, 4)
  assert few(change(z)) > 3 * few(z)


def test_new_keys_look_along_new_directions():
  z = draw(9, 4)
  one, other = (isotropic.sigreg(z, jax.random.key(seed), slices=4) for seed in (0, 1))
  assert abs(one - other) > 1e-3


def test_views_are_held_to_the_distribution_one_by_one():
  z = draw(9, 3, 4)
  alone = [few(z[:, v]) for v in range(3)]
  np.testing.assert_allclose(few(z), np.mean(alone), rtol=1e-5)


def test_lejepa_of_equal_views_is_sigreg():
  z = draw(9, 4)
  ours = isotropic.lejepa(np.repeat(z[:, None], 3, 1), KEY, slices=64, sigreg_weight=0.3)
  np.testing.assert_allclose(ours, 0.3 * few(z), rtol=1e-5)


def test_lejepa_without_sigreg_is_the_variance_of_views():
  z = draw(9, 3, 4)
  ours = isotropic.lejepa(z, KEY, slices=4, sigreg_weight=0.0)
  np.testing.assert_allclose(ours, np.mean(z.var(1)), rtol=1e-5)


def test_errors_name_the_shape():
  with pytest.raises(ValueError, match=r"\(5,\)"):
    few(np.ones(5))
  with pytest.raises(ValueError, match="global_views=4 of 3 views"):
    isotropic.lejepa(np.ones((5, 3, 2)), KEY, global_views=4)
  with pytest.raises(ValueError, match="two knots"):
    isotropic.epps_pulley(np.ones((5, 2)), knots=1)
