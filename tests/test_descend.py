"""Short trainings of plain functions, as the pages of claims run them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import descent


def test_a_descent_is_the_loop_that_it_stands_for_and_looks_where_it_is_told():
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(6, 2)), rng.normal(size=6)
  loss = lambda w, batch: jnp.mean(jnp.square(batch["x"] @ w - batch["y"]))
  arrays = {"x": jnp.asarray(x, jnp.float32), "y": jnp.asarray(y, jnp.float32)}
  found = descent.descend(
    loss, jnp.ones(2), arrays, at=(0, 3, 7), batch_size=6, seed=0, optimizer=optax.sgd(0.1)
  )
  w, wanted = np.ones(2), []
  for step in range(8):
    wanted += [w] if step in (0, 3, 7) else []
    w = w - 0.1 * 2 * x.T @ (x @ w - y) / 6
  np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_a_dense_net_of_one_linear_layer_is_a_matrix_and_hidden_ones_are_not_below_0():
  params = descent.dense_net(jax.random.key(0), (3, 5, 2))
  x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)), jnp.float32)
  hidden, logits = descent.dense_layers(params, x)
  wanted = np.maximum(x @ params[0]["kernel"], 0)
  np.testing.assert_allclose(hidden, wanted, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(logits, wanted @ params[1]["kernel"], rtol=1e-4, atol=1e-5)
