"""Nested classifiers: one size after the other in NumPy, and what tied ones share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.heads import NestedLinear

RNG = np.random.default_rng(0)
SIZES = (1, 3, 6)
X = RNG.normal(size=(5, 7)).astype(np.float32)


def drawn(tied):
  head = NestedLinear(4, SIZES, tied)
  params = head.init(jax.random.key(0), X)["params"]
  params = jax.tree.map(lambda p: RNG.normal(size=p.shape).astype(np.float32), params)
  return head, params


@pytest.mark.parametrize("tied", [False, True])
def test_logits_of_a_size_are_those_of_its_coordinates_alone(tied):
  head, params = drawn(tied)
  ours = head.apply({"params": params}, X)
  for place, size in enumerate(SIZES):
    own = params if tied else params[f"size_{size}"]
    wanted = np.zeros((5, 4)) + own["bias"]
    for i in range(size):
      wanted = wanted + np.float64(X[:, i, None]) * np.float64(own["kernel"][i])
    np.testing.assert_allclose(ours[place], wanted, rtol=1e-5, atol=1e-5)


def test_tied_sizes_have_the_parameters_and_the_arithmetic_of_the_largest_one():
  counts, flops = {}, {}
  for name, head in {
    "tied": NestedLinear(40, (64, 128, 256, 512), True),
    "one": NestedLinear(40, (512,)),
    "apart": NestedLinear(40, (64, 128, 256, 512)),
  }.items():
    x = jnp.zeros((16, 512))
    variables = head.init(jax.random.key(0), x)
    counts[name] = sum(p.size for p in jax.tree.leaves(variables))
    flops[name] = jax.jit(head.apply).lower(variables, x).compile().cost_analysis()["flops"]
  assert counts["tied"] == counts["one"] < counts["apart"]
  assert flops["tied"] < 1.1 * flops["one"] < 1.5 * flops["one"] < flops["apart"]


def test_sizes_that_do_not_fit_are_named():
  with pytest.raises(ValueError, match=r"\[2, 8\] exceed features of shape \(5, 7\)"):
    NestedLinear(4, (2, 8)).init(jax.random.key(0), X)
  with pytest.raises(ValueError, match=r"ascend from 1 or more, got \[4, 2\]"):
    NestedLinear(4, (4, 2)).init(jax.random.key(0), X)
