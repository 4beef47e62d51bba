"""Laws of sentence losses: invariances, closed forms, limits that connect them to others."""

import numpy as np
import pytest

from repjax.losses import contrastive, sentence

RNG = np.random.default_rng(0)
Z_1, Z_2 = RNG.normal(size=(2, 9, 6)).astype(np.float32)
GUIDE_1, GUIDE_2 = RNG.normal(size=(2, 9, 4)).astype(np.float32)
SCORE = (RNG.integers(4, size=9) / 3).astype(np.float32)
graded = pytest.mark.parametrize("loss", [sentence.cosent, sentence.angle])


@graded
def test_only_the_order_of_scores_counts(loss):
  ours = loss(Z_1, Z_2, np.exp(3 * SCORE) - 5)
  np.testing.assert_allclose(ours, loss(Z_1, Z_2, SCORE), rtol=1e-6)


@graded
def test_lengths_of_sentences_do_not_matter(loss):
  lengths = 10 ** RNG.uniform(-3, 3, (2, 9, 1)).astype(np.float32)
  ours = loss(Z_1 * lengths[0], Z_2 * lengths[1], SCORE)
  np.testing.assert_allclose(ours, loss(Z_1, Z_2, SCORE), rtol=1e-5)


@graded
def test_equal_scores_cost_nothing(loss):
  assert loss(Z_1, Z_2, np.ones(9)) == 0


@graded
def test_pairs_that_are_all_alike_cost_the_log_of_the_pairs_to_rank(loss):
  wanted = np.log1p(np.sum(SCORE[:, None] > SCORE))
  np.testing.assert_allclose(loss(Z_1, Z_1, SCORE), wanted, rtol=1e-5)


def test_two_pairs_are_ranked_by_a_logistic_loss():
  cosine = np.sum(Z_1 * Z_2, 1) / np.linalg.norm(Z_1, axis=1) / np.linalg.norm(Z_2, axis=1)
  ours = sentence.cosent(Z_1[:2], Z_2[:2], np.array([1.0, 0.0]), temperature=0.5)
  np.testing.assert_allclose(ours, np.log1p(np.exp((cosine[1] - cosine[0]) / 0.5)), rtol=1e-5)


def test_a_guide_that_lets_all_negatives_through_leaves_info_nce():
  ours = sentence.guided_info_nce(
    Z_1, Z_2, GUIDE_1, GUIDE_2, temperature=0.1, margin=-3, query_to_query=False, key_to_key=False
  )
  np.testing.assert_allclose(ours, contrastive.info_nce(Z_1, Z_2), rtol=1e-5)


def test_a_guide_that_lets_nothing_through_leaves_nothing_to_learn():
  np.testing.assert_array_equal(sentence.guided_info_nce(Z_1, Z_2, GUIDE_1, GUIDE_2, margin=3), 0)


def test_margins_do_not_see_what_a_student_adds_to_all_scores_of_a_query():
  teacher = RNG.normal(size=(5, 4)).astype(np.float32)
  ours = sentence.margin_mse(teacher + np.arange(5, dtype=np.float32)[:, None], teacher)
  np.testing.assert_allclose(ours, 0, atol=1e-10)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: sentence.cosent(Z_1, Z_2[:4], SCORE), r"\(9, 6\).*\(4, 6\)"),
    (lambda: sentence.angle(Z_1, Z_2, SCORE[:4]), r"\(9,\).*\(4,\)"),
    (lambda: sentence.guided_info_nce(Z_1, Z_2, GUIDE_1, Z_2), r"\(9, 4\).*\(9, 6\)"),
    (lambda: sentence.guided_info_nce(Z_1, Z_2, GUIDE_1[:4], GUIDE_2[:4]), "got 4 for 9"),
    (lambda: sentence.margin_mse(SCORE[:, None], SCORE[:, None]), r"n >= 1.*\(9, 1\)"),
  ],
)
def test_mismatched_shapes_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
