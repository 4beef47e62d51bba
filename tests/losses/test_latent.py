"""Predictions of a teacher's tokens: torch's errors, and what DMT's targets and relations are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from libraries import answers, check_answer

from repjax.losses import latent

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(size=(2, 3, 12, 5)).astype(np.float32)
GRID = 3, 4


def predicted(**options):
  return lambda **arrays: latent.latent_prediction(**arrays, **options)


# What other libraries take the mean of, by the name of the answer.
SAME_AS = {
  "latent_prediction_torch": predicted(normalize_target=True),
  "latent_prediction_data2vec_torch": predicted(beta=0.5),
  "latent_prediction_l1_torch": predicted(norm="l1"),
  "latent_prediction_l2_torch": predicted(norm="l2"),
  "unmasked_alignment_torch": latent.unmasked_alignment,
}


def rolled(tokens, shift):
  images = np.asarray(tokens).reshape(len(tokens), *GRID, -1)
  return np.roll(images, shift, (1, 2)).reshape(tokens.shape)


@pytest.mark.parametrize("answer", answers("latent"))
def test_loss_equals_another_library(answer):
  loss = SAME_AS[answer.rpartition("_")[0]]
  check_answer("latent", answer, lambda **arrays: jnp.mean(loss(**arrays)))


@pytest.mark.parametrize("norm", ["l1", "l2", "smooth_l1"])
def test_a_perfect_prediction_costs_nothing(norm):
  total = lambda x: jnp.sum(latent.latent_prediction(x, TEACHER, norm=norm))
  value, grad = jax.value_and_grad(total)(TEACHER)
  assert value == 0 and not grad.any()


def test_a_smooth_error_is_absolute_or_squared_in_its_limits():
  smooth = lambda beta: latent.latent_prediction(STUDENT, TEACHER, beta=beta)
  absolute = latent.latent_prediction(STUDENT, TEACHER, norm="l1")
  squared = latent.latent_prediction(STUDENT, TEACHER, norm="l2")
  np.testing.assert_allclose(smooth(1e-6), absolute, rtol=1e-5)
  np.testing.assert_allclose(2 * 100 * smooth(100.0), squared, rtol=1e-5)


def test_normalised_targets_forget_mean_and_scale_of_each_token():
  options = {"normalize_target": True}
  ours = latent.latent_prediction(STUDENT, 30 * TEACHER - 7, **options)
  wanted = latent.latent_prediction(STUDENT, TEACHER, **options)
  np.testing.assert_allclose(ours, wanted, rtol=1e-4)


def test_targets_of_one_neighbor_are_the_most_similar_patch_around():
  targets = latent.dmt_targets(TEACHER, GRID, neighbors=1)
  unit = TEACHER / np.linalg.norm(TEACHER, axis=-1, keepdims=True)
  # In a window of three, all columns but the opposite one and all rows are near, across the edges.
  for i in range(12):
    near = [j for j in range(12) if j != i and (j - i) % 4 != 2]
    for image in range(3):
      best = near[np.argmax(unit[image, near] @ unit[image, i])]
      np.testing.assert_allclose(targets[image, i], TEACHER[image, best], rtol=1e-6)


@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (2, 3)])
def test_targets_move_with_the_image(shift):
  ours = latent.dmt_targets(rolled(TEACHER, shift), GRID)
  np.testing.assert_allclose(ours, rolled(latent.dmt_targets(TEACHER, GRID), shift), rtol=1e-5)


def test_equal_patches_are_their_own_targets():
  tokens = np.repeat(TEACHER[:, :1], 12, 1)
  np.testing.assert_allclose(latent.dmt_targets(tokens, GRID), tokens, rtol=1e-5)


def test_a_head_may_aggregate_the_neighbors():
  mean = lambda tokens, chosen: jnp.mean(chosen, 2) + tokens
  ours = latent.dmt_targets(TEACHER, GRID, window=5, neighbors=11, aggregate=mean)
  wanted = (TEACHER.sum(1, keepdims=True) - TEACHER) / 11 + TEACHER
  np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-6)


def test_relations_forget_a_rotation_of_queries_and_keys():
  query, key = TEACHER[:, None], STUDENT[:, None]
  turn = np.linalg.qr(RNG.normal(size=(5, 5)))[0].astype(np.float32)
  ours = latent.token_relation(query @ turn, key @ turn, query, key)
  np.testing.assert_allclose(ours, 0, atol=1e-5)


def test_aligning_is_two_minus_twice_the_cosine():
  unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (STUDENT, TEACHER)]
  wanted = 2 - 2 * np.mean(np.sum(unit[0] * unit[1], -1), 1)
  np.testing.assert_allclose(latent.unmasked_alignment(STUDENT, TEACHER), wanted, rtol=1e-5)
  opposite = latent.unmasked_alignment(-3 * TEACHER, TEACHER)
  np.testing.assert_allclose(opposite, 4, rtol=1e-6)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: latent.latent_prediction(STUDENT, TEACHER[:, 1:]), r"\(3, 12, 5\).*\(3, 11, 5\)"),
    (lambda: latent.latent_prediction(STUDENT, TEACHER, norm="l3"), "'l3' is unknown; choose"),
    (lambda: latent.unmasked_alignment(STUDENT, TEACHER, np.ones(3, bool)), r"\(3, 12\), got \(3,"),
    (lambda: latent.dmt_targets(TEACHER, (3, 3)), r"grid=\(3, 3\) does not hold.*\(3, 12, 5\)"),
    (lambda: latent.dmt_targets(TEACHER, GRID, window=4), "window=4 is even"),
    (lambda: latent.dmt_targets(TEACHER, GRID, neighbors=9), "neighbors=9 of 8 in window=3"),
    (lambda: latent.token_relation(*[STUDENT] * 3, TEACHER[:2]), r"\(3, 12, 5\).*\(2, 12, 5\)"),
  ],
)
def test_what_does_not_fit_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
