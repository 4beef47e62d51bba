"""The predictor of tokens: places matter, order does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.encoders import TokenPredictor

RNG = np.random.default_rng(0)
TOKENS = jnp.asarray(RNG.normal(size=(3, 4, 6)), jnp.float32)
AT = jnp.asarray([RNG.permutation(9)[:4] for _ in range(3)])
TARGETS = jnp.asarray([[0, 5, 8, 3, 2]] * 3)


@pytest.fixture(scope="module", params=["sincos", "learned"])
def predict(request):
  module = TokenPredictor(8, 1, 2, 5, (3, 3), positions=request.param)
  params = jax.jit(module.init)(jax.random.key(0), TOKENS, AT, TARGETS)
  params = jax.tree.map(lambda x: x + 0.3 * RNG.normal(size=x.shape).astype(np.float32), params)
  return jax.jit(lambda *args: module.apply(params, *args))


def test_tokens_may_come_in_any_order_if_their_places_do(predict):
  order = np.array([2, 0, 3, 1])
  wanted = predict(TOKENS, AT, TARGETS)
  np.testing.assert_allclose(predict(TOKENS[:, order], AT[:, order], TARGETS), wanted, atol=1e-5)
  assert np.abs(predict(TOKENS, AT[:, order], TARGETS) - wanted).min() > 1e-6


def test_what_is_asked_for_comes_out_in_the_order_asked(predict):
  order = np.array([3, 1, 4, 0, 2])
  wanted = predict(TOKENS, AT, TARGETS)[:, order]
  np.testing.assert_allclose(predict(TOKENS, AT, TARGETS[:, order]), wanted, atol=1e-5)
