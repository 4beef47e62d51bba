"""USI: the loss in float64, a teacher that stays, an average that follows, any layout."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import optax

from repjax.learners import Teacher, by_gradient, supervised, usi

STUDENT, OTHER = layouts.Tiny(), layouts.Tiny(dim=6)
SMALL = {"image": layouts.BATCH["image"][:2], "label": layouts.BATCH["label"][:2]}


def state_of_supervised():
  learner = by_gradient(supervised(OTHER, 3, layouts.noise), optax.sgd(0.1))
  state = learner.init(jax.random.key(7), SMALL)
  params = jax.tree.map(lambda x: 3 * x, state.params)  # a teacher that is sure of something
  return Teacher(params, state.extra)


TEACHER = state_of_supervised()


def objective(axis_name, **options):
  options = {"average": 0.9} | options
  return usi(STUDENT, 3, OTHER, TEACHER, layouts.noise, axis_name=axis_name, **options)


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(objective, layout)


def test_the_loss_is_cross_entropy_and_what_the_teacher_says():
  batch, key = layouts.BATCH, jax.random.key(3)
  made = usi(STUDENT, 3, OTHER, TEACHER, lambda key, image: image, alpha=2.0, temperature=1.5)
  params, extra = made.init(jax.random.key(0), batch)
  value, (_, metrics) = jax.jit(made.loss)(params, extra, batch, key)

  def logits(net, params):
    pooled = net.apply({"params": params["encoder"]}, batch["image"] / np.float32(255)).pooled
    out = np.float64(pooled) @ np.float64(params["head"]["kernel"])
    return out + np.float64(params["head"]["bias"])

  ours, theirs = logits(STUDENT, params), logits(OTHER, TEACHER.params)
  wanted = layouts.cross_entropy(ours, batch["label"])
  divergence = layouts.divergence(ours, theirs, temperature=1.5)
  np.testing.assert_allclose(metrics["label_loss"], wanted, rtol=1e-5)
  np.testing.assert_allclose(metrics["teacher_loss"], divergence, rtol=1e-5)
  np.testing.assert_allclose(value, wanted + 2.0 * divergence, rtol=1e-5)
  assert divergence > 0.01


def test_the_teacher_stays_and_the_average_follows():
  start, states, _ = layouts.steps(objective)
  jax.tree.map(np.testing.assert_array_equal, states[-1].extra["teacher"], TEACHER)
  average = start.params
  for state in states:
    average = jax.tree.map(lambda a, p: 0.9 * a + 0.1 * p, average, state.params)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, state.extra["average"], average)
  image = jnp.asarray(layouts.BATCH["image"])
  pooled = objective(None).encode(states[-1].params, states[-1].extra, image).pooled
  plain = objective(None, average=0.0).encode(states[-1].params, states[-1].extra, image).pooled
  own = STUDENT.apply({"params": average["encoder"]}, image / np.float32(255)).pooled
  np.testing.assert_allclose(pooled, own, rtol=1e-4, atol=1e-5)
  assert not np.allclose(plain, own, rtol=1e-4, atol=1e-5)
