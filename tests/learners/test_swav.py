"""SwAV: who predicts whose assignments, and what the balancing sees."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest

from repjax.encoders import MLP, Prototypes
from repjax.learners import Crops, swav
from repjax.learners.queue import own_rows, start_queue

ENCODER, HEAD, PROTOTYPES = layouts.Tiny(), MLP((8, 4)), Prototypes(6)


def half(key, image):
  return layouts.noise(key, image[:4, :4])


CROPS = [Crops(layouts.noise, 2), Crops(half, 1)]


def learner(axis):
  return swav(ENCODER, HEAD, PROTOTYPES, CROPS, epsilon=0.3, queue_size=16, axis_name=axis)


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(learner, layout)


def unit(x):
  return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def embedded(params, step):
  """Unit embeddings of the views of a step, and scores of unit embeddings."""
  views = layouts.drawn(*CROPS, step=step)
  pooled = [ENCODER.apply({"params": params["encoder"]}, view).pooled for view in views]
  table = unit(params["predictor"]["prototypes"])
  z = [unit(HEAD.apply({"params": params["projector"]}, x)) for x in pooled]
  return z, lambda z: z @ table.T


def balanced(scores):
  """Columns and rows of exp(scores / epsilon) in turn, as the paper's code has it."""
  q = jnp.exp(scores / 0.3)
  for _ in range(3):
    q /= q.sum(0, keepdims=True) * q.shape[1]
    q /= q.sum(1, keepdims=True) * q.shape[0]
  return q * q.shape[0]


@pytest.mark.parametrize("step", [0, 1], ids=["queue not full", "queue full"])
def test_views_predict_assignments_that_a_full_queue_balances(step):
  def restated(params, before):
    z, score = embedded(params, step)
    fixed, fixed_score = embedded(before.params, step)
    loss = 0
    for g in range(2):
      rows = [fixed[g], *([before.extra["memory"][g].rows] if step else [])]
      q = balanced(fixed_score(jnp.concatenate(rows)))[:16]
      for v in set(range(3)) - {g}:
        loss -= jnp.mean(jnp.sum(q * jax.nn.log_softmax(score(z[v]) / 0.1, 1), 1)) / 4
    return loss

  layouts.check_step(learner, restated, step=step)


def test_each_global_view_fills_a_queue_of_its_own():
  start, states, _ = layouts.steps(learner)
  z, _ = embedded(start.params, 0)
  for queue, wanted in zip(states[0].extra["memory"], z[:2], strict=True):
    np.testing.assert_allclose(queue.rows, wanted, rtol=1e-4, atol=1e-5)


def test_a_queue_that_shards_do_not_divide_is_refused():
  queue = start_queue(jax.random.key(0), 12, 2)
  with pytest.raises(ValueError, match=r"12 rows is not divisible by 8 shards; .* multiple of 8"):
    jax.pmap(lambda x: own_rows(queue, "data"), axis_name="data")(jnp.ones(8))
