"""Answers of lightly to losses without negatives, and laws of the siamese ones."""

import jax.numpy as jnp
import numpy as np
import pytest
from libraries import answers, check_answer

from repjax.losses import isotropic, redundancy, siamese, spread, variance


def along(directions):
  """Columns to rows of unit length."""
  return (directions / jnp.linalg.norm(directions, axis=0, keepdims=True)).T


def sigreg(z, directions):
  return jnp.mean(isotropic.epps_pulley(z @ along(directions).T))


def of_lejepa(z, directions):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(isotropic, "_directions", lambda *_: along(directions))
    return isotropic.lejepa(z, None, sigreg_weight=0.2, global_views=2)


# What lightly takes the mean of, by the name of the answer.
SAME_AS = {
  "cosine": lambda z_1, z_2: siamese.simsiam(z_1, z_2),
  "barlow_twins": lambda z_1, z_2: redundancy.barlow_twins(z_1, z_2, redundancy_weight=0.01),
  "vicreg": lambda z_1, z_2: variance.vicreg(z_1, z_2, covariance_weight=2.0),
  "vicregl": lambda **views: variance.vicregl(**views, alpha=0.6, num_matches=(3, 2)),
  "w_mse": lambda z_1, z_2: redundancy.w_mse(z_1, z_2, eps=0.01),
  "tico": lambda **views: redundancy.tico(**views, decay=0.8, contrast_weight=5.0)[0],
  "koleo": lambda z: spread.koleo(z, eps=1e-12),
  "mmcr": lambda z: spread.mmcr(z, local_weight=0.3),
  "frossl": lambda z: spread.frossl(z, invariance_weight=2.0),
  "emp_ssl": spread.emp_ssl,
  "sigreg": sigreg,
  "lejepa": of_lejepa,
}


@pytest.mark.parametrize("answer", answers("siamese"))
def test_loss_equals_lightly(answer):
  loss = SAME_AS[answer.partition("_lightly")[0]]
  check_answer("siamese", answer, lambda **arrays: jnp.mean(loss(**arrays)))


def test_byol_is_simsiam_on_another_scale():
  prediction, target = np.random.default_rng(0).normal(size=(2, 7, 5)).astype(np.float32)
  ours = siamese.byol(prediction, target)
  np.testing.assert_allclose(ours, 2 + 2 * siamese.simsiam(prediction, target), rtol=1e-6)


def test_agreement_is_the_least_and_opposition_the_most():
  z = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
  np.testing.assert_allclose(siamese.byol(z, 3 * z), 0, atol=1e-6)
  np.testing.assert_allclose(siamese.byol(z, -z), 4, rtol=1e-6)


@pytest.mark.parametrize("loss", [siamese.byol, siamese.simsiam])
def test_lengths_do_not_matter(loss):
  rng = np.random.default_rng(0)
  prediction, target = rng.normal(size=(2, 7, 5)).astype(np.float32)
  lengths = 10 ** rng.uniform(-3, 3, (2, 7, 1)).astype(np.float32)
  scaled = loss(prediction * lengths[0], target * lengths[1])
  np.testing.assert_allclose(scaled, loss(prediction, target), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [siamese.byol, siamese.simsiam])
def test_mismatched_shapes_are_named(loss):
  with pytest.raises(ValueError, match=r"\(3, 2\).*\(3, 4\)"):
    loss(np.ones((3, 2)), np.ones((3, 4)))
