"""SCAN: neighbours, what is pulled into one cluster, who teaches, and where a stage starts."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest

from repjax.encoders import MLP
from repjax.learners import scan, self_label, start_from

RNG = np.random.default_rng(0)
IMAGE = layouts.BATCH["image"]
WITH_NEIGHBORS = layouts.BATCH | {"neighbors": RNG.integers(0, 256, (16, 3, 8, 8, 3), np.uint8)}
ONE_NEIGHBOR = layouts.BATCH | {"neighbors": RNG.integers(0, 256, (16, 1, 8, 8, 3), np.uint8)}
SURE = 0.45  # some are, some are not
same = lambda key, image: image


def with_neighbors():
  return WITH_NEIGHBORS


def one_neighbor():
  return ONE_NEIGHBOR


def of_scan(axis):
  return scan(layouts.Tiny(), MLP((4,)), layouts.noise, axis_name=axis)


def of_self_label(axis):
  heads = layouts.Tiny(), MLP((4,))
  return self_label(*heads, same, layouts.noise, threshold=0.3, axis_name=axis)


def plain_scan(axis):
  return scan(layouts.Tiny(), MLP((4,)), same, entropy_weight=2.0, axis_name=axis)


def plain_self_label(axis):
  dark = lambda key, image: image * 0.5
  return self_label(layouts.Tiny(), MLP((4,)), same, dark, threshold=SURE, axis_name=axis)


def probabilities(params, image):
  """Of clusters, in NumPy and float64."""
  kernel, bias = (params["encoder"]["patch"][n].astype(np.float64) for n in ("kernel", "bias"))
  patches = image.astype(np.float64).reshape(-1, 2, 4, 2, 4, 3).swapaxes(2, 3)
  hidden = np.tanh(patches.reshape(len(image), 4, 48) / 255 @ kernel + bias).mean(1)
  logits = (
    hidden @ params["projector"]["dense_0"]["kernel"] + params["projector"]["dense_0"]["bias"]
  )
  raised = np.exp(logits)
  return raised / raised.sum(1, keepdims=True)


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(of_scan, layout, batch=with_neighbors)
  layouts.check_layout(of_self_label, layout)


def test_scan_pulls_an_image_to_its_neighbour_and_spreads_the_mean():
  start, _, metrics = layouts.steps(plain_scan, batch=one_neighbor, count=1)
  p = probabilities(start.params, IMAGE)
  q = probabilities(start.params, ONE_NEIGHBOR["neighbors"][:, 0])
  mean = p.mean(0)
  wanted = -np.mean(np.log(np.sum(p * q, 1))) + 2 * np.sum(mean * np.log(mean))
  np.testing.assert_allclose(metrics[0]["loss"], wanted, rtol=1e-5)


def test_self_labels_come_from_the_weak_view_and_gradients_go_through_the_strong_one():
  start, (state,), metrics = layouts.steps(plain_self_label, count=1)
  weak, strong = (probabilities(start.params, x) for x in (IMAGE, IMAGE * 0.5))
  label, sure = weak.argmax(1), weak.max(1) > SURE
  assert 0 < sure.sum() < 16
  weight = sure / np.maximum(np.bincount(label[sure], minlength=4), 1)[label]
  wanted = -np.sum(weight * np.log(strong[np.arange(16), label])) / weight.sum()
  np.testing.assert_allclose(metrics[0]["loss"], wanted, rtol=1e-5)
  # The head's bias has a gradient in closed form: had the weak view one, there would be more.
  residual = np.sum(weight[:, None] * (strong - np.eye(4)[label]), 0) / weight.sum()
  before, after = (x.params["projector"]["dense_0"]["bias"] for x in (start, state))
  np.testing.assert_allclose((before - after) / 0.1, residual, atol=1e-5)


def test_a_stage_starts_from_what_another_learned_and_refuses_what_does_not_fit():
  objective = scan(layouts.Tiny(), MLP((4,)), same)
  few = {name: x[:2] for name, x in WITH_NEIGHBORS.items()}
  init = lambda objective, seed: jax.jit(objective.init)(jax.random.key(seed), few)[0]
  params, other = init(objective, 0), init(objective, 1)
  both = init(start_from(objective, {"encoder": params["encoder"]}), 1)
  jax.tree.map(np.testing.assert_array_equal, both["encoder"], params["encoder"])
  jax.tree.map(np.testing.assert_array_equal, both["projector"], other["projector"])
  with pytest.raises(ValueError, match=r"params/encoder from \['body'\].*\['patch'\]"):
    init(start_from(objective, {"encoder": {"body": 1}}), 0)
  with pytest.raises(ValueError, match=r"bias of shape \(4,\) from shape \(3,\)"):
    init(start_from(objective, {"projector": {"dense_0": {"bias": jnp.ones(3)}}}), 0)
