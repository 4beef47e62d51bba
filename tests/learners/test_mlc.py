"""MLC: its value from the heads' outputs, memberships, and the clusters that they hold."""

import jax.numpy as jnp
import layouts
import numpy as np

from repjax.encoders import MLP
from repjax.learners import memberships, mlc, spectral_clusters

RNG = np.random.default_rng(0)
# Patches of one colour, so that features are not all alike.
COLOURS = 255 * RNG.integers(0, 2, (16, 2, 2, 3), np.uint8)
PATCHES = {"image": COLOURS.repeat(4, 1).repeat(4, 2), "label": layouts.BATCH["label"]}


def patches():
  return PATCHES


def of_mlc(axis):
  return mlc(layouts.Tiny(), MLP((4,)), MLP((4,)), layouts.noise, axis_name=axis)


def plain(axis):
  same = lambda key, image: image
  return mlc(layouts.Tiny(), MLP((4,)), MLP((4,)), same, entropy_weight=0.2, axis_name=axis)


def doubly_stochastic(z, weight, iterations):
  z = z / np.linalg.norm(z, axis=1, keepdims=True)
  pi = np.exp(z @ z.T / weight)
  for _ in range(iterations):
    pi /= pi.sum(0, keepdims=True)
    pi /= pi.sum(1, keepdims=True)
  return pi


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(of_mlc, layout)


def test_the_loss_is_the_rate_within_clusters_less_that_of_all():
  start, (state,), metrics = layouts.steps(plain, batch=patches, count=1)
  params = start.params
  pooled = layouts.Tiny().apply({"params": params["encoder"]}, PATCHES["image"] / 255).pooled
  dense = lambda p: np.asarray(pooled, np.float64) @ p["dense_0"]["kernel"] + p["dense_0"]["bias"]
  z, c = (dense(params["projector"][name]) for name in ("feature", "cluster"))
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  rate = lambda weight: np.linalg.slogdet(np.eye(4) + 4 / 0.25 * z.T @ (weight[:, None] * z))[1] / 2
  pi = doubly_stochastic(c, 0.2, 10)
  within = np.mean([row.sum() * rate(row / row.sum()) for row in pi])
  wanted = within - rate(np.full(16, 1 / 16))
  assert wanted < -0.01
  np.testing.assert_allclose(metrics[0]["loss"], wanted, rtol=1e-4)
  moved = lambda name: np.abs(
    state.params["projector"][name]["dense_0"]["kernel"]
    - params["projector"][name]["dense_0"]["kernel"]
  ).max()
  assert min(moved("feature"), moved("cluster")) > 1e-5


def test_memberships_are_those_of_sinkhorn_and_sum_to_one_both_ways():
  z = RNG.normal(size=(12, 3))
  ours = memberships(jnp.asarray(z, jnp.float32), entropy_weight=0.3)
  np.testing.assert_allclose(ours, doubly_stochastic(z, 0.3, 50), rtol=1e-4)
  np.testing.assert_allclose(ours.sum(0), 1, rtol=1e-3)


def test_spectral_clusters_are_the_blocks_of_the_memberships():
  label = RNG.permutation(np.repeat(np.arange(3), 20))
  z = np.eye(3)[label] + 0.1 * RNG.normal(size=(60, 3))
  found = spectral_clusters(memberships(jnp.asarray(z, jnp.float32)), 3, seed=0)
  assert len(set(zip(found, label, strict=True))) == 3 == len(set(found))
