"""Learners: gradients in parts, keys by row, and one training run on any layout of devices."""

import functools

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax import P

from repjax.encoders import MLP, ResNet, ViT
from repjax.learners import Objective, by_gradient, simclr, simmim, supervised
from repjax.learners.learner import apply_module, example_keys, init_module
from repjax.train.feed import place_batch
from repjax.train.mesh import make_mesh, replicated
from repjax.train.step import compile_update, init_state

RNG = np.random.default_rng(0)
BATCH = {
  "image": RNG.integers(0, 256, (16, 8, 8, 3), np.uint8),
  # Of the eight pairs of rows that devices hold, some have two labels, one or none.
  "label": np.array([0, 1, 2, -1, -1, -1, 1, 0, -1, 2, 0, 0, -1, -1, 1, 2], np.int32),
}


def close(ours, wanted, rtol=1e-5, atol=1e-6):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol, atol), ours, wanted)


# Gradients.

ROWS = {
  "x": RNG.normal(size=(16, 4)).astype(np.float32),
  "y": RNG.normal(size=(16, 3)).astype(np.float32),
}
RATE = 0.1


def regression():
  """Least squares, with a count of the parts seen and of the updates made."""

  def init(key, batch):
    extra = {"parts": jnp.zeros((), int), "updates": jnp.zeros((), int), "w": jnp.zeros((4, 3))}
    return {"w": jax.random.normal(key, (4, 3))}, extra

  def loss(params, extra, batch, key):
    error = batch["x"] @ params["w"] - batch["y"]
    metrics = {"mean": jnp.mean(batch["x"]), "draw": jax.random.uniform(key)}
    return jnp.mean(jnp.square(error)), (extra | {"parts": extra["parts"] + 1}, metrics)

  def after(params, extra):
    return extra | {"updates": extra["updates"] + 1, "w": params["w"]}

  return Objective(init, loss, lambda params, extra, x: x @ params["w"], after)


def descended(w):
  """Value, gradient and next weights of a step of least squares in float64."""
  x, y = (ROWS[k].astype(np.float64) for k in "xy")
  error = x @ np.asarray(w, np.float64) - y
  grad = 2 * x.T @ error / error.size
  return np.mean(error**2), grad, w - RATE * grad


@functools.cache
def step_of_regression(accumulate):
  learner = by_gradient(regression(), optax.sgd(RATE), accumulate=accumulate)
  state = learner.init(jax.random.key(0), ROWS)
  return state, *jax.jit(learner.update)(state, ROWS, jax.random.key(1))


accumulations = pytest.mark.parametrize("accumulate", [1, 2, 16])


@accumulations
def test_a_batch_in_parts_makes_the_step_of_the_whole(accumulate):
  before, after, metrics = step_of_regression(accumulate)
  value, grad, w = descended(before.params["w"])
  np.testing.assert_allclose(after.params["w"], w, atol=1e-6)
  np.testing.assert_allclose(metrics["grad_norm"], np.linalg.norm(grad), rtol=1e-6)
  np.testing.assert_allclose(metrics["loss"], value, rtol=1e-6)
  np.testing.assert_allclose(metrics["mean"], ROWS["x"].mean(), atol=1e-7)


@accumulations
def test_extra_is_threaded_through_the_parts_and_after_runs_once(accumulate):
  _, after, _ = step_of_regression(accumulate)
  assert (after.step, after.extra["parts"], after.extra["updates"]) == (1, accumulate, 1)
  close(after.extra["w"], after.params["w"], 0, 0)


def test_parts_draw_apart():
  learner = by_gradient(regression(), optax.sgd(RATE), accumulate=2)
  state = learner.init(jax.random.key(0), ROWS)
  keys = jax.random.split(jax.random.key(0), 500)
  draws = jax.jit(jax.vmap(lambda key: learner.update(state, ROWS, key)[1]["draw"]))(keys)
  # A mean of two independent uniform numbers has half the variance of one.
  np.testing.assert_allclose(np.var(draws), 1 / 24, rtol=0.2)


def test_parts_that_do_not_divide_the_batch_are_named():
  learner = by_gradient(regression(), optax.sgd(RATE), accumulate=3)
  state = learner.init(jax.random.key(0), ROWS)
  with pytest.raises(ValueError, match="--accumulate=3 does not divide the batch of 16"):
    learner.update(state, ROWS, jax.random.key(1))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("layout", ["pmap", "shard_map", "shard_map_unchecked"])
def test_mapped_shards_make_the_step_of_the_whole(layout, accumulate):
  whole = by_gradient(regression(), optax.sgd(RATE), accumulate=accumulate)
  learner = by_gradient(regression(), optax.sgd(RATE), accumulate=accumulate, axis_name="data")
  state, key = whole.init(jax.random.key(0), ROWS), jax.random.key(1)
  if layout == "pmap":
    step = jax.pmap(learner.update, "data", in_axes=(None, 0, None), out_axes=None)
    ours = step(state, jax.tree.map(lambda x: x.reshape(8, 2, -1), ROWS), key)
  else:
    step = jax.shard_map(
      learner.update,
      mesh=make_mesh(),
      in_specs=(P(), P("data"), P()),
      out_specs=P(),
      check_vma=layout == "shard_map",
    )
    ours = jax.jit(step)(state, ROWS, key)
  _, after, metrics = step_of_regression(accumulate)
  close(ours[0], after)
  close(ours[1], metrics)


# Keys.


def test_example_keys_do_not_depend_on_the_layout():
  key = jax.random.key(3)
  data = jax.random.key_data
  whole = data(example_keys(key, 16))
  shard = lambda rows: data(example_keys(key, len(rows), axis_name="i"))
  sharded = jax.pmap(shard, "i")(np.zeros((8, 2)))
  np.testing.assert_array_equal(sharded.reshape(whole.shape), whole)
  assert len(np.unique(whole, axis=0)) == 16


# Modules.


class Mean(nn.Module):
  """A module with running statistics and no parameters."""

  @nn.compact
  def __call__(self, x, *, train=False):
    return nn.BatchNorm(not train, momentum=0.75, use_scale=False, use_bias=False)(x)


def test_modules_change_their_statistics_in_training_alone():
  x = ROWS["x"]
  params, rest = init_module(Mean(), jax.random.key(0), x)
  assert params == {}
  out, same = apply_module(Mean(), params, rest, x)
  close(same, rest, 0, 0)
  np.testing.assert_allclose(out, x / np.sqrt(1 + 1e-5), rtol=1e-5)
  out, changed = apply_module(Mean(), params, rest, x, train=True)
  np.testing.assert_allclose(out, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), rtol=1e-4, atol=1e-5)
  statistics = changed["batch_stats"]["BatchNorm_0"]
  np.testing.assert_allclose(statistics["mean"], x.mean(0) / 4, atol=1e-6)
  np.testing.assert_allclose(statistics["var"], 0.75 + x.var(0) / 4, rtol=1e-5)


# Whole learners. Augmentations are cheap ones, so that compilation is too.


def noise(key, image):
  return image * jax.random.uniform(key, minval=0.9, maxval=1.1)


def tiny_vit():
  return ViT(patch_size=4, dim=16, depth=1, heads=2)


def tiny_resnet(axis_name):
  return ResNet((1,), bottleneck=False, width=8, stem="cifar", axis_name=axis_name)


def simclr_vit(axis_name):
  return simclr(tiny_vit(), MLP((16, 8)), noise, temperature=0.2, axis_name=axis_name)


def simclr_resnet(axis_name):
  projector = MLP((16, 8), norm="batch", axis_name=axis_name)
  return simclr(tiny_resnet(axis_name), projector, noise, temperature=0.2, axis_name=axis_name)


def simmim_vit(axis_name):
  return simmim(tiny_vit(), noise, patch_size=4, ratio=0.5, axis_name=axis_name)


def supervised_resnet(axis_name):
  return supervised(tiny_resnet(axis_name), 3, noise, label_smoothing=0.1, axis_name=axis_name)


def run(learner, start, spec, parallel, steps):
  """States and losses of a few updates on one batch; the last draws what the first drew."""
  mesh = make_mesh(spec, devices=jax.devices()[: 1 if spec == "data:1" else 8])
  state = jax.device_put(start, replicated(mesh))
  batch = place_batch(BATCH, mesh)
  update = compile_update(learner, mesh, seed=5, parallel=parallel)
  states, losses = [], []
  for step in (*range(steps - 1), 0):
    state, metrics = update(state, None, batch, step)
    states.append(jax.tree.map(np.asarray, state))
    losses.append(float(metrics["loss"]))
  return states, losses


@pytest.fixture(scope="module", params=[simclr_vit, simclr_resnet, simmim_vit, supervised_resnet])
def runs(request):
  # Partitioning is what is looked at, and unoptimized programs compile in half the time.
  jax.config.update("jax_disable_most_optimizations", True)
  yield all_runs(request.param)
  jax.config.update("jax_disable_most_optimizations", False)


def all_runs(objective):
  # A ViT without warm-up collapses at the rate that serves the others.
  optimizer = optax.sgd(0.01 if objective is simclr_vit else 0.05, momentum=0.9)
  make = lambda axis_name: by_gradient(objective(axis_name), optimizer, axis_name=axis_name)
  start = init_state(make(None), BATCH, seed=1, mesh=make_mesh("data:1", devices=jax.devices()[:1]))
  start = jax.tree.map(np.asarray, start)
  return {
    "encode": jax.jit(make(None).encode),
    "start": start,
    "one": run(make(None), start, "data:1", "pjit", 12),
    "pjit": lambda: run(make(None), start, "data:8", "pjit", 4),
    "pmap": lambda: run(make("data"), start, "data:8", "pmap", 4),
  }


@layouts.everywhere
def test_learners_reach_the_same_states_on_eight_devices_as_on_one(runs, layout):
  (states, losses), (wanted, wanted_losses) = runs[layout](), runs["one"]
  np.testing.assert_allclose(losses[:3], wanted_losses[:3], rtol=1e-5)
  close(states[2], wanted[2], 1e-4, 5e-5)  # batch norm of a few pixels amplifies rounding
  moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), wanted[2].params, runs["start"].params)
  assert max(jax.tree.leaves(moved)) > 1e-2


def test_learners_bring_their_loss_down(runs):
  _, losses = runs["one"]
  assert losses[-1] < 0.95 * losses[0]


def test_encoding_does_not_depend_on_key_or_company(runs):
  encode, state = runs["encode"], runs["one"][0][-1]
  image = BATCH["image"][:4]
  wanted = encode(state, image)
  close(encode(state, image), wanted, 0, 0)
  others = np.concatenate([image[:1], 255 - image[1:]])
  close(jax.tree.map(lambda x: x[0], encode(state, others)), jax.tree.map(lambda x: x[0], wanted))


def test_encoding_takes_bytes_and_floats_alike(runs):
  encode, state = runs["encode"], runs["one"][0][-1]
  image = BATCH["image"][:4]
  close(encode(state, image.astype(np.float32) / 255), encode(state, image))
