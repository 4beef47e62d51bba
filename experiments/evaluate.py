"""Evaluates a checkpoint of a run again: the table alone, nothing is trained.

  python -m experiments.evaluate --workdir=runs/simclr_digits

Data, encoder and method are those of the run (``flags.json`` in its folder); flags given here, such
as --shots=1,2,5, --protocols=few_shot,knn,retrieval,episodes,verification or --mesh, come on top;
a name that --protocols does not know is answered with those that it does.

  python -m experiments.evaluate --encoder=timm/vit_base_patch14_dinov2 --weights=FILE \\
    --data=folder:PATH --image_size=224

evaluates an encoder that was trained elsewhere, beside itself with weights as drawn and beside
pixels of the images at 32x32. With --report a page shows which classes are taken for which,
accuracy by dimension, spectra and nearest neighbours; it lies in the folder ``evaluation`` of the
run.
"""

import functools
from pathlib import Path

import jax
from absl import flags

from experiments import measured, outcome
from experiments.frozen import drawn, is_pretrained, load_frozen
from experiments.restored import restore_run
from experiments.setup import load, protocols
from repjax import data, evaluate
from repjax.train import hosts, launch
from repjax.train.launch import Settings

flags.DEFINE_bool("report", False, "Write a page of classes, dimensions, spectra, neighbours.")

_PIXELS = 32
# Flags that may be given beside those of the run; the rest made the run what it is.
_ON_TOP = {
  "workdir", "checkpoint", "report", "data", "protocols", "shots", "eval_batch_size", "mesh",
  "sharding", "progress", "device_data_mb", "compile_cache", "coordinator", "process_id",
  "process_count", "heartbeat_seconds", "sigterm_exit_code",
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
  run = restore_run(settings)
  table, features = outcome.score(run.method, run.settings, run.ready, run.state)
  if hosts.is_lead():
    print(f"\n{run.path}")
    print(evaluate.format_table(table, columns=outcome.columns(table)))
    if settings.report:
      title = f"{run.method.name} on {run.ready.dataset.name}"
      page = measured.write_page(
        run.workdir / "evaluation", title, table, features, run.ready.dataset
      )
      print(f"\nreport: {page}")


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
    if settings.report:
      folder = Path(settings.workdir or "runs") / settings.encoder.replace("/", "_")
      title = f"{settings.encoder} on {frozen.dataset.name}"
      page = measured.write_page(folder, title, table, features, frozen.dataset)
      print(f"\nreport: {page}")


if __name__ == "__main__":
  launch.run_app(main)
