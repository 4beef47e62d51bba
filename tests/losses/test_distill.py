"""Imitation of a teacher: other libraries' answers, limits, and what the losses do not see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from libraries import answers, check_answer

from repjax.losses import distill

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(size=(2, 7, 6)).astype(np.float32)
TOKENS, OTHERS = RNG.normal(size=(2, 3, 6, 5)).astype(np.float32)


# What other libraries take the mean of, by the name of the answer.
SAME_AS = {
  "soft_labels_torch": lambda **arrays: distill.soft_labels(**arrays, temperature=3.0),
  "feature_smooth_l1_torch": lambda **arrays: distill.feature_smooth_l1(**arrays, beta=0.7),
  "feature_cosine_sentence_transformers": distill.feature_cosine,
  "attention_kl_torch": distill.attention_kl,
  "feature_l2_sentence_transformers": distill.feature_l2,
}


@pytest.mark.parametrize("answer", answers("distill"))
def test_loss_equals_another_library(answer):
  loss = SAME_AS[answer.rpartition("_")[0]]
  check_answer("distill", answer, lambda **arrays: jnp.mean(loss(**arrays)))


def test_shifted_logits_are_the_same_labels():
  np.testing.assert_allclose(distill.soft_labels(TEACHER + 3, TEACHER), 0, atol=1e-5)


def test_hot_labels_match_centred_logits():
  difference = STUDENT - TEACHER
  wanted = np.var(difference, axis=1) / 2
  ours = distill.soft_labels(STUDENT, TEACHER, temperature=100.0)
  np.testing.assert_allclose(ours, wanted, rtol=3e-2)


def test_certain_labels_are_the_cross_entropy_of_a_class():
  labels = np.arange(7) % 6
  certain = np.where(np.eye(6)[labels] > 0, 0, -np.inf).astype(np.float32)
  ours = distill.soft_labels(STUDENT, certain, temperature=1.0)
  wanted = -jax.nn.log_softmax(STUDENT)[np.arange(7), labels]
  np.testing.assert_allclose(ours, wanted, rtol=1e-5)


def test_cosines_of_equal_and_opposite_features_are_the_bounds():
  np.testing.assert_allclose(distill.feature_cosine(5 * TEACHER, TEACHER), 0, atol=1e-6)
  np.testing.assert_allclose(distill.feature_cosine(-TEACHER, TEACHER), 2, rtol=1e-6)


@pytest.mark.parametrize(
  "loss", [distill.feature_cosine, distill.feature_l2, distill.feature_smooth_l1]
)
def test_features_of_tokens_cost_the_mean_over_tokens(loss):
  wanted = np.mean([loss(TOKENS[:, t], OTHERS[:, t]) for t in range(6)], 0)
  np.testing.assert_allclose(loss(TOKENS, OTHERS), wanted, rtol=1e-5)


def test_gram_forgets_a_rotation_of_features():
  turn = np.linalg.qr(RNG.normal(size=(5, 5)))[0].astype(np.float32)
  np.testing.assert_allclose(distill.gram(TOKENS @ turn, TOKENS), 0, atol=1e-6)
  np.testing.assert_allclose(
    distill.gram(TOKENS @ turn, OTHERS), distill.gram(TOKENS, OTHERS), rtol=1e-4
  )


def test_gram_of_orthogonal_and_collapsed_patches_is_the_closed_form():
  apart, together = np.eye(6, dtype=np.float32)[None], np.ones((1, 6, 6), np.float32)
  # The 30 of 36 pairs that are not of a patch with itself are off by 1.
  np.testing.assert_allclose(distill.gram(together, apart), 30 / 36, rtol=1e-6)


def test_clamped_negatives_cost_nothing():
  student, teacher = np.array([[[1.0, 0], [-1, 0]], [[1, 0], [0, 1]]], np.float32)[:, None]
  np.testing.assert_allclose(distill.gram(student, teacher), 0.5)
  np.testing.assert_allclose(distill.gram(student, teacher, clamp_negatives=True), 0)


def test_attention_may_be_causal():
  student, teacher = RNG.normal(size=(2, 3, 2, 6, 6)).astype(np.float32)
  causal = np.where(np.tri(6, dtype=bool), 0, -np.inf).astype(np.float32)
  rows = [
    distill.attention_kl(student[..., i : i + 1, : i + 1], teacher[..., i : i + 1, : i + 1])
    for i in range(6)
  ]
  total = lambda x: jnp.sum(distill.attention_kl(x, teacher + causal))
  value, grad = jax.value_and_grad(total)(student + causal)
  np.testing.assert_allclose(value, np.sum(np.mean(rows, 0)), rtol=1e-5)
  assert np.isfinite(grad).all() and not grad[..., ~np.tri(6, dtype=bool)].any()


def test_masked_tokens_have_no_say():
  student, teacher = RNG.normal(size=(2, 3, 2, 6, 6)).astype(np.float32)
  mask = np.arange(6)[None] < np.array([4, 6, 5])[:, None]
  of_first = lambda i, n: distill.attention_kl(
    student[i : i + 1, :, :n, :n], teacher[i : i + 1, :, :n, :n]
  )
  wanted = np.concatenate([of_first(i, n) for i, n in enumerate((4, 6, 5))])
  np.testing.assert_allclose(distill.attention_kl(student, teacher, mask), wanted, rtol=1e-5)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: distill.soft_labels(STUDENT, TEACHER[:, 1:]), r"\(7, 6\).*\(7, 5\)"),
    (lambda: distill.feature_cosine(STUDENT, TEACHER[1:]), r"\(7, 6\).*\(6, 6\)"),
    (lambda: distill.gram(TOKENS, OTHERS[:, 1:]), r"same tokens, got \(3, 6, 5\) and \(3, 5, 5\)"),
    (lambda: distill.gram(TOKENS, OTHERS, np.ones(3, bool)), r"\(3, 6\), got \(3,\)"),
    (
      lambda: distill.attention_kl(TOKENS, OTHERS, np.ones((3, 5), bool)),
      "as many queries as keys, got 6 and 5",
    ),
  ],
)
def test_what_does_not_fit_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
