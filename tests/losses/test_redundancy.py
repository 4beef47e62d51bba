"""Laws and closed forms of the losses that keep dimensions in use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.losses import redundancy

# Every combination of signs: mean 0, variance 1 and no covariance.
CUBE = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1).T.astype(np.float32)


def views(rows=13, dim=4):
  return np.random.default_rng(0).normal(size=(2, rows, dim)).astype(np.float32)


def test_barlow_twins_is_least_at_equal_views_without_covariance():
  np.testing.assert_allclose(redundancy.barlow_twins(CUBE, CUBE), 0, atol=1e-8)


def test_barlow_twins_of_copied_dimensions_is_the_closed_form():
  z = np.repeat(CUBE[:, :1], 4, 1)
  loss = redundancy.barlow_twins(z, z, redundancy_weight=0.5, eps=0.0)
  np.testing.assert_allclose(loss, 0.5 * 4 * 3, rtol=1e-6)  # every correlation is 1


def test_barlow_twins_of_one_collapsed_point_is_the_number_of_dimensions():
  z = np.ones((8, 4), np.float32)
  np.testing.assert_allclose(redundancy.barlow_twins(z, z), 4)


@pytest.mark.parametrize("loss", [redundancy.barlow_twins, redundancy.w_mse])
def test_scale_and_shift_of_dimensions_do_not_matter(loss):
  z_1, z_2 = views()
  scale, shift = np.array([[1, 10, 0.5, 3]], np.float32), np.array([[0, 5, -1, 2]], np.float32)
  moved = loss(scale * z_1 + shift, scale * z_2 + shift, eps=0.0)
  np.testing.assert_allclose(moved, loss(z_1, z_2, eps=0.0), rtol=1e-4, atol=1e-4)


def test_whitened_views_have_no_covariance():
  z = views(rows=40)[0]
  w = redundancy._whitened(z, 0.0, None, None)
  np.testing.assert_allclose(np.cov(w.T), np.eye(4), atol=1e-4)


def test_w_mse_in_parts_is_a_map_over_them():
  z_1, z_2 = (z.reshape(3, 8, 4) for z in views(rows=24))
  parts = jax.vmap(redundancy.w_mse)(z_1, z_2)
  alone = [redundancy.w_mse(x, y) for x, y in zip(z_1, z_2, strict=True)]
  np.testing.assert_allclose(parts, np.stack(alone), rtol=1e-4, atol=1e-5)


def test_w_mse_is_finite_with_more_dimensions_than_rows():
  z_1, z_2 = views(rows=5, dim=32)
  loss = lambda z: jnp.sum(redundancy.w_mse(100 * z, z_2, eps=0.0))
  value, grad = jax.jit(jax.value_and_grad(loss))(z_1)
  assert np.isfinite(value) and np.isfinite(grad).all()


def test_w_mse_of_equal_views_is_zero():
  z = views()[0]
  np.testing.assert_allclose(redundancy.w_mse(z, z), 0, atol=1e-5)


def test_covariance_of_tico_is_a_moving_average():
  batches = np.random.default_rng(0).normal(size=(3, 8, 4)).astype(np.float32)
  covariance, wanted = np.zeros((4, 4), np.float32), 0
  for z in batches:
    _, covariance = redundancy.tico(z, z, covariance, decay=0.7)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    wanted = 0.7 * wanted + 0.3 * unit.T @ unit / 8
  np.testing.assert_allclose(covariance, wanted, rtol=1e-5, atol=1e-6)


def test_tico_without_contrast_is_the_cosine():
  z_1, z_2 = views()
  loss, _ = redundancy.tico(z_1, z_2, np.zeros((4, 4), np.float32), contrast_weight=0.0)
  unit = lambda z: z / np.linalg.norm(z, axis=1, keepdims=True)
  np.testing.assert_allclose(loss, 1 - np.sum(unit(z_1) * unit(z_2), 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [redundancy.barlow_twins, redundancy.w_mse])
def test_views_may_be_swapped(loss):
  z_1, z_2 = views()
  np.testing.assert_allclose(loss(z_1, z_2), loss(z_2, z_1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", [redundancy.barlow_twins, redundancy.w_mse])
def test_mismatched_views_name_both_shapes(loss):
  with pytest.raises(ValueError, match=r"\(3, 2\).*\(3, 4\)"):
    loss(np.ones((3, 2)), np.ones((3, 4)))


def test_a_covariance_of_other_dimensions_is_named():
  with pytest.raises(ValueError, match=r"\(3, 3\), of views with 2 dimensions"):
    redundancy.tico(np.ones((3, 2)), np.ones((3, 2)), np.ones((3, 3)))
