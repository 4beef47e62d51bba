"""DEPICT: targets of the clean pass, layers rebuilt, a head that starts as k-means."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest
from sklearn.cluster import KMeans

from repjax.encoders import Autoencoder
from repjax.learners import centroid_head, depict

RNG = np.random.default_rng(0)
NET = Autoencoder(dim=4, channels=3, widths=(3, 2), kernel=3)


def of_depict(axis):
  return depict(NET, 5, dropout=0.3, axis_name=axis)


def without_noise(axis):
  return depict(NET, 5, dropout=0.0, layer_weight=0.3, axis_name=axis)


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(of_depict, layout)


def test_the_loss_is_cross_entropy_with_balanced_targets_and_the_error_of_each_layer():
  start, (state,), metrics = layouts.steps(without_noise, count=1)
  image = layouts.BATCH["image"] / np.float32(255)
  variables = {"params": start.params["autoencoder"]}
  features, rebuilt = NET.apply(variables, image, decode=True)
  head = start.params["head"]
  logits = np.asarray(features.pooled, np.float64) @ head["kernel"] + head["bias"]
  p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  q = p / np.sqrt(p.sum(0, keepdims=True))
  q /= q.sum(1, keepdims=True)
  errors = [np.mean((x - y) ** 2) for x, y in zip((image, *features.layers), rebuilt, strict=True)]
  wanted = -np.mean(np.sum(q * np.log(p), 1)) + errors[0] + 0.3 * (errors[1] + errors[2])
  np.testing.assert_allclose(metrics[0]["loss"], wanted, rtol=1e-5)
  # No gradient reaches the targets: that of the head's bias is p - q and nothing else.
  gradient = (head["bias"] - state.params["head"]["bias"]) / 0.1
  np.testing.assert_allclose(gradient, np.mean(p - q, 0), atol=1e-5)


def test_only_the_noisy_pass_is_disturbed():
  seen = {}

  def remember(layer, x):
    seen[layer] = x
    return jnp.zeros_like(x)

  image = jnp.asarray(layouts.BATCH["image"][:2] / np.float32(255))
  variables = jax.jit(NET.init)(jax.random.key(0), image)
  features, rebuilt = NET.apply(variables, image, decode=True, disturb=remember)
  np.testing.assert_array_equal(seen[0], image)
  assert sorted(seen) == [0, 1, 2]
  # Nothing comes through: all examples have one code.
  np.testing.assert_array_equal(features.pooled[0], features.pooled[1])
  assert [x.shape for x in rebuilt] == [x.shape for x in (image, *features.layers)]
  with pytest.raises(ValueError, match=r"sides \(6, 8\) cannot be halved 2 times"):
    NET.apply(variables, jnp.ones((1, 6, 8, 3)))


def test_a_head_of_centroids_says_what_kmeans_says():
  codes = RNG.normal(size=(200, 4)).astype(np.float32)
  found = KMeans(5, n_init=1, random_state=0).fit(codes)
  head = centroid_head(found.cluster_centers_)
  said = np.argmax(codes @ head["kernel"] + head["bias"], 1)
  np.testing.assert_array_equal(said, found.labels_)
