"""Learners of views: what moves the teacher, what fills the queue, what centres, on any layout."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest

from repjax.encoders import MLP, Prototypes
from repjax.learners import Crops, byol, dino, moco, moco_v3, rising_momentum
from repjax.learners.queue import push, start_queue
from repjax.learners.spread import spread

RNG = np.random.default_rng(0)


def small(key, image):
  return layouts.noise(key, image[:4, :4])


def mlp(axis_name, *dims):
  return MLP(dims, norm="batch", axis_name=axis_name)


LEARNERS = {
  "byol": lambda axis: byol(
    layouts.Tiny(), mlp(axis, 8, 4), mlp(axis, 8, 4), layouts.noise, momentum=0.9, axis_name=axis
  ),
  "moco": lambda axis: moco(
    layouts.Tiny(), MLP((4,)), layouts.noise, momentum=0.9, queue_size=24, axis_name=axis
  ),
  "moco_v3": lambda axis: moco_v3(
    layouts.Tiny(), mlp(axis, 8, 4), mlp(axis, 8, 4), layouts.noise, momentum=0.9, axis_name=axis
  ),
  "dino": lambda axis: dino(
    layouts.Tiny(),
    Prototypes(6, MLP((8, 4))),
    [Crops(layouts.noise, 2), Crops(small, 3)],
    momentum=0.9,
    axis_name=axis,
  ),
}
names = pytest.mark.parametrize("name", list(LEARNERS))
#: Every day, one learner with a queue and one with a centre.
queue_and_centre = pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=() if name in ("moco", "dino") else pytest.mark.thorough)
    for name in LEARNERS
  ],
)


@layouts.split_too
@queue_and_centre
def test_eight_devices_make_the_steps_of_one(name, layout):
  layouts.check_layout(LEARNERS[name], layout)


@names
def test_the_teacher_is_a_moving_average_of_what_was_learned(name):
  layouts.check_teacher(LEARNERS[name])


def test_momentum_rises_from_its_start_to_one():
  momentum = rising_momentum(0.9, 100)
  np.testing.assert_allclose([momentum(k) for k in (0, 50, 100, 120)], [0.9, 0.95, 1, 1], rtol=1e-6)


def test_a_queue_forgets_the_oldest_rows_first():
  queue, rows = start_queue(jax.random.key(0), 5, 2), RNG.normal(size=(4, 3, 2)).astype(np.float32)
  kept = list(np.asarray(queue.rows))
  for batch in rows:
    queue = push(queue, jnp.asarray(batch))
    kept = (kept + list(batch))[-5:]
    ordered = np.roll(queue.rows, -int(queue.next), 0)
    np.testing.assert_array_equal(ordered, kept)


def test_a_batch_larger_than_the_queue_is_refused():
  with pytest.raises(ValueError, match=r"a queue of 2 rows of 3 takes no batch of 4 rows of 3"):
    push(start_queue(jax.random.key(0), 2, 3), jnp.ones((4, 3)))


def test_moco_remembers_the_keys_of_the_second_view():
  start, states, _ = layouts.steps(LEARNERS["moco"])
  rows, first = states[0].extra["memory"].rows, start.extra["memory"].rows
  np.testing.assert_array_equal(rows[16:], first[16:])
  np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
  assert not np.isclose(rows[:16], first[:16]).any()


def test_the_centre_of_dino_is_the_moving_mean_of_the_teachers_scores():
  encoder, head = layouts.Tiny(), Prototypes(6, MLP((8, 4)))
  same = [Crops(lambda key, image: image, 2)]
  start, states, _ = layouts.steps(lambda axis: dino(encoder, head, same), count=1)
  params = start.params
  pooled = encoder.apply({"params": params["encoder"]}, layouts.BATCH["image"] / 255).pooled
  scores = head.apply({"params": params["projector"]}, pooled)
  np.testing.assert_array_equal(start.extra["memory"], np.zeros(6))
  np.testing.assert_allclose(states[0].extra["memory"], 0.1 * scores.mean(0), rtol=1e-4)


def test_spread_tells_the_rank_and_length_of_the_deviations():
  x = RNG.normal(size=(4000, 3)) @ np.diag([1, 1, 0]) + [0, 0, 1e-3]
  numbers = spread(jnp.asarray(x, jnp.float32))
  np.testing.assert_allclose(numbers["feature_rank"], 2, rtol=1e-2)
  np.testing.assert_allclose(numbers["feature_std"], 1, rtol=1e-2)
  numbers = spread(jnp.ones((8, 3)))
  np.testing.assert_allclose(numbers["feature_std"], 0, atol=1e-6)
