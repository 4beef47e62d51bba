"""Cascades: an example at a time in NumPy, and what thresholds at their ends must do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax import heads

RNG = np.random.default_rng(0)
SIZES = (2, 4, 8)
LOGITS = (2 * RNG.normal(size=(3, 50, 4))).astype(np.float32)
Y = RNG.integers(0, 4, 50).astype(np.int32)
X = RNG.normal(size=(50, 8)).astype(np.float32)
cascade = jax.jit(heads.run_cascade)


def softmax(x):
  e = np.exp(x.astype(float) - x.max())
  return e / e.sum()


@pytest.mark.parametrize("thresholds", [(0.5, 0.6), (0.9, 0.3), (0.7, 0.7)])
def test_examples_leave_at_the_first_size_that_is_sure(thresholds):
  ours = cascade(LOGITS, np.float32(thresholds))
  stages = []
  for i in range(50):
    sure = [softmax(LOGITS[s, i]).max() >= thresholds[s] for s in range(2)]
    stage = 0 if sure[0] else 1 if sure[1] else 2
    np.testing.assert_array_equal(ours.logits[i], LOGITS[stage, i])
    stages.append(stage)
  np.testing.assert_array_equal(ours.stage, stages)
  assert len(set(stages)) > 1
  mean = np.mean([SIZES[stage] for stage in stages])
  np.testing.assert_allclose(heads.expected_dimension(ours.stage, sizes=SIZES), mean, rtol=1e-6)


def test_thresholds_at_their_ends_are_the_smallest_and_the_largest_head():
  for threshold, stage in ((0.0, 0), (1.01, 2)):
    ours = cascade(LOGITS, jnp.full(2, threshold))
    np.testing.assert_array_equal(ours.logits, LOGITS[stage])
    assert heads.expected_dimension(ours.stage, sizes=SIZES) == SIZES[stage]


def test_the_threshold_chosen_is_the_least_of_the_highest_accuracy_of_two_sizes():
  grid = np.linspace(0, 1, 21).astype(np.float32)
  labels = np.where(np.arange(50) % 7 == 0, -1, Y)
  ours = jax.jit(heads.choose_thresholds)(LOGITS, labels, grid=grid)
  for pair in range(2):
    counts = []
    for threshold in grid:
      right = 0
      for i in np.flatnonzero(labels >= 0):
        p = softmax(LOGITS[pair, i])
        stage = pair if p.max() >= threshold else pair + 1
        right += LOGITS[stage, i].argmax() == labels[i]
      counts.append(right)
    assert len(set(counts)) > 1
    np.testing.assert_allclose(ours[pair], grid[np.argmax(counts)])


def test_heads_of_prefixes_see_their_coordinates_alone():
  @jax.jit
  def fit(x):
    state = heads.init_moments(4, x.shape[1], scatter="none")
    return heads.fit_class_means(heads.update_moments(state, x, Y))

  params = heads.fit_prefixes(fit, X, sizes=SIZES)
  ours = heads.prefix_logits(heads.euclidean_logits, params, X, sizes=SIZES)
  changed = X.copy()
  changed[:, 4:] = np.nan
  np.testing.assert_array_equal(
    ours[:2], heads.prefix_logits(heads.euclidean_logits, params, changed, sizes=SIZES)[:2]
  )
  np.testing.assert_allclose(ours[2], heads.euclidean_logits(fit(X), X), rtol=1e-6)


def test_what_does_not_fit_is_named():
  with pytest.raises(ValueError, match=r"\(3, 50, 4\) and \(3,\)"):
    heads.run_cascade(LOGITS, jnp.ones(3))
  with pytest.raises(ValueError, match=r"ascend from 1 or more, got \[4, 2\]"):
    heads.fit_prefixes(lambda x: x, X, sizes=(4, 2))
  with pytest.raises(ValueError, match=r"\[2, 16\] exceed features of shape \(50, 8\)"):
    heads.prefix_logits(functools.partial, (), X, sizes=(2, 16))
