"""Evaluates a checkpoint of a run again: the table alone, nothing is trained.

  python -m experiments.evaluate --workdir=runs/simclr_digits

Data, encoder and method are those of the run (``flags.json`` in its folder); flags given here, such
as --shots=1,2,5 --protocols=few_shot,knn or --mesh, come on top.
"""

import importlib
import json
from pathlib import Path

import jax
from absl import flags

from experiments import pretrain
from repjax import evaluate
from repjax.train import Checkpoints, launch
from repjax.train.launch import Settings

flags.DEFINE_string("checkpoint", "latest", "latest, best (needs --eval_every), or a step.")


def main(settings: Settings) -> None:
  """Restores the checkpoint, embeds both splits and prints the table."""
  if not settings.workdir:
    raise ValueError("--workdir is not given; name the folder of a run, such as runs/simclr_digits")
  workdir, wanted = Path(settings.workdir).expanduser(), settings.checkpoint
  record = workdir / "flags.json"
  if not record.exists():
    raise FileNotFoundError(f"--workdir={workdir} is not the folder of a run: it has no flags.json")
  saved = json.loads(record.read_text())
  method = importlib.import_module(f"experiments.{saved.pop('experiment')}").METHOD
  given = settings.changed()
  settings = Settings({**settings.values(), **saved, **given}, given)

  launch.use_compile_cache(settings)
  ready = pretrain.prepare(method, settings)
  checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
  step = {"latest": None, "best": checkpoints.best("val/knn_20")}.get(wanted, wanted)
  if step is None and wanted == "best":
    raise ValueError(f"--checkpoint=best: {workdir} has no evaluated one; rerun with --eval_every")
  example = {k: v[None].repeat(2, 0) for k, v in ready.dataset.train[0].items()}
  like = jax.eval_shape(ready.learner.init, jax.random.key(0), example)
  restored = checkpoints.restore(like, ready.mesh, step=None if step is None else int(step))
  if restored is None:
    raise FileNotFoundError(f"--workdir={workdir} has no checkpoint yet; wait for the run to save")
  table, _ = pretrain.score(method, settings, ready, restored.state)
  print(f"\n{restored.path}")
  print(evaluate.format_table(table, columns=pretrain.columns(table)))


if __name__ == "__main__":
  launch.run_app(main)
