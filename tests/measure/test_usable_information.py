"""What a linear map can use: scikit-learn's ridge and R2, and parts of variance that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.measure import feature_complexity, linear_information, variance_explained

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)) + 2
Z = X[:, :2] @ RNG.normal(size=(2, 3)) + 0.5 * RNG.normal(size=(60, 3))
WHERE = np.arange(60) % 3 > 0
information = jax.jit(linear_information)


def by_scikit_learn(x, z, fit, judge, ridge):
  from sklearn.linear_model import Ridge
  from sklearn.metrics import r2_score

  known = x[fit] - x[fit].mean(0)
  penalty = ridge * np.sum(known**2) / min(x.shape)
  told = Ridge(alpha=penalty).fit(x[fit], z[fit]).predict(x[judge])
  return r2_score(z[judge], told, multioutput="raw_values")


def test_information_is_the_r2_of_ridge_on_rows_that_were_not_fitted():
  x, z = jnp.asarray(X, jnp.float32), jnp.asarray(Z, jnp.float32)
  found = information(x, z, where=WHERE, ridge=0.01)
  np.testing.assert_allclose(found, by_scikit_learn(X, Z, WHERE, ~WHERE, 0.01), rtol=1e-4)
  every = np.ones(60, bool)
  found = information(x, z, ridge=0.01)
  np.testing.assert_allclose(found, by_scikit_learn(X, Z, every, every, 0.01), rtol=1e-4)


def test_more_dimensions_than_rows_take_the_smaller_system_to_the_same_map():
  wide = RNG.normal(size=(60, 90))
  found = information(jnp.asarray(wide, jnp.float32), jnp.asarray(Z, jnp.float32), where=WHERE)
  np.testing.assert_allclose(found, by_scikit_learn(wide, Z, WHERE, ~WHERE, 1e-3), rtol=1e-3)
  assert np.all(found < 0)  # noise does not tell, and is not clipped


def test_information_ignores_scale_turn_and_offset_of_inputs_and_features():
  turn, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
  x, z = jnp.asarray(9 * X @ turn - 3, jnp.float32), jnp.asarray(1 - 7 * Z, jnp.float32)
  wanted = information(jnp.asarray(X, jnp.float32), jnp.asarray(Z, jnp.float32), where=WHERE)
  np.testing.assert_allclose(information(x, z, where=WHERE), wanted, rtol=1e-3)


def test_complexity_counts_the_layers_that_do_not_hold_a_feature():
  late = RNG.normal(size=(60, 4))
  early = RNG.normal(size=(60, 4)) * 1e-3
  layers = [jnp.asarray(x, jnp.float32) for x in (early, early, late, late)]
  feature = jnp.asarray(late[:, :1], jnp.float32)
  noise = 1 - information(layers[0], feature, ridge=1e-6)
  found = feature_complexity(layers, feature, ridge=1e-6)
  np.testing.assert_allclose(found, noise / 2, atol=1e-4)
  with pytest.raises(ValueError, match="layers is empty"):
    feature_complexity([], feature)


def test_a_feature_explains_its_own_share_of_variance_however_well_it_can_be_read():
  bits = np.stack([np.arange(64) >> k & 1 for k in range(3)], 1) * 2.0 - 1
  directions, _ = np.linalg.qr(RNG.normal(size=(7, 3)))
  amplitude = np.array([3.0, 2.0, 1.0])
  x = jnp.asarray(bits * amplitude @ directions.T + 5, jnp.float32)
  found = jax.jit(variance_explained)(x, jnp.asarray(bits, jnp.float32))
  np.testing.assert_allclose(found, amplitude**2 / 14, rtol=1e-4)
  np.testing.assert_allclose(linear_information(x, jnp.asarray(bits), ridge=1e-6), 1, atol=1e-4)
  with pytest.raises(ValueError, match=r"got \(64, 7\) and \(63, 3\)"):
    variance_explained(x, jnp.asarray(bits[1:]))
