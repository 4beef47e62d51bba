"""Evaluates a checkpoint of a run again: the table alone, nothing is trained.

  python -m experiments.evaluate --workdir=runs/simclr_digits

Data, encoder and method are those of the run (``flags.json`` in its folder); flags given here, such
as --shots=1,2,5, --protocols=few_shot,knn,retrieval,episodes,verification or --mesh, come on top;
a name that --protocols does not know is answered with those that it does.

  python -m experiments.evaluate --encoder=timm/vit_base_patch14_dinov2 --weights=FILE \\
    --data=folder:PATH --image_size=224

evaluates an encoder that was trained elsewhere, beside itself with weights as drawn and beside
pixels of the images at 32x32.
"""

import functools
import json

import jax
from absl import flags

from experiments import outcome
from experiments.frozen import drawn, is_pretrained, load_frozen
from experiments.methods import METHODS
from experiments.setup import load, prepare, protocols
from repjax import data, evaluate
from repjax.train import Checkpoints, hosts, launch
from repjax.train.launch import Settings
from repjax.train.sharding import state_shardings
from repjax.train.step import shape_of_state
from repjax.train.workdir import workdir_of

flags.DEFINE_string("checkpoint", "latest", "latest, best (needs --eval_every), or a step.")

_PIXELS = 32
# Flags that may be given beside those of the run; the rest made the run what it is.
_ON_TOP = {
  "workdir", "checkpoint", "data", "protocols", "shots", "eval_batch_size", "mesh", "sharding",
  "progress", "device_data_mb", "compile_cache", "coordinator", "process_id", "process_count",
  "heartbeat_seconds", "sigterm_exit_code",
}  # fmt: skip


def main(settings: Settings) -> None:
  """Restores the checkpoint, embeds both splits and prints the table."""
  if is_pretrained(settings):
    return _of_pretrained(settings)
  if not settings.workdir:
    raise ValueError(
      "--workdir is not given; name the folder of a run, such as runs/simclr_digits, or an encoder "
      "that was trained elsewhere by --encoder=timm/NAME"
    )
  if ignored := sorted(settings.changed().keys() - _ON_TOP):
    raise ValueError(f"--{', --'.join(ignored)} cannot change once a run is trained; leave it out")
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
  table, _ = outcome.score(method, settings, ready, restored.state)
  if hosts.is_lead():
    print(f"\n{restored.path}")
    print(evaluate.format_table(table, columns=outcome.columns(table)))


def _of_pretrained(settings: Settings) -> None:
  """The table of an encoder that was trained elsewhere."""
  launch.use_compile_cache(settings)
  frozen = load_frozen(settings)
  splits = frozen.dataset.train, frozen.dataset.test
  scored = protocols(settings, frozen.dataset)
  small = load(settings.replace(image_size=_PIXELS))
  size = settings.eval_batch_size
  settings.check_all_read()
  features = {}
  if hosts.is_lead():
    raw = [evaluate.pixels(data.once(split, size)) for split in (small.train, small.test)]
    features[f"raw pixels, {_PIXELS}x{_PIXELS}"] = raw
  for name, variables in (("untrained", drawn(frozen)), (settings.encoder, frozen.variables)):
    encode = functools.partial(
      outcome.encode_split,
      frozen.pretrained.encode,
      variables,
      size=size,
      mesh=frozen.mesh,
      name=name,
      quiet=not settings.progress,
    )
    features[name] = [encode(split=split) for split in splits]
  if hosts.is_lead():
    key = jax.random.key(settings.seed)
    table = {
      name: evaluate.evaluate(*pair, key=key, protocols=scored) for name, pair in features.items()
    }
    print(f"\n{evaluate.format_table(table, columns=outcome.columns(table))}")


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


if __name__ == "__main__":
  launch.run_app(main)
