"""T-JEPA: columns that are seen, columns that are asked for, the token beside them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest
from flax import linen as nn

from repjax.encoders import Features, TableTransformer
from repjax.learners import t_jepa

RNG = np.random.default_rng(0)
BATCH = {"row": RNG.normal(size=(16, 10)).astype(np.float32)}


class Columns(nn.Module):
  """A token a column that is cheap to compile."""

  @nn.compact
  def __call__(self, row, *, train=False, keep=None):
    x = jnp.tanh(row[..., None] * self.param("weight", nn.initializers.normal(1.0), (10, 4))[None])
    x = x if keep is None else jnp.take_along_axis(x, keep[..., None], 1)
    return Features(jnp.mean(x, 1), x, (x,))


class Spy(nn.Module):
  """Predicts each column's number in every value; notes what it was asked."""

  see: Callable[..., None]

  def __call__(self, tokens, at, targets, *, train=False):
    if train:
      jax.debug.callback(self.see, at, targets)
    return jnp.repeat(jnp.asarray(targets, jnp.float32)[..., None], 4, 2)


class Mean(nn.Module):
  @nn.compact
  def __call__(self, tokens, at, targets, *, train=False):
    place = self.param("place", nn.initializers.normal(1.0), (10, 4))
    return jnp.mean(tokens + place[at], 1, keepdims=True) * place[targets]


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  make = lambda axis: t_jepa(Columns(), Mean(), momentum=0.9, axis_name=axis)
  layouts.check_layout(make, layout, batch=lambda: BATCH)


@pytest.fixture(scope="module")
def step():
  """Loss, teacher and the places of one step."""
  seen = []
  spy = Spy(lambda at, targets: seen.append((np.asarray(at)[::4], np.asarray(targets))))
  objective = t_jepa(Columns(), spy)
  params, extra = jax.jit(objective.init)(jax.random.key(0), BATCH)
  extra["teacher"] = jax.tree.map(lambda x: x + 0.5, extra["teacher"])
  seen.clear()
  value, _ = jax.jit(objective.loss)(params, extra, BATCH, jax.random.key(1))
  jax.effects_barrier()
  ((keep, targets),) = seen
  return float(value), extra["teacher"].params, keep, targets.reshape(16, 4, 3)


def test_no_column_is_both_seen_and_asked_for(step):
  _, _, keep, targets = step
  assert keep.shape == (16, 4)
  assert targets.shape == (16, 4, 3)
  for seen, asked in zip(keep, targets, strict=True):
    assert len(set(seen)) == 4
    assert all(len(set(block)) == 3 for block in asked)
    assert not set(seen) & set(asked.ravel())
  assert len(np.unique(np.sort(keep, 1), axis=0)) > 8


def test_the_loss_is_the_squared_error_of_the_teachers_tokens(step):
  value, teacher, _, targets = step
  tokens = np.tanh(BATCH["row"][..., None] * np.asarray(teacher["encoder"]["weight"], np.float64))
  flat = targets.reshape(16, -1)
  error = np.take_along_axis(tokens, flat[..., None], 1) - flat[..., None]
  np.testing.assert_allclose(value, np.mean(error**2), rtol=1e-5)


def test_shares_that_leave_nothing_are_refused():
  with pytest.raises(ValueError, match=r"seen=0\.9 and asked=0\.3 of 10 columns are 9 and 3"):
    t_jepa(Columns(), Mean(), seen=0.9).init(jax.random.key(0), BATCH)


@pytest.fixture(scope="module")
def table():
  """A table of two numbers and two kinds, as a function of its rows and of what is kept."""
  net = TableTransformer((0, 3, 0, 2), dim=8, depth=1, heads=2, registers=1)
  row = np.array([[0.5, 2, -1, 1], [0.1, 0, 3, 0]], np.float32)
  params = jax.jit(net.init)(jax.random.key(0), row)
  return jax.jit(lambda row, keep: net.apply(params, row, keep=keep)), row


def test_a_column_that_is_not_kept_does_not_reach_the_others(table):
  encode, row = table
  keep = np.array([[0, 1, 3]] * 2, np.int32)
  moved = row + np.array([[0, 0, 5.0, 0]], np.float32)
  np.testing.assert_array_equal(encode(row, keep).tokens, encode(moved, keep).tokens)
  changed = row + np.array([[0, -1, 0, 0]], np.float32) * (row[:, 1:2] > 0)
  assert np.abs(encode(changed, keep).tokens - encode(row, keep).tokens)[0].max() > 1e-4


def test_tokens_follow_the_order_of_the_columns_kept(table):
  encode, row = table
  order = np.array([[3, 0, 2, 1]] * 2, np.int32)
  same = np.array([[0, 1, 2, 3]] * 2, np.int32)
  wanted = encode(row, same).tokens[:, order[0]]
  np.testing.assert_allclose(encode(row, order).tokens, wanted, atol=1e-5)
