"""Laws of word losses: closed forms, optima, errors that name shapes."""

import jax
import numpy as np
import pytest

from repjax.losses import words

RNG = np.random.default_rng(0)


def test_words_of_no_length_cost_log_2_a_word():
  ours = words.skip_gram(*np.zeros((2, 5, 4)), np.zeros((5, 3, 4)))
  np.testing.assert_allclose(ours, 4 * np.log(2), rtol=1e-6)


def test_the_best_score_of_a_word_is_its_pointwise_mutual_information():
  """Levy and Goldberg: log(P(w, c) / P(w) P(c)), less the log of the number of negatives."""
  together, chance, negatives = 0.03, 0.004, 5

  def expected(score):  # of one pair, over how often it is met and how often drawn
    v, u = np.ones((1, 1)), score.reshape(1, 1)
    met = words.skip_gram(v, u, np.full((1, 1, 1), -1e3))[0]
    drawn = words.skip_gram(v, np.full((1, 1), 1e3), score.reshape(1, 1, 1))[0]
    return together * met + negatives * chance * drawn

  best = np.log(together / chance) - np.log(negatives)
  np.testing.assert_allclose(jax.grad(expected)(np.float32(best)), 0, atol=1e-7)


def test_glove_is_least_at_the_log_of_the_count():
  count = np.array([0.0, 1.0, 20.0, 100.0, 3000.0], np.float32)
  score = np.log(np.maximum(count, 1))
  np.testing.assert_allclose(words.glove(score, count), 0, atol=1e-6)
  # A count above the cutoff weighs 1, none weighs nothing.
  weight = words.glove(score + 1, count)
  np.testing.assert_allclose(weight, np.minimum(count / 100, 1) ** 0.75, rtol=1e-5)


def test_mismatched_words_are_named():
  with pytest.raises(ValueError, match=r"\(5, 4\).*\(5, 3\)"):
    words.skip_gram(np.ones((5, 4)), np.ones((5, 3)), np.ones((5, 2, 4)))
  with pytest.raises(ValueError, match=r"\(5, 4\).*\(5, 2, 3\)"):
    words.skip_gram(np.ones((5, 4)), np.ones((5, 4)), np.ones((5, 2, 3)))
  with pytest.raises(ValueError, match=r"\(5,\).*\(4,\)"):
    words.glove(np.ones(5), np.ones(4))
