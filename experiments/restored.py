"""A run's folder as flags describe it: its data, its learner, and a checkpoint's state."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from experiments.methods import METHODS
from experiments.setup import Method, Prepared, prepare
from repjax.train import Checkpoints, hosts, launch
from repjax.train.launch import Settings
from repjax.train.sharding import state_shardings
from repjax.train.step import shape_of_state
from repjax.train.workdir import workdir_of

flags.DEFINE_string("checkpoint", "latest", "latest, best (needs --eval_every), or a step.")


class Restored(NamedTuple):
  """A run.

  Attributes:
    method: what was learned.
    settings: the flags of the run, and those given on top.
    ready: data, learner and protocols.
    state: the learner's, on the mesh.
    path: of the checkpoint.
    workdir: the run's folder.
  """

  method: Method
  settings: Settings
  ready: Prepared
  state: Any
  path: Path
  workdir: Path


def restore_run(settings: Settings) -> Restored:
  """Restores what ``--workdir`` and ``--checkpoint`` name.

  Args:
    settings: the flags, which come on top of those of the run.

  Returns:
    The run.

  Raises:
    FileNotFoundError: if the folder is not that of a run, or has no checkpoint.
    ValueError: if there is no such checkpoint.
  """
  workdir = workdir_of(settings)
  record = workdir / "flags.json"
  if not record.exists():
    raise FileNotFoundError(f"--workdir={workdir} is not the folder of a run: it has no flags.json")
  saved = json.loads(record.read_text())
  method = METHODS[saved.pop("experiment")]
  given = settings.changed()
  settings = Settings({**settings.values(), **saved, **given}, given)
  checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
  step = hosts.by_lead(lambda: _step(checkpoints, settings.checkpoint, workdir))
  launch.use_compile_cache(settings)
  statistics = json.loads((workdir / "statistics.json").read_text())
  ready = prepare(method, settings, statistics=statistics)
  like = shape_of_state(ready.learner, {k: v[None] for k, v in ready.dataset.train[0].items()})
  where = state_shardings(like, ready.mesh, settings.sharding)
  restored = checkpoints.restore(like, where, step=step)
  return Restored(method, settings, ready, restored.state, restored.path, workdir)


def _step(checkpoints, wanted, workdir):
  """The step that ``--checkpoint`` names; none for the latest that is whole."""
  steps = checkpoints.steps()
  if not steps:
    raise FileNotFoundError(f"--workdir={workdir} has no checkpoint yet; wait for the run to save")
  if wanted == "latest":
    return None
  if wanted == "best":
    if (step := checkpoints.best("val/knn_20")) is None:
      raise ValueError(
        f"--checkpoint=best: none of the checkpoints {steps} in {workdir} was evaluated; "
        f"choose one of them, or train with --eval_every"
      )
    return step
  if wanted not in map(str, steps):
    raise ValueError(
      f"--checkpoint={wanted} is none of the checkpoints {steps} in {workdir}; choose one of them, "
      f"latest or best"
    )
  return int(wanted)
