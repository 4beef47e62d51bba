"""Answers of lightly, known minima and closed forms of alignment, uniformity and moments."""

import jax.numpy as jnp
import numpy as np
import pytest
from libraries import answers, check_answer

from repjax.losses import sphere


def hypersphere(z_1, z_2):
  spread = sphere.uniformity(z_1) + sphere.uniformity(z_2)
  return jnp.mean(sphere.alignment(z_1, z_2)) + 3 * spread / 2


SAME_AS = {
  "alignment": lambda z_1, z_2: jnp.mean(sphere.alignment(z_1, z_2, alpha=1.5)),
  "hypersphere": hypersphere,
}


@pytest.mark.parametrize("answer", answers("sphere"))
def test_loss_equals_another_library(answer):
  check_answer("sphere", answer, SAME_AS[answer.rpartition("_")[0]])


def test_alignment_of_equal_views_is_zero_and_of_opposite_ones_the_most():
  z = np.random.default_rng(0).normal(size=(11, 6)).astype(np.float32)
  np.testing.assert_allclose(sphere.alignment(z, z), 0, atol=1e-6)
  np.testing.assert_allclose(sphere.alignment(z, -z, alpha=3.0), 8, rtol=1e-5)


def test_uniformity_of_orthogonal_points_is_the_closed_form():
  np.testing.assert_allclose(sphere.uniformity(np.eye(16, dtype=np.float32)), -4, rtol=1e-6)


def test_uniformity_of_one_collapsed_point_is_zero():
  np.testing.assert_allclose(sphere.uniformity(np.ones((16, 8), np.float32)), 0, atol=1e-5)


def test_uniformity_of_far_points_does_not_underflow():
  z = 20 * np.eye(8, dtype=np.float32)
  np.testing.assert_allclose(sphere.uniformity(z, normalize=False), -1600, rtol=1e-6)


def test_joint_entropy_is_largest_where_one_code_does_not_follow_the_other():
  common = np.repeat(np.eye(4, dtype=np.float32), 4, 0)
  follows, own = 2 * common, 2 * np.tile(np.eye(4, dtype=np.float32), (4, 1))
  assert np.mean(sphere.joint_entropy(common, own)) < np.mean(sphere.joint_entropy(common, follows))


def test_joint_entropy_of_far_points_is_the_log_of_their_number():
  far = 100 * np.eye(16, dtype=np.float32)
  np.testing.assert_allclose(sphere.joint_entropy(far, far), -np.log(16), rtol=1e-6)


def test_spectral_contrastive_is_least_for_orthonormal_partners():
  z = np.eye(8, dtype=np.float32)
  np.testing.assert_allclose(sphere.spectral_contrastive(z, z), -2, rtol=1e-6)


def test_mu_shortens_long_vectors_alone():
  z_1, z_2 = np.random.default_rng(0).normal(size=(2, 11, 6)).astype(np.float32)
  lengths = np.linalg.norm(z_1, axis=1, keepdims=True)
  long = z_1 / lengths * np.maximum(lengths, 5)
  ours = sphere.spectral_contrastive(long, z_2 / 10, mu=4.0)
  wanted = sphere.spectral_contrastive(2 * z_1 / lengths, z_2 / 10) / 4
  np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
  "loss", [sphere.alignment, sphere.spectral_contrastive, sphere.joint_entropy]
)
def test_mismatched_views_name_both_shapes(loss):
  with pytest.raises(ValueError, match=r"\(16, 8\).*\(12, 8\)"):
    loss(np.zeros((16, 8)), np.zeros((12, 8)))
