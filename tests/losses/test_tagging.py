"""Laws of tag losses: limits, what costs nothing, errors that name shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.losses import tagging

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(5, 9)).astype(np.float32)
LABELS = RNG.integers(2, size=(5, 9))


def value_and_grad(logits, labels, **options):
  total = lambda logits: jnp.sum(tagging.asymmetric_multi_label(logits, labels, **options))
  return jax.value_and_grad(total)(logits)


def test_without_focus_and_clip_it_is_binary_cross_entropy():
  options = {"gamma_positive": 0.0, "gamma_negative": 0.0, "clip": 0.0}
  ours = tagging.asymmetric_multi_label(LOGITS, LABELS, **options)
  wanted = np.sum(np.log1p(np.exp(np.where(LABELS, -LOGITS, LOGITS))), 1)
  np.testing.assert_allclose(ours, wanted, rtol=1e-5)


def test_a_negative_that_is_surely_absent_costs_nothing():
  value, grad = value_and_grad(np.full((5, 9), np.log(0.049 / 0.951)), np.zeros((5, 9), int))
  assert value == 0 and (grad == 0).all()


def test_an_unknown_tag_costs_nothing():
  labels = np.where(np.arange(9) % 2, LABELS, -1)
  value, grad = value_and_grad(LOGITS, labels)
  wanted, wanted_grad = value_and_grad(LOGITS[:, 1::2], LABELS[:, 1::2])
  np.testing.assert_allclose(value, wanted, rtol=1e-6)
  np.testing.assert_allclose(grad[:, 1::2], wanted_grad, rtol=1e-6)
  assert (grad[:, ::2] == 0).all()


@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 4.0])
def test_sure_mistakes_have_finite_gradients(gamma, clip):
  options = {"gamma_positive": gamma, "gamma_negative": gamma, "clip": clip}
  for sign in (-1, 1):
    _, grad = value_and_grad(sign * np.full((5, 9), 1e3, np.float32), LABELS, **options)
    assert np.isfinite(grad).all()


def test_mismatched_tags_are_named():
  with pytest.raises(ValueError, match=r"\(5, 9\).*\(5, 4\)"):
    tagging.asymmetric_multi_label(LOGITS, LABELS[:, :4])
