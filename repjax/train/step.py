"""A learner's update as one program over a mesh."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from repjax.arrays import on_mesh
from repjax.learners.learner import Learner
from repjax.train.feed import take
from repjax.train.mesh import DATA, replicated

Tree = Any


def shape_of_state(learner: Learner, batch: Tree) -> Tree:
  """Shapes of a learner's state, found without computing anything.

  Args:
    learner: any.
    batch: a batch, or its shapes.

  Returns:
    The state, `jax.ShapeDtypeStruct` in place of arrays.
  """
  few = jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype), batch)
  return jax.eval_shape(learner.init, jax.random.key(0), few)


def init_state(
  learner: Learner, batch: Tree, *, seed: int, mesh: Mesh, shardings: Tree | None = None
) -> Tree:
  """Makes a learner's first state, each device its own part.

  Args:
    learner: any.
    batch: one batch on the host; of several processes, the first one's counts.
    seed: of the parameters.
    mesh: from `make_mesh`.
    shardings: as `compile_update` takes them.

  Returns:
    The state.
  """
  where = replicated(mesh) if shardings is None else shardings
  # An example or two are enough to know the shapes; compiling for more would cost memory.
  few = jax.tree.map(lambda x: np.resize(x[:2], (2, *x.shape[1:])), batch)
  few = multihost_utils.broadcast_one_to_all(few)  # processes hold other rows
  return jax.jit(learner.init, out_shardings=where)(jax.random.key(seed), few)


def compile_update(
  learner: Learner,
  mesh: Mesh,
  *,
  seed: int,
  parallel: str = "pjit",
  shardings: Tree | None = None,
) -> Callable[[Tree, Tree, Tree, int], tuple[Tree, dict[str, jax.Array]]]:
  """Makes the program of one training step.

  The randomness of step ``i`` is a function of ``(seed, i)``, so a run that resumes goes on as if
  it had never stopped.

  Args:
    learner: any; for ``pmap`` one whose losses know the axis ``data``.
    mesh: from `make_mesh`.
    seed: of augmentations and masks.
    parallel: ``pjit`` lets the compiler partition one program over the mesh; ``pmap`` runs a copy
      per device with the collectives that the learner names, over a mesh of the data axis alone.
    shardings: of the state, from `repjax.train.sharding.state_shardings`; whole on every device if
      absent.

  Returns:
    ``(state, table, batch, step) -> (state, metrics)``; ``state`` is donated.

  Raises:
    ValueError: if ``parallel`` is unknown, or ``pmap`` is asked for with several processes, or with
      a state or a mesh that is split otherwise.
  """

  def update(state, table, batch, step):
    key = jax.random.fold_in(jax.random.key(seed), step)
    return learner.update(state, take(table, batch), key)

  if parallel == "pjit":
    # Inputs say how they lie; outputs are held to it, so that one program serves every step.
    where = replicated(mesh) if shardings is None else shardings
    program = on_mesh(update, mesh)
    return jax.jit(program, donate_argnums=0, out_shardings=(where, replicated(mesh)))
  if parallel != "pmap":
    raise ValueError(f"--parallel={parallel} is unknown; choose pjit or pmap")
  if jax.process_count() > 1:
    raise ValueError(
      f"--parallel=pmap is for one process, {jax.process_count()} are here; use pjit"
    )
  if mesh.size != mesh.shape[DATA]:
    raise ValueError(
      f"--parallel=pmap splits batches alone, --mesh is {dict(mesh.shape)}; use pjit"
    )

  if not all(where.is_fully_replicated for where in jax.tree.leaves(shardings)):
    raise ValueError(
      "--parallel=pmap keeps the state whole on every device; use --sharding=replicated or pjit"
    )

  mapped = jax.pmap(
    update,
    axis_name=DATA,
    in_axes=(None, None, 0, None),
    out_axes=(None, None),
    devices=list(mesh.devices.flat),
    donate_argnums=0,
  )

  def split(state, table, batch, step):
    shards = mesh.shape[DATA]
    batch = jax.tree.map(lambda x: x.reshape(shards, x.shape[0] // shards, *x.shape[1:]), batch)
    return mapped(state, table, batch, step)

  return split
