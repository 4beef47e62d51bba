"""MLP: its definition in NumPy, with each kind of norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.encoders import MLP

X = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)


@pytest.mark.parametrize(
  "norm, axis, eps, norm_last",
  [(None, None, 0, False), ("batch", 0, 1e-5, False), ("batch", 0, 1e-5, True),
   ("layer", 1, 1e-6, True)],
)  # fmt: skip
def test_equals_its_definition(norm, axis, eps, norm_last):
  module = MLP((8, 5, 4), norm, norm_last, bias_last=False)
  variables = jax.jit(module.init)(jax.random.key(0), X)
  rng = np.random.default_rng(1)
  params = jax.tree.map(lambda p: p + rng.normal(size=p.shape), variables["params"])

  def normalize(x, name, affine=True):
    if norm is None:
      return x
    x = (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + eps)
    p = {k: np.asarray(v)[None] for k, v in params[name].items()} if affine else {}
    return x * p.get("scale", 1) + p.get("bias", 0)

  x = X.astype(np.float64)
  for i in range(2):
    x = x @ params[f"dense_{i}"]["kernel"]
    if norm is None:
      x = x + np.asarray(params[f"dense_{i}"]["bias"])[None]
    x = np.maximum(normalize(x, f"norm_{i}"), 0)
  x = x @ params["dense_2"]["kernel"]
  x = normalize(x, "norm_2", affine=False) if norm_last else x

  params = jax.tree.map(jnp.float32, params)
  run = jax.jit(lambda v: module.apply(v, X, train=True, mutable=["batch_stats"])[0])
  ours = run(variables | {"params": params})
  np.testing.assert_allclose(ours, x, rtol=2e-4, atol=2e-5)


def test_normalising_the_output_without_a_norm_is_refused():
  with pytest.raises(ValueError, match="got norm=None; choose"):
    MLP((8, 4), norm_last=True).init(jax.random.key(0), X)
