"""A learner's update as one program over a mesh."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from repjax.learners.learner import Learner
from repjax.train.feed import take
from repjax.train.mesh import DATA, replicated

Tree = Any


def init_state(learner: Learner, batch: Tree, *, seed: int, mesh: Mesh) -> Tree:
  """Makes a learner's first state, replicated over the mesh.

  Args:
    learner: any.
    batch: one batch on the host.
    seed: of the parameters.
    mesh: from `make_mesh`.

  Returns:
    The state.
  """
  init = jax.jit(learner.init, out_shardings=replicated(mesh))
  # An example or two are enough to know the shapes; compiling for more would cost memory.
  return init(jax.random.key(seed), jax.tree.map(lambda x: x[:2], batch))


def compile_update(
  learner: Learner, mesh: Mesh, *, seed: int, parallel: str = "pjit"
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

  Returns:
    ``(state, table, batch, step) -> (state, metrics)``; ``state`` is donated.

  Raises:
    ValueError: if ``parallel`` is unknown, or ``pmap`` is asked for on a mesh with more axes.
  """

  def update(state, table, batch, step):
    key = jax.random.fold_in(jax.random.key(seed), step)
    return learner.update(state, take(table, batch), key)

  if parallel == "pjit":
    # Inputs say how they lie; outputs are held to it, so that one program serves every step.
    return jax.jit(update, donate_argnums=0, out_shardings=replicated(mesh))
  if parallel != "pmap":
    raise ValueError(f"--parallel={parallel} is unknown; choose pjit or pmap")
  if mesh.size != mesh.shape[DATA]:
    raise ValueError(
      f"--parallel=pmap splits batches alone, --mesh is {dict(mesh.shape)}; use pjit"
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
