"""The training step: a function of (state, batch, seed, step) and of nothing else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from repjax.learners import Learner
from repjax.train.feed import place_batch, place_table
from repjax.train.mesh import make_mesh, replicated
from repjax.train.step import compile_update, init_state

RNG = np.random.default_rng(0)
TABLE = {"x": RNG.normal(size=(40, 3)).astype(np.float32)}
ROWS = [RNG.permutation(40)[:16].astype(np.int32) for _ in range(4)]


def walk(axis_name=None):
  """A random walk that is drawn to the mean of its batch."""

  def init(key, batch):
    return {"w": jax.random.normal(key, batch["x"].shape[1:]), "n": jnp.zeros((), int)}

  def update(state, batch, key):
    mean = jnp.mean(batch["x"], 0)
    if axis_name is not None:
      mean = lax.pmean(mean, axis_name)
    w = 0.5 * state["w"] + mean + 0.1 * jax.random.normal(key, mean.shape)
    return {"w": w, "n": state["n"] + 1}, {"length": jnp.sum(w * w)}

  return Learner(init, update, lambda state, x: x)


@functools.cache
def program(parallel, spec="data:-1", seed=0):
  mesh = make_mesh(spec)
  learner = walk("data" if parallel == "pmap" else None)
  return mesh, compile_update(learner, mesh, seed=seed, parallel=parallel)


def start(mesh):
  return jax.device_put({"w": np.ones(3, np.float32), "n": np.int32(0)}, replicated(mesh))


def run(how, steps, state=None, table=False):
  """States and metrics on the host after some steps."""
  mesh, update = program(*how)
  state = start(mesh) if state is None else jax.device_put(state, replicated(mesh))
  lookup = place_table(TABLE, mesh) if table else None
  for step in steps:
    batch = ROWS[step] if table else {"x": TABLE["x"][ROWS[step]]}
    state, metrics = update(state, lookup, place_batch(batch, mesh), step)
  return jax.tree.map(np.array, (state, metrics))


def equal(ours, wanted):
  jax.tree.map(np.testing.assert_array_equal, ours, wanted)


HOW = [("pjit",), ("pjit", "data:-1,model:2"), ("pmap",)]
layouts = pytest.mark.parametrize("how", HOW, ids=["pjit", "pjit_2d", "pmap"])


@layouts
def test_the_same_seed_and_step_give_the_same_result(how):
  equal(run(how, [2]), run(how, [2]))


@layouts
def test_four_steps_are_two_and_two_from_a_copied_state(how):
  middle, _ = run(how, range(2))
  equal(run(how, range(2, 4), middle), run(how, range(4)))


@layouts
def test_layouts_make_the_same_walk(how):
  for x, y in zip(
    jax.tree.leaves(run(how, range(4))), jax.tree.leaves(run(HOW[0], range(4))), strict=True
  ):
    np.testing.assert_allclose(x, y, rtol=1e-6)


@layouts
def test_a_table_gives_what_the_batch_would(how):
  ours, wanted = run(how, range(4), table=True), run(how, range(4))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), ours, wanted)


@layouts
def test_the_old_state_is_given_up(how):
  mesh, update = program(*how)
  batch = place_batch({"x": TABLE["x"][ROWS[0]]}, mesh)
  state, _ = update(start(mesh), None, batch, 0)
  update(state, None, batch, 1)
  assert all(x.is_deleted() for x in jax.tree.leaves(state))
  assert not batch["x"].is_deleted()


@layouts
def test_step_two_runs_the_program_of_step_one(how):
  mesh, update = program(*how)
  batch = place_batch({"x": TABLE["x"][ROWS[0]]}, mesh)
  state, _ = update(start(mesh), None, batch, 0)
  with jax.no_tracing():
    update(state, None, batch, 1)


def test_seeds_and_steps_draw_apart():
  mesh = make_mesh()
  batch = place_batch({"x": TABLE["x"][ROWS[0]]}, mesh)
  ends = [
    np.asarray(program("pjit", "data:-1", seed)[1](start(mesh), None, batch, step)[0]["w"])
    for seed, step in ((0, 0), (0, 1), (1, 0), (1, 1))
  ]
  assert len(np.unique(ends, axis=0)) == 4


def test_first_states_depend_on_the_seed_alone():
  batch = {"x": TABLE["x"][:16]}
  states = [
    init_state(walk(), {"x": x}, seed=seed, mesh=make_mesh(spec))
    for seed, spec, x in (
      (3, "data:-1", batch["x"]),
      (3, "data:-1,model:2", batch["x"][:7]),
      (4, "data:-1", batch["x"]),
    )
  ]
  equal(states[0], states[1])
  assert not np.array_equal(states[0]["w"], states[2]["w"])
  assert states[1]["w"].sharding.is_fully_replicated
  assert len(states[1]["w"].sharding.device_set) == 8


@pytest.mark.parametrize(
  ("spec", "parallel", "message"),
  [
    ("data:-1", "ddp", "--parallel=ddp is unknown; choose pjit or pmap"),
    ("data:4,model:2", "pmap", r"--parallel=pmap .*'data': 4, 'model': 2}; use pjit"),
  ],
)
def test_unknown_parallelism_names_the_way_out(spec, parallel, message):
  with pytest.raises(ValueError, match=message):
    compile_update(walk(), make_mesh(spec), seed=0, parallel=parallel)
