"""Laws and closed forms of the losses whose classes are clusters, and errors that name shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from definitions.clustering import rows, softmax
from libraries import answers, check_answer

from repjax.losses.clustering import deepcluster, depict_targets, elr, elr_targets, scan, self_label

NAMES = [name for name in answers("prototype") if name.startswith("deepcluster")]


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("answer", NAMES)
def test_deepcluster_equals_the_cross_entropy_of_torch(answer):
  check_answer("prototype", answer, lambda **x: jnp.mean(deepcluster(**x)))


def test_deepcluster_on_the_centroids_is_the_closed_form():
  z = np.eye(6, dtype=np.float32)
  ours = deepcluster(7 * z, 3 * z, np.arange(6), temperature=0.5)
  np.testing.assert_allclose(ours, np.log1p(5 * np.exp(-2)), rtol=1e-6)


def test_scan_is_least_for_certain_and_balanced_clusters_that_neighbours_share():
  logits = 50 * np.tile(np.eye(4, dtype=np.float32), (3, 1))
  np.testing.assert_allclose(scan(logits, logits), -5 * np.log(4), rtol=1e-6)


def test_scan_of_one_cluster_for_all_gains_no_entropy():
  logits = 50 * np.eye(4, dtype=np.float32)[np.zeros(12, int)]
  np.testing.assert_allclose(scan(logits, logits), 0, atol=1e-6)


def test_scan_without_preference_is_the_closed_form():
  wanted = np.log(4) - 5 * np.log(4)
  np.testing.assert_allclose(scan(np.ones((12, 4)), np.ones((12, 4))), wanted, rtol=1e-6)


def test_only_confident_images_are_labelled():
  weak, strong = 3 * normal(20, 4), normal(20, 4, seed=1)
  confident = rows(softmax, weak).max(1) > 0.9
  grad = jax.grad(lambda x: self_label(weak, x, threshold=0.9))(strong)
  np.testing.assert_array_equal(np.any(grad, 1), confident)


def test_balanced_self_labels_forget_how_often_a_cluster_occurs():
  weak, strong = 9 * np.eye(4, dtype=np.float32), normal(4, 4)
  repeats = np.repeat(np.arange(4), [1, 5, 2, 3])
  ours = self_label(weak[repeats], strong[repeats])
  np.testing.assert_allclose(ours, self_label(weak, strong), rtol=1e-5)
  assert abs(self_label(weak[repeats], strong[repeats], balance=False) - ours) > 0.01


def test_no_confident_image_costs_nothing():
  assert self_label(np.zeros((20, 4)), normal(20, 4)) == 0


def test_targets_of_depict_are_the_predictions_where_clusters_are_equally_frequent():
  logits = normal(1, 5)[0]
  rolled = np.stack([np.roll(logits, k) for k in range(5)])
  np.testing.assert_allclose(depict_targets(rolled), rows(softmax, rolled), rtol=1e-5)


def test_targets_of_equal_predictions_are_their_square_roots():
  """There DEPICT's objective is KL(q, p) - H(q), of which they are the minimum."""
  p = np.array([0.64, 0.25, 0.09, 0.02])
  ours = depict_targets(np.log(np.tile(p, (5, 1))).astype(np.float32))
  np.testing.assert_allclose(ours, np.tile(np.sqrt(p) / np.sqrt(p).sum(), (5, 1)), rtol=1e-5)


def test_rare_clusters_gain_in_targets_of_depict():
  logits = normal(50, 4) + np.array([2, 0, 0, -2], np.float32)
  p = rows(softmax, logits)
  share = np.mean(depict_targets(logits), 0)
  assert share[3] > p.mean(0)[3] and share[0] < p.mean(0)[0]


def test_elr_without_a_past_is_zero():
  np.testing.assert_array_equal(elr(normal(5, 4), np.zeros((5, 4))), 0)


def test_elr_pulls_predictions_to_their_targets():
  logits, targets = np.zeros((1, 3), np.float32), np.array([[0.1, 0.7, 0.2]], np.float32)
  step = -jax.grad(lambda x: elr(x, targets)[0])(logits)
  assert step.argmax() == 1 and step.argmin() == 0


def test_targets_of_elr_come_to_rest_at_the_predictions():
  logits, targets = normal(5, 4), np.zeros((5, 4))
  for _ in range(60):
    targets = elr_targets(targets, logits)
  np.testing.assert_allclose(targets, rows(softmax, logits), rtol=1e-5)


@pytest.mark.parametrize(
  ("loss", "shapes", "message"),
  [
    (deepcluster, [(5, 7), (4, 6), (5,)], r"\(5, 7\).*\(4, 6\).*\(5,\)"),
    (deepcluster, [(5, 7), (4, 7), (6,)], r"\(5, 7\).*\(4, 7\).*\(6,\)"),
    (scan, [(5, 7), (5, 6)], r"\(5, 7\).*\(5, 6\)"),
    (self_label, [(5, 7), (4, 7)], r"\(5, 7\).*\(4, 7\)"),
    (depict_targets, [(5,)], r"\(5,\)"),
    (elr, [(5, 7), (5, 6)], r"\(5, 7\).*\(5, 6\)"),
    (elr_targets, [(5, 7), (5, 6)], r"\(5, 7\).*\(5, 6\)"),
  ],
)
def test_mismatched_arrays_name_their_shapes(loss, shapes, message):
  with pytest.raises(ValueError, match=message):
    loss(*map(np.ones, shapes))
