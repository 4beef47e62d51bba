"""Laws of the softmax whose margin the batch sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.losses.adaptive_margin import madacos
from repjax.losses.margin_softmax import cosface


def near_centers(noise, batch=9):
  rng = np.random.default_rng(0)
  centers = rng.normal(size=(5, 8))
  labels = rng.integers(5, size=batch)
  embeddings = centers[labels] + noise * rng.normal(size=(batch, 8))
  return embeddings.astype(np.float32), labels, centers.astype(np.float32)


def own_cosines(embeddings, labels, centers):
  length = lambda x: np.linalg.norm(x, axis=-1)
  own = centers[labels]
  return np.sum(embeddings * own, -1) / (length(embeddings) * length(own))


@pytest.mark.parametrize("batch", [8, 9])
@pytest.mark.parametrize("alpha", [0.02, 0.3])
def test_the_median_example_has_probability_alpha(alpha, batch):
  arrays = near_centers(0.3, batch)
  middle = np.argsort(own_cosines(*arrays))[(batch - 1) // 2]
  loss = madacos(*arrays, alpha=alpha)
  np.testing.assert_allclose(loss[middle], -np.log(alpha), rtol=1e-4)


def test_an_example_on_its_center_has_doubt_of_a_ten_millionth():
  # At angles to the first of five orthogonal centers, and away from the others.
  angles = np.array([0, 0.5, 0.6, 0.7, 1.2])
  embeddings = np.zeros((5, 6), np.float32)
  embeddings[:, 0], embeddings[:, 5] = np.cos(angles), np.sin(angles)
  loss = madacos(embeddings, np.zeros(5, int), np.eye(5, 6, dtype=np.float32))
  np.testing.assert_allclose(loss[0], -np.log1p(-1e-7), rtol=1e-4)
  np.testing.assert_allclose(loss[2], -np.log(0.02), rtol=1e-5)


def test_early_in_training_it_is_a_softmax_of_cosines():
  rng = np.random.default_rng(1)
  embeddings, centers = rng.normal(size=(9, 8)), rng.normal(size=(50, 8))
  arrays = embeddings.astype(np.float32), np.arange(9), centers.astype(np.float32)
  np.testing.assert_allclose(madacos(*arrays), cosface(*arrays, margin=0, scale=32.0), rtol=1e-6)


def test_it_stays_finite_where_the_whole_batch_lies_on_its_centers():
  _, _, centers = near_centers(0)
  total = lambda *floats: jnp.sum(madacos(floats[0], np.arange(5), floats[1]))
  value, grads = jax.value_and_grad(total, (0, 1))(centers, centers)
  assert np.isfinite(value)
  assert all(np.isfinite(grad).all() for grad in grads)


def test_alpha_is_a_probability():
  with pytest.raises(ValueError, match="alpha=2 is no probability"):
    madacos(*near_centers(0.1), alpha=2)
