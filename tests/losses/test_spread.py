"""Laws and closed forms of the losses that spread a batch out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.losses import spread

MULTIVIEW = [spread.mmcr, spread.frossl, spread.emp_ssl]


def draw(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def gradient(loss, z):
  return np.asarray(jax.jit(jax.grad(loss))(z))


def copies(z, views=3):
  return np.repeat(z[:, None], views, 1)


def test_koleo_of_orthogonal_vectors_is_the_closed_form():
  ours = spread.koleo(np.eye(6, dtype=np.float32))
  np.testing.assert_allclose(ours, -np.log(np.sqrt(2)), rtol=1e-6)


def test_koleo_of_opposite_points_is_least():
  z = np.array([[1, 2], [-1, -2]], np.float32)
  np.testing.assert_allclose(spread.koleo(z), -np.log(2), rtol=1e-6)


def test_koleo_of_duplicates_has_no_gradient():
  z = np.repeat(draw(3, 4), 2, 0)
  np.testing.assert_allclose(spread.koleo(z), -np.log(1e-8), rtol=1e-5)
  np.testing.assert_allclose(gradient(lambda z: jnp.sum(spread.koleo(z)), z), 0)


def test_a_step_along_koleo_lengthens_the_least_distance():
  z = draw(12, 3)
  unit = lambda z: z / np.linalg.norm(z, axis=1, keepdims=True)
  least = lambda z: np.min(np.linalg.norm(z[:, None] - z[None] + 9 * np.eye(12)[..., None], axis=2))
  moved = z - 0.01 * gradient(lambda z: jnp.mean(spread.koleo(z)), z)
  assert least(unit(moved)) > least(unit(z))


def test_mmcr_of_equal_orthogonal_views_is_its_bound():
  # Eight examples in four dimensions, two in each.
  z = copies(np.tile(np.eye(4, dtype=np.float32), (2, 1)))
  np.testing.assert_allclose(spread.mmcr(z), -np.sqrt(8 * 4), rtol=1e-6)


def test_mmcr_of_one_collapsed_point_is_the_root_of_the_batch():
  z = np.ones((9, 3, 4), np.float32)
  np.testing.assert_allclose(spread.mmcr(z), -np.sqrt(9), rtol=1e-6)


def test_mmcr_of_rank_one_has_gradients_inside_that_rank():
  z = np.zeros((5, 2, 3), np.float32)
  z[:, :, 0] = 1
  grad = gradient(spread.mmcr, z)
  np.testing.assert_allclose(grad, 0, atol=1e-6)  # normalising takes out what is along z


def test_frossl_of_equal_orthogonal_views_is_its_bound():
  z = copies(np.eye(4, dtype=np.float32))
  np.testing.assert_allclose(spread.frossl(z), -3 * np.log(4), rtol=1e-6)


def test_frossl_of_one_collapsed_direction_is_zero():
  z = copies(np.outer(draw(9), np.ones(4, np.float32)))
  np.testing.assert_allclose(spread.frossl(z), 0, atol=1e-5)


def test_scale_of_dimensions_does_not_matter_to_frossl():
  z, scale = draw(9, 3, 4), np.array([0.1, 1, 5, 20], np.float32)
  np.testing.assert_allclose(spread.frossl(z * scale[None, None]), spread.frossl(z), rtol=1e-5)


def test_emp_ssl_of_equal_orthogonal_views_is_the_closed_form():
  z = copies(np.eye(4, dtype=np.float32))
  rate = 4 / 2 * np.log(1 + 4 / (4 * 0.2))
  np.testing.assert_allclose(spread.emp_ssl(z), -200 - rate, rtol=1e-6)


def test_emp_ssl_prefers_spread_to_collapse():
  spread_out, collapsed = copies(np.eye(4, dtype=np.float32)), np.ones((4, 3, 4), np.float32)
  assert spread.emp_ssl(spread_out) < spread.emp_ssl(collapsed)


@pytest.mark.parametrize("loss", MULTIVIEW)
def test_the_order_of_views_does_not_matter(loss):
  z = draw(9, 4, 5)
  np.testing.assert_allclose(loss(z[:, ::-1]), loss(z), rtol=1e-5)


@pytest.mark.parametrize("loss", MULTIVIEW)
def test_turning_all_embeddings_does_not_matter_but_to_the_columns_of_frossl(loss):
  z = draw(9, 4, 5)
  turn, _ = np.linalg.qr(draw(5, 5))
  close = np.isclose(loss(z @ turn), loss(z), rtol=1e-5)
  assert close == (loss is not spread.frossl)


@pytest.mark.parametrize("loss", MULTIVIEW)
def test_views_that_are_not_stacked_are_an_error(loss):
  with pytest.raises(ValueError, match=r"\[batch, views, dim\], got \(6, 4\)"):
    loss(np.ones((6, 4)))


def test_koleo_names_a_wrong_shape():
  with pytest.raises(ValueError, match=r"\(6, 4, 2\)"):
    spread.koleo(np.ones((6, 4, 2)))
