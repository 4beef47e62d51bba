"""Generalisation: the sum over rules by hand, and what is known of its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.measure import representativeness, rule_generalization, similarity_generalization

RNG = np.random.default_rng(0)
# Rules over the numbers 0 to 15: all, even, multiples of four, below four.
MEMBER = np.array([[True] * 16, *[np.arange(16) % k == 0 for k in (2, 4)], np.arange(16) < 4])
PRIOR = np.array([0.4, 0.3, 0.2, 0.1], np.float32)
generalize = jax.jit(rule_generalization)


def test_rules_are_weighed_by_prior_and_size():
  wanted = np.zeros(16)
  weights = {0: 0.4 / 16**2, 1: 0.3 / 8**2, 2: 0.2 / 4**2}  # not below four: 8 is known
  for rule, weight in weights.items():
    wanted += weight / sum(weights.values()) * MEMBER[rule]
  found = generalize(MEMBER, PRIOR, jnp.array([4, 8]))
  np.testing.assert_allclose(found, wanted, rtol=1e-5)
  np.testing.assert_allclose(generalize(MEMBER, 7 * PRIOR, jnp.array([4, 8])), found, rtol=1e-5)


def test_more_examples_sharpen_to_the_smallest_rule():
  few = generalize(MEMBER, PRIOR, jnp.array([4]))
  many = generalize(MEMBER, PRIOR, jnp.array([4, 8, 12, 0] * 4))
  assert np.all(many[~MEMBER[2]] < 1e-4) and np.all(few[MEMBER[1]] > few[1])
  np.testing.assert_allclose(many[MEMBER[2]], 1, rtol=1e-5)
  assert np.isnan(rule_generalization(MEMBER[1:3], PRIOR[1:3], jnp.array([1]))[0])


def test_similarity_is_the_mean_over_examples():
  z = RNG.normal(size=(16, 3))
  wanted = np.exp(-2 * np.linalg.norm(z[:, None] - z[None, [3, 5]], axis=-1)).mean(1)
  similar = jax.jit(similarity_generalization)
  found = similar(jnp.asarray(z, jnp.float32), jnp.array([3, 5]), sharpness=2.0)
  np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_representativeness_is_the_log_ratio_to_the_other_concepts():
  likelihood = RNG.random((3, 4)) + 0.1
  prior = np.array([5.0, 3, 2])
  wanted = np.empty((3, 4))
  for c in range(3):
    others = [i for i in range(3) if i != c]
    wanted[c] = np.log(likelihood[c] / (prior[others] @ likelihood[others] / prior[others].sum()))
  found = jax.jit(representativeness)(jnp.asarray(likelihood, jnp.float32), jnp.asarray(prior))
  np.testing.assert_allclose(found, wanted, atol=1e-5)
  np.testing.assert_allclose(representativeness(jnp.full((3, 2), 0.3), jnp.ones(3)), 0, atol=1e-6)


def test_shapes_that_do_not_fit_are_named():
  with pytest.raises(ValueError, match=r"prior \[rules\].*\(3,\)"):
    rule_generalization(MEMBER, PRIOR[1:], jnp.array([1]))
  with pytest.raises(ValueError, match=r"got \(16,\) and \(1,\)"):
    similarity_generalization(jnp.ones(16), jnp.array([1]))
