"""URPE: its definition in NumPy, and the counterexample that relative bias alone fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.encoders import RelativeAttention, RelativeTransformer, toeplitz

RNG = np.random.default_rng(0)
SEQUENCE = RNG.normal(size=(2, 7, 3)).astype(np.float32)
TINY = RelativeTransformer(8, 2, 2, distance=4)
EVERYTHING = np.ones((1, 1, 1, 1), bool)


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


def made(module, *args):
  """Variables in which no parameter is at a special value such as one."""
  shapes = jax.eval_shape(module.init, jax.random.key(0), *args)
  rng = np.random.default_rng(1)
  return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)


def apply(module, variables, sequence=SEQUENCE, **kwargs):
  return jax.jit(lambda v, x, k: module.apply(v, x, **k))(variables, sequence, kwargs)


def test_toeplitz_matrices_are_constant_along_diagonals_and_beyond_their_distance():
  entries = RNG.normal(size=(2, 5)).astype(np.float32)  # i - j from -2 to 2
  matrix = toeplitz(jnp.asarray(entries), 4)
  for i in range(4):
    for j in range(4):
      np.testing.assert_array_equal(matrix[:, i, j], entries[:, min(max(i - j, -2), 2) + 2])


@pytest.mark.parametrize("causal", [False, True])
def test_attention_equals_its_definition(causal):
  module = RelativeAttention(2)
  x = RNG.normal(size=(2, 5, 6)).astype(np.float32)
  bias, scale = RNG.normal(size=(2, 2, 5, 5)).astype(np.float32)
  there = np.tri(5, dtype=bool)[None, None] if causal else EVERYTHING
  variables = made(module, x, bias, scale, there)
  p = jax.tree.map(lambda leaf: np.asarray(leaf, float), variables["params"])
  linear = lambda name, y: y @ p[name]["kernel"] + p[name]["bias"]
  found = np.zeros(x.shape)
  for b in range(2):
    for h, part in enumerate(np.split(np.arange(6), 2)):
      query, key, value = (linear(name, x[b])[:, part] for name in ("query", "key", "value"))
      weights = np.exp(query @ key.T / np.sqrt(3) + bias[h])
      weights = np.tril(weights) if causal else weights
      found[b, :, part] = (weights / weights.sum(1, keepdims=True) * scale[h] @ value).T
  ours = jax.jit(module.apply)(variables, x, bias, scale, there)
  np.testing.assert_allclose(ours, linear("out", found), atol=2e-5)


def test_relative_bias_cannot_tell_positions_of_equal_tokens_and_urpe_can():
  same = np.tile(SEQUENCE[:, :1], (1, 7, 1))
  for causal in (False, True):
    module = TINY.clone(causal=causal)
    variables = made(module, same)
    universal = apply(module, variables, same).tokens
    plain = apply(module.clone(universal=False), variables, same).tokens
    spread = lambda x: np.abs(x - x[:, :1]).max()
    assert spread(plain) < 1e-5 < 0.1 < spread(universal)


def test_a_triangle_counts_positions_in_one_layer():
  # Uniform attention times C of ones below the diagonal: i of n values.
  module = RelativeAttention(2)
  same = np.tile(SEQUENCE[:, :1, :2], (1, 7, 1))
  triangle = np.tri(7, dtype=np.float32)[None].repeat(2, 0)
  variables = made(module, same, triangle, triangle, EVERYTHING)
  p = variables["params"]
  p["query"] = jax.tree.map(np.zeros_like, p["query"])
  p["out"] = {"kernel": np.eye(2, dtype=np.float32), "bias": np.zeros(2, np.float32)}
  ours = module.apply(variables, same, 0 * triangle, triangle, EVERYTHING)
  value = same @ p["value"]["kernel"] + p["value"]["bias"]
  share = np.arange(1, 8)[None, :, None] / 7
  np.testing.assert_allclose(ours, share * value, atol=1e-5)


def test_both_start_as_one_and_urpe_has_a_factor_for_each_head_and_distance():
  variables = jax.jit(TINY.init)(jax.random.key(0), SEQUENCE)
  plain = TINY.clone(universal=False)
  np.testing.assert_array_equal(apply(TINY, variables).pooled, apply(plain, variables).pooled)
  fewer = jax.eval_shape(plain.init, jax.random.key(0), SEQUENCE)
  assert set(variables["params"]) - set(fewer["params"]) == {"scale"}
  assert variables["params"]["scale"].shape == (2, 9)


def test_causal_tokens_do_not_see_the_future_and_absent_ones_are_not_seen():
  later = SEQUENCE.copy()
  later[:, 4:] = 5.0
  module = TINY.clone(causal=True)
  variables = made(module, SEQUENCE)
  seen = apply(module, variables).tokens
  np.testing.assert_array_equal(apply(module, variables, later).tokens[:, :4], seen[:, :4])
  there = np.arange(7)[None].repeat(2, 0) < 4
  plain, moved = (apply(TINY, variables, x, where=there) for x in (SEQUENCE, later))
  np.testing.assert_array_equal(moved.pooled, plain.pooled)
  short = apply(TINY, variables, SEQUENCE[:, :4])
  np.testing.assert_allclose(plain.pooled, short.pooled, atol=1e-5)
  np.testing.assert_allclose(plain.tokens[:, :4], short.tokens, atol=1e-5)


def test_hook_sees_every_layer():
  seen = []
  hook = lambda i, x: seen.append(i) or x
  variables = jax.eval_shape(TINY.init, jax.random.key(0), SEQUENCE)
  jax.eval_shape(lambda v: TINY.apply(v, SEQUENCE, tokens_in=hook).pooled, variables)
  assert seen == [0, 1]


@pytest.mark.thorough
def test_bfloat16_is_close_to_float32_with_finite_gradients():
  variables = jax.jit(TINY.init)(jax.random.key(0), SEQUENCE)
  low = TINY.clone(dtype=jnp.bfloat16)

  def loss(variables):
    pooled = low.apply(variables, SEQUENCE).pooled
    return jnp.sum(pooled.astype(jnp.float32) ** 2), pooled

  (_, pooled), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables)
  expected = apply(TINY, variables).pooled
  assert np.linalg.norm(pooled - expected) < 0.05 * np.linalg.norm(expected)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
  "module, sequence, match",
  [
    (TINY, SEQUENCE[0], r"sequences \[batch, n, any\], got shape \(7, 3\)"),
    (TINY.clone(heads=3), SEQUENCE, "heads=3 does not divide dim=8; choose dim=9"),
  ],
)
def test_errors_name_both_and_the_way_out(module, sequence, match):
  with pytest.raises(ValueError, match=match):
    module.init(jax.random.key(0), sequence)
