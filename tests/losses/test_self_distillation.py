"""Laws and closed forms of self-distillation, and errors that name shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from libraries import answers, check_answer

from repjax.losses.assignments import sinkhorn
from repjax.losses.prototypes import swav
from repjax.losses.self_distillation import dino, dinov2, ibot, update_center


def moved(weights, center, teacher, mask=None):
  return jnp.sum(weights * update_center(center, teacher, momentum=0.8, where=mask))


# What lightly takes, by the name of the answer.
SAME_AS = {
  "dino_lightly": lambda **x: jnp.mean(dino(**x, teacher_temperature=0.07)),
  "ibot_lightly": lambda **x: jnp.mean(ibot(**x)),
  "update_center_lightly": moved,
  "update_patch_center_lightly": moved,
}
NAMES = [name for name in answers("prototype") if name.rpartition("_")[0] in SAME_AS]


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("answer", NAMES)
def test_loss_equals_lightly(answer):
  check_answer("prototype", answer, SAME_AS[answer.rpartition("_")[0]])


def test_dino_is_the_swapped_prediction_of_the_centred_teacher():
  student, teacher, center = normal(4, 5, 7), normal(2, 5, 7, seed=1), normal(7, seed=2)
  assignments = jax.nn.softmax((teacher - center[None, None]) / 0.04)
  np.testing.assert_allclose(dino(student, teacher, center), swav(student, assignments), rtol=1e-6)


def test_what_the_centre_shares_with_the_teacher_cancels():
  student, teacher, center = normal(4, 5, 7), normal(2, 5, 7, seed=1), normal(7, seed=2)
  shift = normal(7, seed=3)
  ours = dino(student, teacher + shift[None, None], center + shift)
  np.testing.assert_allclose(ours, dino(student, teacher, center), rtol=1e-4)


def test_order_of_local_crops_does_not_matter():
  student, teacher, center = normal(5, 6, 7), normal(2, 6, 7, seed=1), normal(7, seed=2)
  ours = dino(student[np.array([0, 1, 4, 2, 3])], teacher, center)
  np.testing.assert_allclose(ours, dino(student, teacher, center), rtol=1e-5)


def test_visible_patches_do_not_matter():
  student, teacher, center = normal(5, 6, 7), normal(5, 6, 7, seed=1), normal(7, seed=2)
  mask = np.random.default_rng(3).uniform(size=(5, 6)) < 0.5
  ours = ibot(*(np.where(mask[..., None], x, 9) for x in (student, teacher)), mask, center)
  np.testing.assert_array_equal(ours, ibot(student, teacher, mask, center))


def test_the_centre_stays_where_nothing_takes_part():
  center, teacher = normal(7), normal(2, 5, 7, seed=1)
  np.testing.assert_array_equal(update_center(center, teacher, where=np.zeros(5, bool)), center)


def test_a_centre_without_memory_is_the_mean():
  teacher = normal(2, 5, 7)
  ours = update_center(np.zeros(7), teacher, momentum=0.0)
  np.testing.assert_allclose(ours, teacher.mean((0, 1)), rtol=1e-5, atol=1e-6)


def test_dinov2_without_patches_and_spread_is_swav():
  student, teacher = normal(4, 5, 7), normal(2, 5, 7, seed=1)
  assignments = sinkhorn(teacher.reshape(10, 7), epsilon=0.07).reshape(2, 5, 7)
  patches, mask = normal(2, 5, 3, 6, seed=2), np.ones((2, 5, 3), bool)
  weights = {"ibot_weight": 0.0, "koleo_weight": 0.0}
  embeddings = normal(2, 5, 4, seed=3)
  ours = dinov2(student, assignments, patches, jax.nn.softmax(patches), mask, embeddings, **weights)
  np.testing.assert_allclose(ours, swav(student, assignments), rtol=1e-6)


def test_patches_of_dinov2_are_the_mean_of_ibot_over_crops():
  student, assignments = normal(4, 5, 7), jax.nn.softmax(normal(2, 5, 7, seed=1))
  patches, teacher = normal(2, 2, 5, 3, 6, seed=2)
  mask = np.random.default_rng(3).uniform(size=(2, 5, 3)) < 0.5
  weights = {"dino_weight": 0.0, "koleo_weight": 0.0}
  targets = jax.nn.softmax(teacher / 0.04)
  ours = dinov2(student, assignments, patches, targets, mask, normal(2, 5, 4), **weights)
  wanted = [
    ibot(*crop, np.zeros(6, np.float32)) for crop in zip(patches, teacher, mask, strict=True)
  ]
  np.testing.assert_allclose(ours, np.mean(wanted, 0), rtol=1e-5)


@pytest.mark.parametrize(
  ("loss", "shapes", "message"),
  [
    (dino, [(4, 5, 7), (2, 5, 6), (7,)], r"\(4, 5, 7\).*\(2, 5, 6\)"),
    (dino, [(4, 5, 7), (2, 5, 7), (1, 7)], r"\(1, 7\).*\(2, 5, 7\)"),
    (dino, [(1, 5, 7), (1, 5, 7), (7,)], "there is one view alone"),
    (ibot, [(5, 6, 7), (5, 5, 7), (5, 6), (7,)], r"\(5, 6, 7\).*\(5, 5, 7\)"),
    (ibot, [(5, 6, 7), (5, 6, 7), (5, 4), (7,)], r"mask of shape \(5, 6\), got \(5, 4\)"),
    (update_center, [(6,), (2, 5, 7)], r"\(6,\).*\(2, 5, 7\)"),
    (
      dinov2,
      [(4, 5, 7), (2, 5, 7), (2, 4, 3, 6), (2, 4, 3, 6), (2, 4, 3), (2, 5, 8)],
      r"\(2, 5, 7\).*\(2, 4, 3, 6\).*\(2, 5, 8\)",
    ),
  ],
)
def test_mismatched_arrays_name_their_shapes(loss, shapes, message):
  with pytest.raises(ValueError, match=message):
    loss(*map(np.ones, shapes))
