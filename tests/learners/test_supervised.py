"""Supervised: softmax regression in float64, over what is labelled, on any layout."""

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

from repjax.encoders import Features
from repjax.learners import by_gradient, supervised

CLASSES = 3
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(16, 2, 2, 1)).astype(np.float32)
LABELS = {
  "all": RNG.integers(0, CLASSES, 16).astype(np.int32),
  "uneven": np.array([0, 1, 2, -1, -1, -1, 1, 0, -1, 2, 0, 0, -1, -1, 1, 2], np.int32),
  "two": np.where(np.isin(np.arange(16), (3, 8)), 1, -1).astype(np.int32),  # fewer than devices
  "none": np.full(16, -1, np.int32),
}
HEAD = {
  "kernel": RNG.normal(size=(4, CLASSES)).astype(np.float32),
  "bias": RNG.normal(size=CLASSES).astype(np.float32),
}
labelled = pytest.mark.parametrize("labels", list(LABELS))


class Pixels(nn.Module):
  """Hands pixels on, so that the learner is a softmax regression."""

  def __call__(self, image, *, train=False):
    x = image.reshape(len(image), -1)
    return Features(x, x[:, None], ())


def objective(**options):
  return supervised(Pixels(), CLASSES, lambda key, image: image, **options)


def in_float64(label, smoothing):
  """Loss, gradient and accuracy of a softmax regression on the rows that have a label."""
  x, y = IMAGES.reshape(16, -1)[label >= 0].astype(np.float64), label[label >= 0]
  logits = x @ HEAD["kernel"].astype(np.float64) + HEAD["bias"]
  log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
  target = (1 - smoothing) * np.eye(CLASSES)[y] + smoothing / CLASSES
  n = max(len(y), 1)
  slope = (np.exp(log_p) - target) / n
  grad = {"kernel": x.T @ slope, "bias": slope.sum(0)}
  return -(target * log_p).sum() / n, grad, (logits.argmax(1) == y).sum() / n


@labelled
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_supervised_is_softmax_regression_on_what_is_labelled(labels, smoothing):
  batch = {"image": IMAGES, "label": LABELS[labels]}
  f = jax.value_and_grad(objective(label_smoothing=smoothing).loss, has_aux=True)
  (value, (_, metrics)), grad = f({"encoder": {}, "head": HEAD}, {}, batch, jax.random.key(0))
  wanted, wanted_grad, accuracy = in_float64(LABELS[labels], smoothing)
  np.testing.assert_allclose(value, wanted, rtol=1e-5)
  np.testing.assert_allclose(metrics["accuracy"], accuracy, rtol=1e-6)
  for name, x in wanted_grad.items():
    np.testing.assert_allclose(grad["head"][name], x, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def mapped():
  learner = by_gradient(objective(axis_name="data"), optax.sgd(1.0), axis_name="data")
  step = jax.pmap(learner.update, "data", in_axes=(None, 0, None), out_axes=None)
  state = learner.init(jax.random.key(0), {"image": IMAGES})
  return step, state._replace(params={"encoder": {}, "head": HEAD})


@labelled
def test_shards_with_uneven_labels_weigh_every_example_alike(mapped, labels):
  step, state = mapped
  batch = {"image": IMAGES.reshape(8, 2, 2, 2, 1), "label": LABELS[labels].reshape(8, 2)}
  after, metrics = step(state, batch, jax.random.key(0))
  wanted, grad, accuracy = in_float64(LABELS[labels], 0.0)
  np.testing.assert_allclose(metrics["loss"], wanted, rtol=1e-5)
  np.testing.assert_allclose(metrics["accuracy"], accuracy, rtol=1e-6)
  for name, x in grad.items():
    np.testing.assert_allclose(HEAD[name] - after.params["head"][name], x, rtol=1e-4, atol=1e-6)
