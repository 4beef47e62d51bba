"""Laws of drawing some of the classes and some of the dimensions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.losses.class_sampling import sample_classes, sample_dimensions
from repjax.losses.margin_softmax import arcface, sub_center_arcface

KEY = jax.random.key(0)


def draw(batch=6, dim=5, classes=40):
  rng = np.random.default_rng(0)
  embeddings, centers = rng.normal(size=(batch, dim)), rng.normal(size=(classes, dim))
  return (
    embeddings.astype(np.float32),
    rng.integers(classes, size=batch),
    centers.astype(np.float32),
  )


def test_all_classes_are_the_loss_over_all_classes():
  embeddings, labels, centers = draw()
  some_labels, some, kept = sample_classes(KEY, labels, centers, count=40)
  np.testing.assert_array_equal(kept, np.arange(40))
  ours = arcface(embeddings, some_labels, some)
  np.testing.assert_array_equal(ours, arcface(embeddings, labels, centers))


@pytest.mark.parametrize("count", [6, 13, 39])
def test_each_example_keeps_its_class(count):
  _, labels, centers = draw()
  for seed in range(20):
    places, some, kept = sample_classes(jax.random.key(seed), labels, centers, count=count)
    np.testing.assert_array_equal(kept[places], labels)
    np.testing.assert_array_equal(some, centers[kept])
    assert (np.diff(kept) > 0).all(), "a class was drawn twice"


def test_the_others_are_drawn_evenly():
  centers, labels = np.zeros((12, 1)), np.array([3, 3, 8])
  sample = lambda key: sample_classes(key, labels, centers, count=7)[2]
  kept = jax.vmap(sample)(jax.random.split(KEY, 4000))
  often = np.bincount(kept.ravel(), minlength=12) / 4000
  np.testing.assert_array_equal(often[[3, 8]], 1)
  others = np.delete(often, [3, 8])
  np.testing.assert_allclose(others, 5 / 10, atol=4 * 0.5 / np.sqrt(4000))


def test_classes_that_were_not_drawn_have_no_gradient():
  embeddings, labels, centers = draw()

  def total(centers):
    places, some, kept = sample_classes(KEY, labels, centers, count=15)
    return jnp.sum(arcface(embeddings, places, some, scale=4.0)), kept

  grad, kept = jax.jit(jax.grad(total, has_aux=True))(centers)
  np.testing.assert_array_equal(np.flatnonzero(np.abs(grad).sum(1)), kept)


def test_labels_that_name_no_class_go_on_naming_none():
  embeddings, labels, centers = draw()
  labels[:2] = -1, 40
  places, some, _ = sample_classes(KEY, labels, centers, count=20)
  assert places[0] == -1
  loss = arcface(embeddings, places, some)
  np.testing.assert_array_equal(np.isnan(loss), np.arange(6) == 1)
  assert loss[0] == 0


def test_several_centers_of_a_class_stay_together():
  embeddings, labels, centers = draw()
  several = centers.reshape(20, 2, 5)
  places, some, kept = sample_classes(KEY, labels % 20, several, count=20)
  np.testing.assert_array_equal(kept, np.arange(20))
  wanted = sub_center_arcface(embeddings, labels % 20, several)
  np.testing.assert_array_equal(sub_center_arcface(embeddings, places, some), wanted)


@pytest.mark.parametrize("count", [5, 41])
def test_classes_that_may_not_fit_are_an_error(count):
  _, labels, centers = draw()
  with pytest.raises(ValueError, match=rf"count={count} of 40 classes for a batch of 6; choose"):
    sample_classes(KEY, labels, centers, count=count)


def test_embeddings_and_centers_keep_the_same_dimensions():
  both = np.arange(7.0)[None]
  embeddings, centers = sample_dimensions(KEY, both, both, count=4)
  np.testing.assert_array_equal(embeddings, centers)
  assert len(np.unique(embeddings)) == 4


def test_all_dimensions_are_as_they_were():
  embeddings, _, centers = draw()
  ours = sample_dimensions(KEY, embeddings, centers, count=5)
  for x, y in zip(ours, (embeddings, centers), strict=True):
    np.testing.assert_array_equal(x, y)


def test_dimensions_that_are_not_there_are_an_error():
  embeddings, _, centers = draw()
  with pytest.raises(ValueError, match="count=6 of 5 dimensions"):
    sample_dimensions(KEY, embeddings, centers, count=6)
  with pytest.raises(ValueError, match=r"\(6, 5\).*\(40, 4\)"):
    sample_dimensions(KEY, embeddings, centers[:, :4], count=2)
