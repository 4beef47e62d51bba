"""Moment probing: the paper's module written out in NumPy; blind to the order of tokens."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from repjax import heads

RNG = np.random.default_rng(0)
POOLED, TOKENS = (RNG.normal(size=s).astype(np.float32) for s in ((3, 6), (3, 10, 6)))


@functools.cache
def probe(centre=False):
  module = heads.MomentProbing(classes=4, dim=32, heads=4, centre=centre)
  params = jax.eval_shape(module.init, jax.random.key(0), POOLED, TOKENS)["params"]
  leaves, tree = jax.tree.flatten(params)
  drawn = [(0.5 * RNG.normal(size=x.shape)).astype(np.float32) for x in leaves]
  return jax.jit(lambda p, *x: module.apply({"params": p}, *x)), jax.tree.unflatten(tree, drawn)


def in_numpy(p, pooled, tokens, centre):
  """One input at a time, one pair of heads at a time, maps in front of their axes."""
  p = jax.tree.map(lambda x: np.asarray(x, float), p)
  out = []
  for vector, rows in zip(pooled.astype(float), tokens.astype(float), strict=True):
    rows = rows @ p["reduce"]["kernel"] + p["reduce"]["bias"]
    parts = np.split(rows, 4, axis=1)
    for j, part in enumerate(parts):
      mean, var = part.mean(1, keepdims=True), part.var(1, keepdims=True)
      part = (part - mean) / np.sqrt(var + 1e-5) * p["norm"]["scale"] + p["norm"]["bias"]
      parts[j] = part - (part.mean(0) if centre else part.mean())
    maps = []
    for left, right in itertools.pairwise(parts):
      cross = sum(np.outer(a, b) for a, b in zip(left, right, strict=True)) / len(rows)
      maps.append(cross / np.linalg.norm(cross, axis=0))
    for layer in range(2):
      kernel = p[f"conv_{layer}"]["kernel"]
      maps = [
        sum(correlate2d(m, kernel[:, :, i, o], "valid") for i, m in enumerate(maps))[::2, ::2]
        for o in range(3)
      ]
      if not layer:
        maps = [m * (1 + np.vectorize(math.erf)(m / math.sqrt(2))) / 2 for m in maps]
    flat = np.stack(maps, -1).ravel()
    first = vector @ p["first"]["kernel"] + p["first"]["bias"]
    out.append((first + flat @ p["second"]["kernel"] + p["second"]["bias"]) / 2)
  return np.stack(out)


@pytest.mark.parametrize("centre", [False, True])
def test_logits_are_the_papers_module_in_float64(centre):
  apply, params = probe(centre)
  expected = in_numpy(params, POOLED, TOKENS, centre)
  np.testing.assert_allclose(apply(params, POOLED, TOKENS), expected, rtol=1e-4, atol=1e-4)


def test_the_order_of_tokens_does_not_matter_and_what_they_are_together_does():
  apply, params = probe()
  logits = apply(params, POOLED, TOKENS)
  order = RNG.permutation(10)
  np.testing.assert_allclose(apply(params, POOLED, TOKENS[:, order]), logits, rtol=1e-4, atol=1e-4)
  # Channels shuffled apart keep every mean and lose the cross moments.
  apart = np.stack([RNG.permuted(t, axis=0) for t in TOKENS])
  np.testing.assert_allclose(apart.mean(1), TOKENS.mean(1), rtol=1e-4, atol=1e-5)
  assert np.max(np.abs(apply(params, POOLED, apart) - logits)) > 0.05


def test_heads_too_few_or_too_narrow_are_refused():
  with pytest.raises(ValueError, match="heads=4 of dim=24"):
    heads.MomentProbing(classes=2, dim=24).init(jax.random.key(0), POOLED, TOKENS)
  with pytest.raises(ValueError, match=r"\(3, 6\) and \(3, 6\)"):
    heads.MomentProbing(classes=2, dim=32).init(jax.random.key(0), POOLED, jnp.asarray(POOLED))
