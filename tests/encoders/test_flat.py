"""The encoder of flattened inputs."""

import jax
import numpy as np

from repjax.encoders import MLP, Flat


def test_one_layer_is_a_product_with_the_pixels():
  x = np.random.default_rng(0).normal(size=(3, 2, 2, 3)).astype(np.float32)
  encoder = Flat(MLP((5,)))
  variables = encoder.init(jax.random.key(0), x)
  features = encoder.apply(variables, x)
  layer = variables["params"]["net"]["dense_0"]
  np.testing.assert_allclose(features.pooled, x.reshape(3, -1) @ layer["kernel"], rtol=1e-5)
  np.testing.assert_array_equal(features.tokens[:, 0], features.pooled)
