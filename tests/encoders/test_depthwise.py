"""Depthwise convolution: a CPU's shifted sums are what other devices convolve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.encoders.depthwise import depthwise


@pytest.mark.parametrize("sides", [(3, 3), (1, 5)])
def test_shifted_sums_equal_the_convolution_in_value_and_gradient(sides, monkeypatch):
  rng = np.random.default_rng(0)
  x, kernel, weight = (
    jnp.asarray(rng.normal(size=shape), jnp.float32)
    for shape in ((2, 4, 5, 3), (*sides, 1, 3), (2, 4, 5, 3))
  )
  # A new function each, so that neither is found compiled.
  run = lambda: jax.jit(
    jax.value_and_grad(lambda x, k: jnp.sum(weight * depthwise(x, k)), (0, 1))
  )(x, kernel)  # fmt: skip
  sums = run()
  monkeypatch.setattr("repjax.encoders.depthwise.platform", lambda: "gpu")
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-4), sums, run())
