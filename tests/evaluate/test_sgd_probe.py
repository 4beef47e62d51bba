"""SGD probe: the same steps in NumPy, the minimum it nears, what chooses its rate."""

import functools

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from repjax.evaluate import Embedded, linear_probe, sgd_probe
from repjax.evaluate.sgd_probe import fit_by_sgd

KEY = jax.random.key(0)


@functools.cache
def digits():
  x, y = load_digits(return_X_y=True)
  order = np.random.default_rng(0).permutation(len(y))
  x, y = (x[order] / 16).astype(np.float32), y[order].astype(np.int32)
  return Embedded(x[:600], y[:600]), Embedded(x[600:1200], y[600:1200])


def by_numpy(x, y, rate, classes, batch_size, epochs, momentum):
  x, w, b = x.astype(np.float64), np.zeros((x.shape[1], classes)), np.zeros(classes)
  v_w, v_b, step = 0 * w, 0 * b, 0
  batches = len(x) // batch_size
  for epoch in range(epochs):
    order = np.asarray(jax.random.permutation(jax.random.fold_in(KEY, epoch), len(x)))
    for rows in order[: batches * batch_size].reshape(batches, batch_size):
      score = x[rows] @ w + b
      share = np.exp(score - score.max(1, keepdims=True))
      share /= share.sum(1, keepdims=True)
      share[np.arange(batch_size), y[rows]] -= 1
      v_w = momentum * v_w + x[rows].T @ share / batch_size
      v_b = momentum * v_b + share.mean(0)
      now = rate * 0.5 * (1 + np.cos(np.pi * step / (epochs * batches)))
      w, b, step = w - now * v_w, b - now * v_b, step + 1
  return w, b


def test_every_rate_takes_the_steps_of_momentum_on_a_cosine():
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(23, 4)).astype(np.float32), rng.integers(0, 3, 23).astype(np.int32)
  rates = np.float32([0.03, 0.5])
  ours = fit_by_sgd(x, y, rates, KEY, classes=3, batch_size=5, epochs=6, momentum=0.9)
  for i, rate in enumerate(rates):
    w, b = by_numpy(x, y, rate, 3, 5, 6, 0.9)
    np.testing.assert_allclose(ours.kernel[i], w, atol=2e-5)
    np.testing.assert_allclose(ours.bias[i], b, atol=2e-5)


@pytest.mark.thorough
def test_on_digits_it_is_near_the_regression_solved_to_its_end():
  train, test = digits()
  ours = sgd_probe(train, test, key=KEY, epochs=20, rates=(0.003, 0.03, 0.3))
  assert abs(ours["sgd_linear"] - linear_probe(train, test, key=KEY)["linear"]) < 0.03


def test_test_labels_choose_nothing_and_a_rate_that_overflows_is_not_taken():
  train, test = digits()
  shuffled = test._replace(label=np.random.default_rng(0).permutation(test.label))
  options = {"key": KEY, "epochs": 5, "rates": (0.001, 0.1, 1e38)}
  ours, other = sgd_probe(train, test, **options), sgd_probe(train, shuffled, **options)
  assert ours["sgd_linear_rate"] == other["sgd_linear_rate"] < 1
  assert ours["sgd_linear"] > 0.8 > 0.3 > other["sgd_linear"]


def test_arguments_out_of_range_are_named():
  train, test = digits()
  with pytest.raises(ValueError, match=r"expected rates > 0.* got rates=\[-1.0, 0.1\]"):
    sgd_probe(train, test, key=KEY, rates=(0.1, -1))
  with pytest.raises(ValueError, match="batch_size=9 of 3 examples"):
    fit_by_sgd(
      train.features[:3], train.label[:3], np.ones(1, "f"), KEY, classes=10, batch_size=9, epochs=1
    )
