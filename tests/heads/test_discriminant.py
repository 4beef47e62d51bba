"""Discriminants: scikit-learn's posteriors, no matter the scale, the constant and the order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.covariance import shrunk_covariance
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis

from repjax import heads

RNG = np.random.default_rng(0)
CLASSES, DIM = 3, 4
MIX = RNG.normal(size=(CLASSES, DIM, DIM))
Y = np.sort(RNG.choice(CLASSES, 150, p=[0.5, 0.3, 0.2])).astype(np.int32)
X = np.einsum("nd,nde->ne", RNG.normal(size=(150, DIM)), MIX[Y]) + RNG.normal(size=(3, DIM))[Y]
X = X.astype(np.float32)
QUERY = (2 * RNG.normal(size=(50, DIM))).astype(np.float32)
update = jax.jit(heads.update_moments)
fit_lda = jax.jit(heads.fit_lda, static_argnames="ddof")
fit_qda = jax.jit(heads.fit_qda, static_argnames="ddof")
qda_logits = jax.jit(heads.qda_logits)


@functools.cache
def moments(kind, scale=1.0):
  state = heads.init_moments(CLASSES + 1, DIM, scatter=kind)  # one class is still to come
  return update(state, scale * X, Y)


def posterior(logits):
  assert np.isneginf(logits[:, CLASSES:]).all()
  return jax.nn.softmax(logits, -1)[:, :CLASSES]


def of_lda(params, query=QUERY):
  return posterior(heads.logits(params, query))


@pytest.mark.parametrize(("solver", "shrinkage"), [("lsqr", 0.0), ("lsqr", 0.3), ("eigen", 0.01)])
def test_lda_has_the_posteriors_of_scikit_learn(solver, shrinkage):
  theirs = LinearDiscriminantAnalysis(solver=solver, shrinkage=shrinkage or None).fit(X, Y)
  for kind in ("shared", "each"):
    ours = of_lda(fit_lda(moments(kind), shrinkage=shrinkage))
    np.testing.assert_allclose(ours, theirs.predict_proba(QUERY), rtol=2e-4, atol=1e-5)


def test_kernels_of_lda_differ_from_scikit_learns_by_what_all_classes_share():
  theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(X, Y).coef_
  ours = fit_lda(moments("shared"), shrinkage=0.1)["kernel"].T[:CLASSES]
  between = lambda x: x - x[:1]
  np.testing.assert_allclose(between(ours), between(theirs), rtol=1e-3, atol=1e-4)


def test_a_singular_covariance_is_inverted_where_it_is_not_zero():
  # Columns that repeat others or never change: what is left decides as it does without them.
  wide = lambda x: np.concatenate([x, x[:, :2], np.ones_like(x[:, :2])], 1)
  state = update(heads.init_moments(CLASSES + 1, DIM + 4), wide(X), Y)
  ours = of_lda(fit_lda(state, shrinkage=0.0), wide(QUERY))
  narrow = of_lda(fit_lda(moments("shared"), shrinkage=0.0))
  np.testing.assert_allclose(ours, narrow, rtol=1e-3, atol=1e-5)


# pytorch-ood's issue 81: the constant of the covariance turned a detector into a random guess.
def test_neither_the_features_scale_nor_the_covariances_constant_changes_predictions():
  options = {"shrinkage": 0.2, "ridge": 1e-2}
  lda, qda = (
    lambda s: of_lda(fit_lda(moments("shared", s), **options), s * QUERY),
    lambda s: posterior(qda_logits(fit_qda(moments("each", s), **options), s * QUERY)),
  )
  for predict in (lda, qda):
    for scale in (1e-3, 256.0):
      np.testing.assert_allclose(predict(scale), predict(1.0), rtol=2e-3, atol=1e-5)
  flat = jnp.ones(CLASSES + 1)
  one, other = (
    heads.logits(fit_lda(moments("shared"), ddof=n, prior=flat, **options), QUERY)[:, :CLASSES]
    for n in (0, CLASSES)
  )
  about = lambda x: x - jnp.mean(x, 1, keepdims=True)
  # Less by one factor for all: the same order, however large the factor.
  np.testing.assert_allclose(
    about(other), about(one) * (1 - CLASSES / len(Y)), rtol=1e-3, atol=1e-4
  )


@pytest.mark.parametrize("reg", [0.0, 0.1])
def test_qda_has_the_posteriors_of_scikit_learn(reg):
  theirs = QuadraticDiscriminantAnalysis(reg_param=reg, store_covariance=True).fit(X, Y)
  plain = QuadraticDiscriminantAnalysis(store_covariance=True).fit(X, Y).covariance_[0]
  ddof = int(np.allclose(plain, np.cov(X[Y == 0].T), rtol=1e-5))  # as older versions have it
  params = fit_qda(moments("each"), shrinkage=reg, target=1.0, ddof=ddof)
  ours = posterior(qda_logits(params, QUERY))
  np.testing.assert_allclose(ours, theirs.predict_proba(QUERY), rtol=1e-3, atol=1e-5)


def test_qda_of_one_covariance_is_lda():
  state = moments("shared")
  share = state.count[:, None, None] / jnp.sum(state.count)
  same = state._replace(scatter=share * state.scatter[None])
  one = posterior(qda_logits(fit_qda(same, shrinkage=0.1), QUERY))
  np.testing.assert_allclose(one, of_lda(fit_lda(state, shrinkage=0.1)), rtol=1e-3, atol=1e-5)


def test_shrinking_is_scikit_learns():
  sigma = np.cov(X.T)
  ours = heads.shrink_covariance(jnp.asarray(sigma, jnp.float32), 0.3)
  np.testing.assert_allclose(ours, shrunk_covariance(sigma, 0.3), rtol=1e-5, atol=1e-6)


def test_sessions_of_classes_in_any_order_give_the_classifier_of_all_at_once():
  states = []
  for order in ((0, 1, 2), (2, 0, 1)):
    state = heads.init_moments(CLASSES + 1, DIM)
    for c in order:
      state = update(state, X, np.where(c == Y, Y, -1))
    states.append(of_lda(fit_lda(state, shrinkage=0.1)))
  whole = of_lda(fit_lda(moments("shared"), shrinkage=0.1))
  for streamed in states:
    np.testing.assert_allclose(streamed, whole, rtol=1e-4, atol=1e-6)


def test_float64_is_scikit_learn_to_more_digits():
  with jax.enable_x64(True):
    state = heads.init_moments(CLASSES, DIM, dtype=jnp.float64)
    params = fit_lda(update(state, X.astype(float), Y), shrinkage=0.1)
    ours = jax.nn.softmax(heads.logits(params, QUERY.astype(float)), -1)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(X.astype(float), Y)
    np.testing.assert_allclose(ours, theirs.predict_proba(QUERY.astype(float)), rtol=1e-9)


def test_too_few_rows_without_shrinkage_are_not_guessed():
  state = update(heads.init_moments(2, DIM, scatter="each"), X[:8], np.arange(8) % 2)
  assert np.isnan(qda_logits(fit_qda(state, shrinkage=0.0), QUERY)).any()
  assert np.isfinite(qda_logits(fit_qda(state, shrinkage=0.1), QUERY)).all()


def test_moments_of_the_wrong_kind_are_refused():
  with pytest.raises(ValueError, match="scatter='each'"):
    heads.fit_qda(moments("shared"), shrinkage=0.1)
  with pytest.raises(ValueError, match="keep no scatter"):
    heads.fit_lda(moments("none"), shrinkage=0.1)
