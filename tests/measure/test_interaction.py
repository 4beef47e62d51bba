"""The interaction tensor: scikit-learn's PCA, planted features, definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax import measure

RNG = np.random.default_rng(0)
N = 400
FACTORS = np.linalg.qr(RNG.normal(size=(N, 5)))[0]
FACTORS = (FACTORS - FACTORS.mean(0)) / FACTORS.std(0)
# Which net has learned which of five factors, with how much variance.
LEARNED = ([0, 1, 2], [1, 0, 3], [0, 4, 1])


def net(factors, seed):
  rng = np.random.default_rng(seed)
  turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
  scores = FACTORS[:, factors] * [5, 3, 1.5] * rng.choice([-1, 1], 3)
  return np.concatenate([scores, 0.05 * rng.normal(size=(N, 5))], 1) @ turn + rng.normal(size=8)


NETS = np.stack([net(factors, i) for i, factors in enumerate(LEARNED)])
SCORES = jax.jit(measure.principal_scores, static_argnames="components")(
  jnp.asarray(NETS, jnp.float32), components=3
)


def test_scores_are_scikit_learn_s_whitened_components():
  from sklearn.decomposition import PCA

  for ours, features in zip(SCORES, NETS, strict=True):
    theirs = PCA(3, whiten=True).fit_transform(features) * np.sqrt(N / (N - 1))
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-2)


def test_components_of_the_same_factor_are_one_feature_whatever_their_rank_and_sign():
  found = measure.shared_features(SCORES, threshold=0.8)
  planted = np.array(LEARNED)
  for i, j in np.ndindex(3, 3):
    for a, b in np.ndindex(3, 3):
      assert (found[i, a] == found[j, b]) == (planted[i, a] == planted[j, b])
  assert found.max() == 4


def test_a_feature_has_one_component_of_a_net_at_most_and_none_below_the_threshold():
  scores = np.random.default_rng(1).normal(size=(4, 50, 6))
  joined = measure.shared_features(scores, threshold=1e-3)
  assert all(len(set(row)) == 6 for row in joined) and joined.max() == 5
  alone = measure.shared_features(scores, threshold=0.999)
  assert len(set(alone.ravel())) == 24


def test_the_tensor_is_set_where_a_net_has_a_feature_that_an_example_carries():
  found = measure.shared_features(SCORES, threshold=0.8)
  tensor = np.asarray(measure.interaction_tensor(SCORES, found, strength=1.0))
  assert tensor.shape == (3, N, 5)
  for m, t in np.ndindex(3, 5):
    own = [k for k in range(3) if found[m, k] == t]
    carried = np.abs(np.asarray(SCORES)[m, :, own]) >= 1
    np.testing.assert_array_equal(tensor[m, :, t], carried.any(0))


def test_agreement_is_the_share_of_equal_answers():
  from sklearn.metrics import accuracy_score

  predictions = np.random.default_rng(2).integers(0, 3, (4, 60))
  truth = [[accuracy_score(a, b) for b in predictions] for a in predictions]
  np.testing.assert_allclose(jax.jit(measure.pairwise_agreement)(predictions), truth, rtol=1e-6)


def test_what_does_not_fit_is_said_in_a_line():
  with pytest.raises(ValueError, match=r"of 9 components or more, got \(3, 400, 8\)"):
    measure.principal_scores(jnp.asarray(NETS), components=9)
  with pytest.raises(ValueError, match=r"got \(3, 400, 3\) and \(3, 2\)"):
    measure.interaction_tensor(SCORES, np.zeros((3, 2), int), strength=1.0)
