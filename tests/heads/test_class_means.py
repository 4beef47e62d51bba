"""Class means: scikit-learn's nearest centroid, streams equal to all at once, TEEN by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from repjax import heads

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(5, 6)) + 1
Y = RNG.integers(0, 4, 80).astype(np.int32)  # class 4 is still to come
X = (CENTRES[Y] + RNG.normal(size=(80, 6))).astype(np.float32)
QUERY = RNG.normal(size=(40, 6)).astype(np.float32)
update = jax.jit(heads.update_moments)


def fit(x=X, y=Y):
  return heads.fit_class_means(update(heads.init_moments(5, 6, scatter="none"), x, y))


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_nearest_mean_is_that_of_scikit_learn_and_never_a_class_not_seen():
  logits = np.asarray(jax.jit(heads.euclidean_logits)(fit(), QUERY))
  centroid = NearestCentroid().fit(X, Y)
  np.testing.assert_array_equal(logits.argmax(1), centroid.predict(QUERY))
  square = ((QUERY[:, None] - centroid.centroids_[None]) ** 2).sum(-1)
  np.testing.assert_allclose(logits[:, :4], -square, rtol=1e-4)
  assert np.isneginf(logits[:, 4]).all()


def test_distances_far_from_the_origin_keep_their_digits():
  far = heads.euclidean_logits(fit(X + 1000), QUERY + 1000)
  np.testing.assert_allclose(far, heads.euclidean_logits(fit(), QUERY), rtol=2e-3)


def test_cosines_are_those_of_normalised_means_and_ignore_length():
  means = np.stack([X[c == Y].mean(0, dtype=np.float64) for c in range(4)])
  logits = heads.cosine_logits(fit(), QUERY, scale=16.0)
  np.testing.assert_allclose(logits[:, :4], 16 * unit(QUERY) @ unit(means).T, rtol=1e-4, atol=1e-5)
  assert np.isneginf(logits[:, 4]).all()
  longer = heads.cosine_logits(fit(), 4 * QUERY, scale=16.0)
  np.testing.assert_allclose(longer, logits, rtol=1e-5, atol=1e-5)


def test_classes_one_after_another_give_what_all_at_once_do():
  state = heads.init_moments(5, 6, scatter="none")
  for c in (2, 0, 3, 1):
    state = update(state, X, np.where(c == Y, Y, -1))
  np.testing.assert_allclose(heads.fit_class_means(state).mean, fit().mean, rtol=1e-6, atol=1e-6)


def test_calibration_equals_the_papers_code_in_float64():
  params = fit()
  base = np.array([True, True, False, False, True])  # the last one is not seen yet
  ours = jax.jit(heads.calibrate_new_classes)(params, base, scale=8.0, shift=0.3)
  p = unit(np.asarray(params.mean[:4], np.float64))
  for new in (2, 3):
    weight = np.exp(8 * p[new] @ p[:2].T)
    alike = unit((weight / weight.sum()) @ p[:2])
    np.testing.assert_allclose(ours.mean[new], 0.7 * p[new] + 0.3 * alike, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(ours.mean[:2], params.mean[:2])
  np.testing.assert_array_equal(ours.mean[4], params.mean[4])


def test_calibration_without_shift_or_base_classes_predicts_as_before():
  params, none = fit(), jnp.zeros(5, bool)
  before = heads.cosine_logits(params, QUERY)
  for base, shift in ((none, 0.5), (none.at[0].set(True), 0.0)):
    after = heads.calibrate_new_classes(params, base, shift=shift)
    np.testing.assert_allclose(heads.cosine_logits(after, QUERY), before, rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_is_named():
  with pytest.raises(ValueError, match=r"\[batch, 6\].*\(40, 5\)"):
    heads.euclidean_logits(fit(), QUERY[:, :5])
  with pytest.raises(ValueError, match=r"base \[5\].*\(4,\)"):
    heads.calibrate_new_classes(fit(), jnp.zeros(4, bool))
