"""MIST: the pinball loss of what it drew, ranks alone, and orders that do not matter."""

import functools

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest
from scipy import stats

from repjax.encoders import SetTransformer
from repjax.learners import Joint, mist, normal_scores

RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("unoptimized")


def draw(key):
  """A normal pair beside a coordinate that is not there."""
  k_rho, k_x, k_y = jax.random.split(key, 3)
  rho = jax.random.uniform(k_rho, maxval=0.9)
  x, noise = jax.random.normal(k_x, (12,)), jax.random.normal(k_y, (12,))
  y = rho * x + jnp.sqrt(1 - rho**2) * noise
  values = jnp.stack([x, jnp.zeros(12), y], 1)
  return Joint(values, jnp.array([0, -1, 1]), -jnp.log(1 - rho**2) / 2)


@functools.cache
def learner(axis=None):
  coordinates = SetTransformer(8, 1, 2, points=0, pooled_depth=0)
  points = SetTransformer(8, 1, 2, points=2, pooled_depth=0)
  return mist(coordinates, points, draw, hidden=(8,), asked=3, axis_name=axis)


@functools.cache
def answers():
  objective = learner()
  params, extra = jax.jit(objective.init)(jax.random.key(0), {"row": np.zeros(1)})
  return jax.jit(lambda joint: objective.encode(params, extra, joint).pooled), params


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(learner, layout)


def test_the_loss_is_the_pinball_loss_of_what_was_drawn():
  objective, (_, params) = learner(), answers()
  key = jax.random.key(3)
  loss, (_, metrics) = jax.jit(objective.loss)(params, {}, {"row": np.zeros(2)}, key)
  joints, levels = [], []
  for i in range(2):
    k_draw, k_level = jax.random.split(jax.random.fold_in(key, i))
    joints.append(jax.tree.map(np.asarray, draw(k_draw)))
    levels.append(np.asarray(jax.random.uniform(k_level, (3,))))
  total = []
  for joint, asked in zip(joints, levels, strict=True):
    other = mist(
      SetTransformer(8, 1, 2, points=0, pooled_depth=0),
      SetTransformer(8, 1, 2, points=2, pooled_depth=0),
      draw,
      hidden=(8,),
      levels=tuple(float(x) for x in asked),
    )
    tell = jax.jit(lambda joint, other=other: other.encode(params, {}, joint).pooled[0])
    told = np.asarray(tell(jax.tree.map(lambda x: x[None], joint)))
    for level, quantile in zip(asked, told, strict=True):
      error = joint.information - quantile
      total.append(level * error if error > 0 else (level - 1) * error)
  np.testing.assert_allclose(loss, np.mean(total), rtol=1e-4)
  np.testing.assert_allclose(metrics["mean_information"], np.mean([j.information for j in joints]))


def sample():
  values = RNG.normal(size=(1, 12, 3)).astype(np.float32)
  values[..., 1] = 0
  return Joint(values, np.array([[0, -1, 1]]), np.zeros(1))


def test_maps_of_coordinates_and_orders_of_points_and_coordinates_change_nothing():
  tell, _ = answers()
  joint = sample()
  wanted = tell(joint)
  mapped = joint._replace(values=np.sinh(joint.values) * np.array([2, 1, 5], np.float32))
  np.testing.assert_allclose(tell(mapped), wanted, rtol=1e-4, atol=1e-6)
  points, places = RNG.permutation(12), np.array([2, 0, 1])
  moved = Joint(joint.values[:, points][..., places], joint.side[:, places], joint.information)
  np.testing.assert_allclose(tell(moved), wanted, rtol=1e-4, atol=1e-5)
  # But sides are told apart from one another: two coordinates of x are not a pair.
  alone = joint._replace(side=np.array([[0, -1, 0]]))
  assert np.abs(tell(alone) - wanted).max() > 1e-4


def test_what_is_not_there_is_not_read():
  tell, _ = answers()
  joint = sample()
  filled = joint.values.copy()
  filled[..., 1] = RNG.normal(size=12)
  np.testing.assert_allclose(tell(joint._replace(values=filled)), tell(joint), atol=1e-6)


def test_normal_scores_are_those_of_scipys_ranks():
  values = RNG.normal(size=(30, 2)).astype(np.float32)
  wanted = stats.norm.ppf((stats.rankdata(values, axis=0) - 0.5) / 30)
  np.testing.assert_allclose(jax.jit(normal_scores)(values), wanted, rtol=1e-4, atol=1e-5)
