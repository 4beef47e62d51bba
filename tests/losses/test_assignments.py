"""Laws of balanced assignments."""

import numpy as np
import pytest
from libraries import answers, check_answer

from repjax.losses.assignments import sinkhorn

NAMES = [name for name in answers("prototype") if name.startswith("sinkhorn")]
SCORES = np.random.default_rng(0).uniform(-1, 1, (24, 6)).astype(np.float32)


@pytest.mark.parametrize("answer", NAMES)
def test_assignments_equal_those_of_lightly(answer):
  options = {"iterations": 10, "epsilon": 0.3} if "_10_" in answer else {"epsilon": 0.05}
  ours = lambda weights, scores: (weights * sinkhorn(scores, **options)).sum()
  check_answer("prototype", answer, ours)


def test_after_many_iterations_every_prototype_has_its_share():
  assignments = sinkhorn(SCORES, epsilon=0.3, iterations=100)
  np.testing.assert_allclose(assignments.sum(0), 24 / 6, rtol=1e-4)
  np.testing.assert_allclose(assignments.sum(1), 1, rtol=1e-6)


def test_what_favours_a_prototype_or_an_example_does_not_matter():
  rng = np.random.default_rng(1)
  shifted = SCORES + rng.normal(size=(24, 1)) + rng.normal(size=(1, 6))
  options = {"epsilon": 0.3, "iterations": 100}
  np.testing.assert_allclose(sinkhorn(shifted, **options), sinkhorn(SCORES, **options), 1e-3, 1e-5)


def test_assignments_become_a_permutation_as_epsilon_falls():
  scores = 0.1 * np.random.default_rng(2).uniform(size=(5, 5)) + np.eye(5)[[3, 1, 4, 0, 2]]
  ours = sinkhorn(scores.astype(np.float32), epsilon=1e-3, iterations=20)
  np.testing.assert_allclose(ours, np.eye(5)[[3, 1, 4, 0, 2]], atol=1e-6)


def test_prototypes_that_no_example_is_near_do_not_underflow():
  """Where exponentials of scores would all be 0, in a column or in a row."""
  scores = SCORES.copy()
  scores[:, 2] -= 100
  scores[5] -= 100
  ours = sinkhorn(scores, epsilon=0.01)
  np.testing.assert_allclose(ours.sum(1), 1, rtol=1e-5)
  assert ours[:, 2].sum() > 1


def test_a_forbidden_pair_gets_nothing():
  scores = np.where(np.arange(6) == 2, -np.inf, SCORES)
  ours = sinkhorn(scores.astype(np.float32))
  assert not ours[:, 2].any()
  np.testing.assert_allclose(np.delete(ours, 2, 1), sinkhorn(np.delete(SCORES, 2, 1)), rtol=1e-5)


@pytest.mark.parametrize(
  ("scores", "options", "message"),
  [
    (SCORES[0], {}, r"\[batch, prototypes\], got shape \(6,\)"),
    (SCORES, {"iterations": 0}, "iterations=0 scales nothing"),
  ],
)
def test_senseless_arguments_are_errors(scores, options, message):
  with pytest.raises(ValueError, match=message):
    sinkhorn(scores, **options)
