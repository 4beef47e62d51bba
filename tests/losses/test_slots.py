"""Laws and closed forms of the losses over groups of pixels."""

import jax.numpy as jnp
import numpy as np
import pytest

from repjax.losses.contrastive import info_nce
from repjax.losses.self_distillation import ibot
from repjax.losses.slots import group_pixels, slot_info_nce, slotcon


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


ALL = np.ones((5, 4), bool)
SCORES, TEACHER = np.tanh(normal(2, 5, 9, 4))
QUERY, KEY = normal(2, 5, 4, 6, seed=1)
QUERY_WINS, KEY_WINS = np.random.default_rng(2).uniform(size=(2, 5, 4)) < 0.6
CENTER = 0.1 * normal(4, seed=3)


def test_slots_of_equal_pixels_are_that_pixel():
  pixel = normal(6)
  slots, _, wins = group_pixels(np.broadcast_to(pixel, (2, 9, 6)), normal(4, 6, seed=1))
  np.testing.assert_allclose(slots, np.broadcast_to(pixel, (2, 4, 6)), rtol=1e-5)
  np.testing.assert_array_equal(wins.sum(1), 1)


def test_pixels_on_prototypes_are_grouped_by_them():
  prototypes, owner = np.eye(4, 6, dtype=np.float32), np.array([[0, 0, 1, 3, 1, 0]])
  length = np.abs(normal(1, 6, 1)) + 1
  features = length * prototypes[owner]
  slots, _, wins = group_pixels(features, prototypes, temperature=0.01)
  np.testing.assert_array_equal(wins, [[True, True, False, True]])
  for k in (0, 1, 3):
    np.testing.assert_allclose(slots[0, k], features[owner == k].mean(0), rtol=1e-4, atol=1e-4)


def test_where_all_slots_win_slot_info_nce_is_info_nce_of_slots():
  flat = lambda x: x.reshape(20, 6)
  wanted = 0.4 * jnp.mean(info_nce(flat(QUERY), flat(KEY), temperature=0.2))
  np.testing.assert_allclose(slot_info_nce(QUERY, KEY, ALL, ALL), wanted, rtol=1e-5)


def test_slots_that_win_nothing_do_not_matter():
  wins = QUERY_WINS, KEY_WINS
  moved = np.where(KEY_WINS[..., None], KEY, 7)
  wanted = slot_info_nce(QUERY, KEY, *wins)
  np.testing.assert_array_equal(slot_info_nce(QUERY, moved, *wins), wanted)
  moved = np.where((QUERY_WINS & KEY_WINS)[..., None], QUERY, 7)
  np.testing.assert_array_equal(slot_info_nce(moved, KEY, *wins), wanted)


def test_no_slot_that_wins_in_both_views_costs_nothing():
  assert slot_info_nce(QUERY, KEY, QUERY_WINS, ~QUERY_WINS) == 0
  assert slot_info_nce(QUERY, KEY, ~ALL, ~ALL) == 0


def test_slotcon_is_the_weighted_sum_of_its_terms():
  arrays = SCORES, TEACHER, CENTER, QUERY, KEY, QUERY_WINS, KEY_WINS
  everywhere = np.ones((5, 9), bool)
  grouping = jnp.mean(ibot(SCORES, TEACHER, everywhere, CENTER, teacher_temperature=0.07))
  contrast = slot_info_nce(QUERY, KEY, QUERY_WINS, KEY_WINS)
  for weight in (0.0, 0.3, 1.0):
    ours = slotcon(*arrays, group_weight=weight)
    np.testing.assert_allclose(ours, weight * grouping + (1 - weight) * contrast, rtol=1e-5)


@pytest.mark.parametrize(
  ("loss", "arrays", "message"),
  [
    (group_pixels, (normal(5, 9, 6), normal(4, 5)), r"\(5, 9, 6\).*\(4, 5\)"),
    (slot_info_nce, (QUERY, KEY[:, :3], ALL, ALL), r"\(5, 4, 6\).*\(5, 3, 6\)"),
    (slot_info_nce, (QUERY, KEY, ALL, ALL[:3]), r"key_wins of shape \(5, 4\), got \(3, 4\)"),
  ],
)
def test_mismatched_arrays_name_their_shapes(loss, arrays, message):
  with pytest.raises(ValueError, match=message):
    loss(*arrays)
