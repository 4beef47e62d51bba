"""The fixed reweighting head."""

import jax.numpy as jnp
import numpy as np

from repjax.encoders import Reweighting


def test_dimension_i_is_divided_by_kappa_to_the_i_and_nothing_is_learned():
  x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
  wanted = [[value / 1.5**i for i, value in enumerate(row)] for row in x]
  head = Reweighting(1.5)
  assert not head.init({}, x)
  np.testing.assert_allclose(head.apply({}, jnp.asarray(x), train=True), wanted, rtol=1e-6)
