"""Logistic regression: scikit-learn's coefficients, probabilities and minimum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from repjax.heads import fit_logistic, logits

CLASSES = 3


@functools.cache
def problem(n=120, dim=5, seed=0):
  rng = np.random.default_rng(seed)
  centres = rng.normal(size=(CLASSES, dim))
  labels = rng.integers(0, CLASSES, n).astype(np.int32)
  return (centres[labels] + rng.normal(size=(n, dim))).astype(np.float32), labels


def sklearn_fit(features, labels, penalty):
  model = LogisticRegression(C=1 / (penalty * len(labels)), tol=1e-10, max_iter=10_000)
  return model.fit(features.astype(np.float64), labels)


def objective(kernel, bias, features, labels, penalty):
  scores = features.astype(np.float64) @ np.asarray(kernel, np.float64) + np.asarray(bias)
  scores -= scores.max(1, keepdims=True)
  log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
  return -log_p[np.arange(len(labels)), labels].mean() + penalty / 2 * np.square(kernel).sum()


@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
def test_float32_equals_scikit_learn(penalty):
  features, labels = problem()
  params = fit_logistic(features, labels, classes=CLASSES, penalty=penalty, tolerance=1e-6)
  theirs = sklearn_fit(features, labels, penalty)
  scale = np.abs(theirs.coef_).max()
  np.testing.assert_allclose(params["kernel"], theirs.coef_.T, rtol=1e-3, atol=1e-3 * scale)
  probability = jax.nn.softmax(logits(params, features))
  np.testing.assert_allclose(probability, theirs.predict_proba(features), atol=1e-3)
  np.testing.assert_array_equal(jnp.argmax(probability, 1), theirs.predict(features))
  ours = objective(params["kernel"], params["bias"], features, labels, penalty)
  minimum = objective(theirs.coef_.T, theirs.intercept_, features, labels, penalty)
  assert abs(ours - minimum) < 1e-6


def test_float64_equals_scikit_learn_to_more_digits():
  features, labels = problem()
  with jax.enable_x64(True):
    params = fit_logistic(
      features.astype(np.float64), labels, classes=CLASSES, penalty=1e-3, tolerance=1e-10
    )
    params = jax.tree.map(np.asarray, params)
  theirs = sklearn_fit(features, labels, 1e-3)
  np.testing.assert_allclose(params["kernel"], theirs.coef_.T, rtol=1e-5)


def test_masked_rows_equal_dropped_rows_whatever_they_hold():
  features, labels = problem()
  kept = np.arange(len(labels)) % 4 != 0
  dirty = np.where(kept[:, None], features, np.nan)
  fit = lambda x, y, **kw: fit_logistic(x, y, classes=CLASSES, penalty=1e-2, tolerance=1e-6, **kw)
  dropped = fit(features[kept], labels[kept])
  for masked in (fit(dirty, labels, where=kept), fit(dirty, np.where(kept, labels, -1))):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-4), masked, dropped)


def test_the_start_does_not_matter():
  features, labels = problem()
  fit = lambda **kw: fit_logistic(
    features, labels, classes=CLASSES, penalty=1e-2, tolerance=1e-6, **kw
  )
  far = {"kernel": jnp.full((5, CLASSES), 3.0), "bias": jnp.zeros(CLASSES)}
  far["kernel"] = far["kernel"].at[:, 1].set(-3)
  ours, cold = fit(init=far)["kernel"], fit()["kernel"]
  np.testing.assert_allclose(ours, cold, atol=2e-4)


def test_a_vmapped_grid_equals_single_fits():
  features, labels = problem()
  fit = lambda p: fit_logistic(features, labels, classes=CLASSES, penalty=p, tolerance=1e-6)
  penalties = jnp.asarray([0.1, 1e-2])
  grid = jax.vmap(fit)(penalties)
  for i, penalty in enumerate(penalties):
    np.testing.assert_allclose(grid["kernel"][i], fit(penalty)["kernel"], atol=2e-4)


def test_misshapen_labels_name_both_shapes():
  features, labels = problem()
  with pytest.raises(ValueError, match=r"\(120, 5\).*\(119,\)"):
    fit_logistic(features, labels[1:], classes=CLASSES, penalty=1.0)
