"""A tiny encoder, a batch, and what every learner has to pass: one step on any layout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from repjax.encoders import Features, patchify
from repjax.learners import Learner, by_gradient
from repjax.train import sharding
from repjax.train.feed import place_batch
from repjax.train.mesh import make_mesh
from repjax.train.step import compile_update, init_state, shape_of_state

RNG = np.random.default_rng(0)
BATCH = {
  "image": RNG.integers(0, 256, (16, 8, 8, 3), np.uint8),
  "label": np.array([0, 1, 2, -1, -1, -1, 1, 0, -1, 2, 0, 0, -1, -1, 1, 2], np.int32),
}

_thorough = lambda layout: pytest.param(layout, marks=pytest.mark.thorough)
#: Eight devices against one, by either way an update is compiled.
everywhere = pytest.mark.parametrize("layout", ["pjit", _thorough("pmap")])
#: And with the state split.
split_too = pytest.mark.parametrize("layout", ["pjit", _thorough("pmap"), _thorough("fsdp")])


class Tiny(nn.Module):
  """Patches through a dense layer; takes the options that a ViT takes."""

  patch_size: int = 4
  dim: int = 8

  @nn.compact
  def __call__(self, image, *, train=False, mask=None, keep=None):
    x = patchify(image, self.patch_size)
    if mask is not None:
      token = self.param("mask_token", nn.initializers.normal(1.0), (x.shape[-1],))
      x = jnp.where(mask[..., None], token[None, None], x)
    x = jnp.tanh(nn.Dense(self.dim, name="patch")(x))
    if keep is not None:
      x = jnp.take_along_axis(x, keep[..., None], 1)
    return Features(jnp.mean(x, 1), x, (x,))


def noise(key, image):
  """A view that is cheap to compile."""
  return image * jax.random.uniform(key, minval=0.5, maxval=1.5)


@functools.cache
def steps(objective, layout="one", *, batch=lambda: BATCH, count=2):
  """Start, states after each of a few updates and metrics of each, all on the host.

  Kept for the tests that ask again for the same; do not change what comes back.

  Args:
    objective: ``axis_name -> Objective``, or a `Learner` that is ready.
    layout: ``one`` device, or eight by ``pjit`` or ``pmap``, or with the state split: ``fsdp``.
    batch: ``() -> batch`` of a multiple of eight rows.
    count: updates.
  """
  make_batch, batch, optimizer = batch, batch(), optax.sgd(0.1)

  def make(axis_name):
    made = objective(axis_name)
    if isinstance(made, Learner):
      return made
    return by_gradient(made, optimizer, axis_name=axis_name)

  one = make_mesh("data:1", devices=jax.devices()[:1])
  mesh = one if layout == "one" else make_mesh("fsdp:8" if layout == "fsdp" else "data:8")
  # Partitioning is what is looked at, and unoptimized programs compile in half the time.
  before = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", True)
  try:
    learner = make("data" if layout == "pmap" else None)
    if layout == "one":
      start = jax.tree.map(np.asarray, init_state(learner, batch, seed=0, mesh=one))
    else:
      start = steps(objective, batch=make_batch, count=count)[0]
      shape_of_state(learner, batch)  # which is made outside of any mapped axis
    parallel = "pmap" if layout == "pmap" else "pjit"
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(sharding, "SMALL", 8)  # everything here is small
      where = sharding.state_shardings(start, mesh)
    update = compile_update(learner, mesh, seed=5, parallel=parallel, shardings=where)
    state = jax.device_put(start, where)
    placed = place_batch(batch, mesh)
    states, metrics = [], []
    for step in range(count):
      state, seen = update(state, None, placed, step)
      states.append(jax.tree.map(np.asarray, state))
      metrics.append({name: float(value) for name, value in seen.items()})
  finally:
    jax.config.update("jax_disable_most_optimizations", before)
  return start, states, metrics


def check_layout(objective, layout, *, rtol=1e-4, atol=2e-5, **options):
  """Raises unless a learner does on eight devices what it does on one, and moves at all."""
  start, wanted, wanted_metrics = steps(objective, **options)
  _, states, metrics = steps(objective, layout, **options)
  close = lambda x, y: np.testing.assert_allclose(x, y, rtol, atol)
  jax.tree.map(close, states, wanted)
  jax.tree.map(close, metrics, wanted_metrics)
  moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), wanted[-1].params, start.params)
  assert max(jax.tree.leaves(moved)) > 1e-4


def check_teacher(objective):
  """Raises unless the teacher, without a predictor, is a moving average of momentum 0.9."""
  start, states, _ = steps(objective)
  teacher = start.extra["teacher"].params
  assert "predictor" not in teacher
  for state in states:
    online = {part: state.params[part] for part in teacher}
    teacher = jax.tree.map(lambda t, p: 0.9 * t + 0.1 * p, teacher, online)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, state.extra["teacher"].params, teacher)


def log_softmax(logits):
  return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def cross_entropy(logits, label):
  """Of the rows that have a label."""
  rows = np.flatnonzero(label >= 0)
  return -log_softmax(logits)[rows, label[rows]].mean()


def divergence(logits, teacher, temperature):
  """Of what a teacher says, times the temperature squared."""
  ours, theirs = log_softmax(logits / temperature), log_softmax(teacher / temperature)
  return temperature**2 * (np.exp(theirs) * (theirs - ours)).sum(1).mean()


@functools.cache
def drawn(*crops, step=0):
  """The views that `joint_embedding` drew in one of the updates of `steps`, largest first.

  Args:
    *crops: as it was given.
    step: which update.
  """
  views = []
  with jax.ensure_compile_time_eval():
    image = jnp.asarray(BATCH["image"], jnp.float32) / 255
    key = jax.random.fold_in(jax.random.key(5), step)
    keys = iter(jax.random.split(key, sum(crop.count for crop in crops)))
    for augment, count, _ in crops:
      for key in [next(keys) for _ in range(count)]:
        each = jnp.stack([jax.random.fold_in(key, i) for i in range(len(image))])
        views.append(np.asarray(jax.vmap(augment)(each, image)))
  return views


def check_step(objective, restated, *, step=0):
  """Raises unless one of `steps` goes down the gradient of a plain re-statement.

  Args:
    objective: as in `steps`.
    restated: ``(params, before) -> loss``; what gradients are not to reach comes from the state
      before the step.
    step: which update.
  """
  start, states, metrics = steps(objective)
  before = [start, *states][step]
  optimized = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", True)
  try:
    loss, gradient = jax.jit(jax.value_and_grad(lambda p: restated(p, before)))(before.params)
  finally:
    jax.config.update("jax_disable_most_optimizations", optimized)
  np.testing.assert_allclose(metrics[step]["loss"], loss, rtol=1e-4)
  wanted = jax.tree.map(lambda x, g: x - 0.1 * g, before.params, gradient)
  close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=2e-5)
  jax.tree.map(close, states[step].params, wanted)
