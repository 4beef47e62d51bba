"""Ridge classifiers: scikit-learn's coefficients from moments, whatever the order of the rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeClassifier

from repjax import heads

RNG = np.random.default_rng(0)
CLASSES, DIM = 3, 5
Y = RNG.integers(0, CLASSES, 90).astype(np.int32)
X = (RNG.normal(size=(CLASSES, DIM))[Y] + RNG.normal(size=(90, DIM)) + 2).astype(np.float32)
ONE_HOT = np.eye(CLASSES)[Y]
PENALTIES = jnp.asarray([1e-3, 1e-1, 1e1, 1e3])
update = jax.jit(heads.update_moments)
sums = jax.jit(heads.gram_and_cross, static_argnames="intercept")
fit_ridge = jax.jit(heads.fit_ridge, static_argnames="intercept")


def moments(x=X, y=Y, kind="shared"):
  return update(heads.init_moments(CLASSES + 1, DIM, scatter=kind), x, y)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("penalty", [1e-2, 10.0])
def test_coefficients_are_those_of_scikit_learn(penalty, intercept):
  theirs = Ridge(alpha=penalty, fit_intercept=intercept).fit(X.astype(float), ONE_HOT)
  ours = fit_ridge(moments(), penalty=penalty, intercept=intercept)
  np.testing.assert_allclose(ours["kernel"][:, :CLASSES].T, theirs.coef_, rtol=1e-3, atol=1e-5)
  bias = np.broadcast_to(theirs.intercept_, CLASSES)
  np.testing.assert_allclose(ours["bias"][:CLASSES], bias, rtol=1e-3, atol=1e-5)
  assert np.isneginf(ours["bias"][CLASSES])


def test_predictions_are_those_of_the_ridge_classifier():
  predicted = jnp.argmax(heads.logits(fit_ridge(moments(), penalty=1.0), X), 1)
  np.testing.assert_array_equal(predicted, RidgeClassifier(alpha=1.0).fit(X, Y).predict(X))


@pytest.mark.parametrize("kind", ["shared", "each"])
def test_gram_matrices_are_sums_over_rows_and_merge(kind):
  halves = [moments(X[rows], Y[rows], kind) for rows in np.split(RNG.permutation(90), 2)]
  whole = jax.jit(heads.combine_moments)(*halves)
  gram, cross = sums(whole, intercept=False)
  np.testing.assert_allclose(gram, X.T @ X, rtol=1e-4)
  np.testing.assert_allclose(cross[:, :CLASSES], X.T @ ONE_HOT, rtol=1e-4)
  about = X - X.mean(0, keepdims=True)
  gram, cross = sums(whole, intercept=True)
  np.testing.assert_allclose(gram, about.T @ about, rtol=1e-3, atol=1e-3)
  np.testing.assert_allclose(cross[:, :CLASSES], about.T @ ONE_HOT, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("intercept", [True, False])
def test_the_penalty_chosen_has_the_smallest_squared_error_on_rows_held_out(intercept):
  fit, held = np.arange(12), np.arange(40, 90)
  errors = []
  for penalty in np.asarray(PENALTIES):
    ridge = Ridge(alpha=penalty, fit_intercept=intercept).fit(X[fit].astype(float), ONE_HOT[fit])
    errors.append(np.sum((ridge.predict(X[held].astype(float)) - ONE_HOT[held]) ** 2))
  x = np.concatenate([X[held], np.full((1, DIM), np.nan, np.float32)])
  y = np.append(Y[held], -1).astype(np.int32)
  choose = jax.jit(heads.choose_penalty, static_argnames="intercept")
  chosen = choose(moments(X[fit], Y[fit]), x, y, penalties=PENALTIES, intercept=intercept)
  assert 0 < np.argmin(errors) < 3  # else any monotone rule would do
  assert chosen == PENALTIES[np.argmin(errors)]


def test_a_penalty_below_rounding_still_classifies():
  # A Cholesky factor of this Gram matrix is NaN in float32.
  x = np.concatenate([X, X, X[:, :1] * np.linspace(1, 50, 20, dtype=np.float32)[None]], 1)
  state = update(heads.init_moments(CLASSES, x.shape[1]), x, Y)
  scores = heads.logits(fit_ridge(state, penalty=1e-3, intercept=False), x)
  theirs = Ridge(alpha=1e-3, fit_intercept=False).fit(x.astype(float), ONE_HOT).predict(x)
  assert np.mean(np.argmax(scores, 1) == theirs.argmax(1)) > 0.97


def test_random_features_are_rectified_projections():
  projection = heads.random_projection(jax.random.key(0), DIM, 400)
  mapped = heads.random_features(projection, X)
  expected = np.maximum(X.astype(float) @ np.asarray(projection, float), 0)
  np.testing.assert_allclose(mapped, expected, rtol=1e-4, atol=1e-4)
  # Of standard normal entries half are cut, and half of the second moment is left.
  np.testing.assert_allclose(jnp.mean(mapped**2, 1), np.sum(X**2, 1) / 2, rtol=0.35)


def test_what_does_not_fit_is_named():
  with pytest.raises(ValueError, match=r"\[batch, 5\].*\(90, 4\)"):
    heads.random_features(jnp.ones((5, 7)), X[:, :4])
  with pytest.raises(ValueError, match=r"penalties \[k\], got shape \(\)"):
    heads.choose_penalty(moments(), X, Y, penalties=1.0)
