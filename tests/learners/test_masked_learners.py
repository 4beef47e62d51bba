"""Learners that predict what was hidden: what is compared with what, and what moves."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest
from flax import linen as nn

from repjax import losses
from repjax.augment import multi_block
from repjax.encoders import MLP, Features, patchify
from repjax.learners import (
  Aggregator,
  data2vec,
  dmt_jepa,
  ijepa,
  mae,
  reconstruct_mae,
  simmim,
)
from repjax.learners.context import ContextNetwork
from repjax.learners.data2vec import mean_of_layers
from repjax.learners.masking import split

RNG = np.random.default_rng(0)
PATCH, GRID = 2, (4, 4)
IMAGE = jnp.asarray(layouts.BATCH["image"] / 255, jnp.float32)
DIVIDE = functools.partial(multi_block, blocks=2, keep=5)


def same(key, image):
  return image


def encoder():
  return layouts.Tiny(patch_size=PATCH)


class Guess(nn.Module):
  """Predictor that is cheap to compile: the mean of the tokens, and the place."""

  out: int = 8

  @nn.compact
  def __call__(self, tokens, at, targets, *, train=False):
    table = self.param("positions", nn.initializers.normal(1.0), (16, tokens.shape[-1]))
    mean = jnp.mean(tokens * table[at], 1, keepdims=True)
    return nn.Dense(self.out)(mean * table[targets])


class Gather(nn.Module):
  """Aggregator that is cheap to compile."""

  @nn.compact
  def __call__(self, tokens, chosen=None):
    return nn.Dense(8)(tokens if chosen is None else tokens + jnp.mean(chosen, 2))


def each(augment):
  return {
    "data2vec": lambda axis: data2vec(
      encoder(), MLP((8,)), augment, patch_size=PATCH, layers=1, momentum=0.9, axis_name=axis
    ),
    "dmt_jepa": lambda axis: dmt_jepa(
      encoder(),
      Gather(),
      Guess(),
      augment,
      patch_size=PATCH,
      divide=DIVIDE,
      momentum=0.9,
      axis_name=axis,
    ),
    "ijepa": lambda axis: ijepa(
      encoder(),
      Guess(),
      augment,
      patch_size=PATCH,
      divide=DIVIDE,
      momentum=0.9,
      axis_name=axis,
    ),
    "mae": lambda axis: mae(encoder(), Guess(12), augment, patch_size=PATCH, axis_name=axis),
    "simmim": lambda axis: simmim(encoder(), augment, patch_size=PATCH, axis_name=axis),
  }


LEARNERS, PLAIN = each(layouts.noise), each(same)
names = pytest.mark.parametrize("name", list(LEARNERS))
with_teacher = pytest.mark.parametrize("name", ["data2vec", "dmt_jepa", "ijepa"])


@layouts.everywhere
@names
def test_eight_devices_make_the_steps_of_one(name, layout):
  layouts.check_layout(LEARNERS[name], layout)


@with_teacher
def test_the_teacher_is_a_moving_average_of_what_was_learned(name):
  layouts.check_teacher(LEARNERS[name])


@names
def test_spread_is_logged(name):
  _, _, metrics = layouts.steps(LEARNERS[name])
  assert metrics[0]["feature_std"] > 0
  assert metrics[0]["feature_rank"] >= 1


class Spy(nn.Module):
  """Predicts each place's number in every value; notes what it was asked."""

  see: Callable[..., None]
  out: int

  def __call__(self, tokens, at, targets, *, train=False):
    if train:
      jax.debug.callback(self.see, tokens, at, targets)
    return jnp.repeat(jnp.asarray(targets, jnp.float32)[..., None], self.out, 2)


def ask(objective, see):
  """Parameters, a teacher apart from them, the loss and what the spy saw."""
  params, extra = jax.jit(objective.init)(jax.random.key(0), layouts.BATCH)
  if "teacher" in extra:
    extra["teacher"] = jax.tree.map(lambda x: x + 0.1, extra["teacher"])
  value, _ = jax.jit(objective.loss)(params, extra, layouts.BATCH, jax.random.key(1))
  jax.effects_barrier()
  (seen,) = see
  return params, extra, value, *seen


def watch(see):
  return lambda *seen: see.append(tuple(map(np.asarray, seen)))


def patches_of(image):
  rows = image.reshape(len(image), 4, 2, 4, 2, 3).transpose(0, 1, 3, 2, 4, 5)
  return np.asarray(rows, np.float64).reshape(len(image), 16, 12)


@pytest.mark.parametrize("normalize_target", [True, False])
def test_mae_compares_hidden_patches_and_sees_a_quarter(normalize_target):
  see = []
  objective = mae(
    encoder(), Spy(watch(see), 12), same, patch_size=PATCH, normalize_target=normalize_target
  )
  params, _, value, tokens, at, hidden = ask(objective, see)
  assert at.shape == (16, 4)
  np.testing.assert_array_equal(np.sort(np.concatenate([at, hidden], 1), 1)[3], np.arange(16))
  assert len(np.unique(at, axis=0)) > 8
  whole = encoder().apply({"params": params["encoder"]}, IMAGE).tokens
  np.testing.assert_allclose(tokens, np.take_along_axis(whole, at[..., None], 1), atol=1e-5)
  target = patches_of(IMAGE)
  if normalize_target:
    variance = target.var(-1, ddof=1, keepdims=True)
    target = (target - target.mean(-1, keepdims=True)) / np.sqrt(variance + 1e-6)
  error = np.take_along_axis(target, hidden[..., None], 1) - hidden[..., None]
  np.testing.assert_allclose(value, np.mean(error**2), rtol=1e-5)


def smooth(error, beta=1.0):
  size = np.abs(error)
  return np.where(size < beta, error**2 / (2 * beta), size - beta / 2)


def unit_deviation(x):
  x = np.asarray(x, np.float64)
  return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def test_ijepa_compares_each_block_with_the_teachers_tokens_of_the_whole_image():
  see = []
  objective = ijepa(encoder(), Spy(watch(see), 8), same, patch_size=PATCH, divide=DIVIDE)
  _, extra, value, _, at, targets = ask(objective, see)
  assert at.shape == (32, 5)
  np.testing.assert_array_equal(at[::2], at[1::2])
  teacher = {"params": extra["teacher"].params["encoder"]}
  target = unit_deviation(encoder().apply(teacher, IMAGE).tokens).repeat(2, 0)
  error = np.take_along_axis(target, targets[..., None], 1) - targets[..., None]
  np.testing.assert_allclose(value, smooth(error).mean(), rtol=1e-4)


def test_dmt_jepa_compares_with_what_the_teachers_aggregator_makes():
  see, aggregator = [], Gather()
  objective = dmt_jepa(
    encoder(), aggregator, Spy(watch(see), 8), same, patch_size=PATCH, divide=DIVIDE, neighbors=3
  )
  _, extra, value, _, _, targets = ask(objective, see)
  teacher = extra["teacher"].params
  tokens = unit_deviation(encoder().apply({"params": teacher["encoder"]}, IMAGE).tokens)
  made = losses.dmt_targets(
    jnp.asarray(tokens, jnp.float32),
    GRID,
    neighbors=3,
    aggregate=lambda x, near: aggregator.apply({"params": teacher["aggregator"]}, x, near),
  )
  error = np.take_along_axis(np.repeat(made, 2, 0), targets[..., None], 1) - targets[..., None]
  np.testing.assert_allclose(value, smooth(error).mean(), rtol=1e-4)


def test_an_aggregator_sees_a_patch_and_its_neighbours_alone():
  aggregator = Aggregator(2, depth=1)
  x = jnp.asarray(RNG.normal(size=(2, 5, 8)), jnp.float32)
  near = jnp.asarray(RNG.normal(size=(2, 5, 3, 8)), jnp.float32)
  params = aggregator.init(jax.random.key(0), x[:1, :1])
  apply = jax.jit(aggregator.apply)
  out = apply(params, x, near)
  moved = apply(params, x, near.at[0, 1, 2].multiply(-1.0))
  changed = np.abs(moved - out).max(-1) > 1e-4
  np.testing.assert_array_equal(np.argwhere(changed), [[0, 1]])
  np.testing.assert_allclose(out, apply(params, x, near[:, :, ::-1]), atol=1e-5)


def test_data2vec_asks_for_the_mean_of_standardised_upper_layers_where_it_hides():
  seen = []
  layers = RNG.normal(size=(3, 2, 5, 8))
  features = Features(layers[0], layers[2][:, 1:], tuple(layers))
  wanted = (unit_deviation(layers[1][:, 1:]) + unit_deviation(layers[2][:, 1:])) / 2
  np.testing.assert_allclose(mean_of_layers(features, 2), wanted, rtol=1e-4, atol=1e-5)

  class Blank(nn.Module):
    """Sees nothing, says twos; notes the mask."""

    @nn.compact
    def __call__(self, image, *, train=False, mask=None):
      if mask is not None:
        jax.debug.callback(watch(seen), mask)
      scale = self.param("scale", nn.initializers.ones, (8,))
      tokens = patchify(image, PATCH)[..., :8] * scale[None, None]
      return Features(tokens[:, 0], tokens * 0 + 2, (tokens,))

  class Same(nn.Module):
    def __call__(self, tokens, *, train=False):
      return tokens

  objective = data2vec(
    Blank(), Same(), same, patch_size=PATCH, layers=1, ratio=0.5, min_block=2, beta=0.5
  )
  params, extra = jax.jit(objective.init)(jax.random.key(0), layouts.BATCH)
  seen.clear()
  value, _ = jax.jit(objective.loss)(params, extra, layouts.BATCH, jax.random.key(1))
  jax.effects_barrier()
  ((mask,),) = seen
  assert (mask.sum(1) == 8).all()
  assert len(np.unique(mask, axis=0)) > 8
  error = smooth(2 - unit_deviation(patches_of(IMAGE)[..., :8]), 0.5).mean(-1)
  np.testing.assert_allclose(value, error[mask].mean(), rtol=1e-4)


@with_teacher
def test_no_gradient_reaches_the_teacher(name):
  objective = PLAIN[name](None)
  params, extra = jax.jit(objective.init)(jax.random.key(0), layouts.BATCH)

  def value(teacher):
    return objective.loss(params, extra | {"teacher": teacher}, layouts.BATCH, jax.random.key(1))[0]

  grads = jax.jit(jax.grad(value))(extra["teacher"])
  assert all((g == 0).all() for g in jax.tree.leaves(grads))


def test_features_of_ijepa_are_the_teachers():
  objective = PLAIN["ijepa"](None)
  params, extra = jax.jit(objective.init)(jax.random.key(0), layouts.BATCH)
  extra["teacher"] = jax.tree.map(lambda x: x + 0.1, extra["teacher"])
  pooled = objective.encode(params, extra, layouts.BATCH["image"]).pooled
  teacher = {"params": extra["teacher"].params["encoder"]}
  np.testing.assert_allclose(pooled, encoder().apply(teacher, IMAGE).pooled, rtol=1e-5)


def test_a_reconstruction_of_mae_keeps_what_is_seen_and_has_the_hidden_patches_moments():
  objective = PLAIN["mae"](None)
  params, extra = jax.jit(objective.init)(jax.random.key(0), layouts.BATCH)
  keys = jax.random.split(jax.random.key(2), 16)
  parts = jax.vmap(functools.partial(split, patch_size=PATCH, ratio=0.75))(keys, IMAGE)
  fill = functools.partial(reconstruct_mae, encoder(), Guess(12), patch_size=PATCH)
  out = jax.jit(fill)(params, extra, IMAGE, parts)
  truth, pasted, masked = (patches_of(x) for x in (IMAGE, out.pasted, out.masked))
  pick = lambda x, at: np.take_along_axis(x, np.asarray(at)[..., None], 1)
  np.testing.assert_array_equal(pick(pasted, parts.keep), pick(truth, parts.keep))
  hidden = parts.targets[:, 0]
  assert (pick(masked, hidden) == 0).all()
  network = ContextNetwork(encoder(), Guess(12))
  made = np.asarray(network.apply({"params": params}, IMAGE, parts)[1][:, 0])
  true = pick(truth, hidden)
  wanted = made * np.sqrt(true.var(-1, ddof=1, keepdims=True) + 1e-6)
  np.testing.assert_allclose(
    pick(pasted, hidden), wanted + true.mean(-1, keepdims=True), rtol=1e-4, atol=1e-5
  )
