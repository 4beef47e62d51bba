"""The learned rule: local to neurons, judged by ridge regression, gradients within a window."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
from flax import linen as nn
from sklearn.linear_model import Ridge

from repjax.learners import UpdateRule, meta_update
from repjax.learners.meta_update import InnerNet, ridge_loss, run_net, start_net

RNG = np.random.default_rng(0)


class Drift(nn.Module):
  """A rule that is cheap to compile: weights move along the mean input by a learned amount."""

  @nn.compact
  def __call__(self, net, x, *, activation=nn.relu):
    rate = self.param("rate", nn.initializers.constant(0.3), (1, 1))
    return net._replace(forward=(net.forward[0] + rate * jnp.mean(x, 0)[:, None],))


def images(n):
  return RNG.integers(0, 256, (8, n, 2, 2, 1)).astype(np.uint8)


def labels(n):
  return np.tile(np.arange(n) % 3, (8, 1)).astype(np.int32)


BATCH = {
  "image": images(6), "support": images(6), "support_label": labels(6),
  "query": images(6), "query_label": labels(6),
}  # fmt: skip
LEARNERS = {
  "meta_update": lambda axis: meta_update(
    Drift(), (5,), classes=3, windows=2, window=1, inner_batch=4, axis_name=axis
  )
}


def batch():
  return BATCH


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(LEARNERS["meta_update"], layout, batch=batch, rtol=1e-3)


def test_neurons_keep_what_they_know_wherever_they_stand():
  rule = UpdateRule(hidden=6, signals=3, rank=2)
  net, x = start_net(jax.random.key(0), (4, 5, 3)), RNG.normal(size=(6, 4)).astype(np.float32)
  params = jax.jit(rule.init)(jax.random.key(1), net, x)
  step = jax.jit(lambda net, x: rule.apply(params, net, x))
  orders = [RNG.permutation(n) for n in (4, 5, 3)]

  def moved(net):
    by = lambda w, i: w[orders[i]][:, orders[i + 1]]
    return InnerNet(
      tuple(by(w, i) for i, w in enumerate(net.forward)),
      tuple(by(w, i) for i, w in enumerate(net.backward)),
      tuple(b[orders[i + 1]] for i, b in enumerate(net.bias)),
    )

  after = step(net, x)
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4)
  jax.tree.map(close, step(moved(net), x[:, orders[0]]), moved(after))
  assert min(np.abs(a - b).max() for a, b in zip(after.forward, net.forward, strict=True)) > 1e-2
  for weight in after.forward + after.backward:
    np.testing.assert_allclose(np.square(weight).mean(0), 1, rtol=1e-4)


def test_the_loss_is_the_error_of_a_ridge_regression():
  support, query = RNG.normal(size=(2, 12, 3)).astype(np.float32)
  support_label, query_label = RNG.integers(0, 4, (2, 12))
  value, right = jax.jit(ridge_loss, static_argnames="classes")(
    support, support_label, query, query_label, classes=4
  )
  y = np.eye(4) - 0.25
  y /= np.linalg.norm(y[0])
  fitted = Ridge(alpha=0.1).fit(support, y[support_label])
  predicted = fitted.predict(query)
  predicted /= np.linalg.norm(predicted, axis=1, keepdims=True)
  np.testing.assert_allclose(value, np.square(predicted - y[query_label]).sum(1).mean(), rtol=1e-3)
  np.testing.assert_allclose(right, np.mean(predicted.argmax(1) == query_label), rtol=1e-6)


def test_a_net_sees_standardised_inputs():
  net, x = start_net(jax.random.key(0), (4, 5)), RNG.normal(size=(6, 4)).astype(np.float32)
  told = x @ np.asarray(net.forward[0])
  told = (told - told.mean(0)) / told.std(0)
  says, _ = run_net(net, x)
  np.testing.assert_allclose(says[-1], np.maximum(told, 0), atol=1e-4)


def test_gradients_go_back_to_the_start_of_a_window():
  # One image, so that every step draws it, and weights after each window are known.
  task = {name: x[:1] for name, x in BATCH.items()} | {"image": BATCH["image"][:1, :1]}
  objective = LEARNERS["meta_update"](None)
  params, extra = jax.jit(objective.init)(jax.random.key(0), task)
  loss = lambda params: objective.loss(params, extra, task, jax.random.key(3))[0]
  value, grad = jax.jit(jax.value_and_grad(loss))(params)
  k_start, _ = jax.random.split(jax.random.fold_in(jax.random.key(3), 0))
  first = start_net(k_start, (4, 5))
  flat = lambda x: (x[0] / 255).astype(np.float32).reshape(len(x[0]), -1)
  by = flat(task["image"])[0][:, None]
  both = np.concatenate([flat(task["support"]), flat(task["query"])])

  def at(rate, start):
    net = first._replace(forward=(first.forward[0] + (start + rate) * by,))
    z = run_net(net, both)[0][-1]
    label = task["support_label"][0], task["query_label"][0]
    return ridge_loss(z[:6], label[0], z[6:], label[1], classes=3)[0]

  judge = jax.jit(jax.value_and_grad(at))
  (v_1, g_1), (v_2, g_2) = judge(0.3, 0.0), judge(0.3, 0.3)
  np.testing.assert_allclose(value, (v_1 + v_2) / 2, rtol=1e-4)
  np.testing.assert_allclose(grad["rate"][0, 0], (g_1 + g_2) / 2, rtol=1e-3)
  assert abs(g_2) > 1e-3  # through both windows it would count twice
