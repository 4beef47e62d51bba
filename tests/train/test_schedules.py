"""Schedules: the paper's formula, the authors' program, and the cosine that it contains."""

import jax
import numpy as np
import optax
import pytest

from repjax.train.schedules import cosine_power


def test_power_one_is_the_cosine_and_ends_are_where_they_should_be():
  steps = np.arange(0, 60)
  cosine = jax.vmap(optax.cosine_decay_schedule(0.3, 50))(steps)
  np.testing.assert_allclose(jax.vmap(cosine_power(0.3, 50, power=1))(steps), cosine, atol=1e-7)
  rate = jax.jit(cosine_power(0.3, 50, power=7.0, lowest=0.01))
  np.testing.assert_allclose([rate(0), rate(50), rate(99)], [0.3, 0.01, 0.01], rtol=1e-6)


@pytest.mark.parametrize("power", [2.0, 10.0, 100.0])
def test_rates_are_in_proportion_those_of_the_authors_program(power):
  epochs = np.arange(1, 101)
  # Scaled to start at one in the first epoch and to end at zero.
  curve = power ** ((1 + np.cos(np.pi * epochs / 100)) / 2 + 1)
  curve = (curve - curve.min()) / (curve - curve.min()).max()
  rates = np.asarray(jax.vmap(cosine_power(1.0, 100, power=power))(epochs))
  np.testing.assert_allclose(rates / rates[0], curve, rtol=1e-4, atol=1e-5)
  assert rates[49] < 0.5  # earlier down than the cosine


def test_powers_below_one_are_refused():
  with pytest.raises(ValueError, match=r"power=0.5 is below 1"):
    cosine_power(0.1, 10, power=0.5)
