"""Every method of pretraining, one encoder, one budget, one evaluation.

  python -m experiments.compare_ssl --data=folder:data/cifar10

pretrains a small ViT on CIFAR-10 at 16x16 pixels by each method and three seeds, beside raw pixels, their
principal components and the encoder before training. The budget is views that the trained net
encodes, whatever a method makes of them. What is on record is not run again, and a run that was cut off
goes on from its checkpoint.

  python -m experiments.compare_ssl --data=folder:data/cifar10 --methods=byol,dino --seeds=0

runs some of them. The table and a picture of it are in results/compare_ssl.json and .png.
"""

import functools
import json
from pathlib import Path

import jax
import numpy as np
from absl import flags

from experiments import claim, outcome
from experiments.methods import METHODS
from experiments.records import read_record, spelt, write_record
from experiments.setup import Method, prepare
from repjax import data, evaluate
from repjax.evaluate import figures
from repjax.train import init_state, launch, train
from repjax.train.launch import Settings, run_app
from repjax.train.memory import keep_freed_memory

flags.DEFINE_list("methods", sorted(METHODS), "Which methods; the controls always run.")
flags.DEFINE_integer("views", 400_000, "Views of images that each method encodes.", lower_bound=1)
flags.FLAGS.set_default("view_size", 16)
flags.FLAGS.set_default("encoder", "vit_micro4")
flags.FLAGS.set_default("stem", "patch")
flags.FLAGS.set_default("batch_size", 256)
flags.FLAGS.set_default("learning_rate", 1.5e-3)
flags.FLAGS.set_default("weight_decay", 0.05)
flags.FLAGS.set_default("clip", 1.0)
flags.FLAGS.set_default("checkpoint_every", 200)

#: What a method needs other than the rest; chosen on 5,000 of the train images, seed 0.
RECIPES = {}
CONTROLS = ("raw_pixels", "principal_components", "untrained")
PROTOCOLS = (
  functools.partial(evaluate.knn, k=(20, 200)),
  functools.partial(evaluate.linear_probe, penalties=(1e-4, 1e-3, 1e-2, 1e-1)),
  functools.partial(evaluate.few_shot, shots=(5,)),
  evaluate.spectrum,
)


def main(settings: Settings) -> None:
  """Runs what is not on record yet, and shows all of it."""
  launch.use_compile_cache(settings)
  keep_freed_memory()
  if unknown := sorted(set(settings.methods) - METHODS.keys()):
    raise ValueError(
      f"--methods={','.join(unknown)} is unknown; choose of {', '.join(sorted(METHODS))}"
    )
  path = Path(settings.results or "runs/compare_ssl.json")
  command = spelt(
    "python -m experiments.compare_ssl", settings, ("methods", "seed", "seeds"), kept=()
  )
  runs = read_record(path, command)
  done = {(run["method"], run["seed"]) for run in runs}
  for seed in claim.seeds(settings):
    for name in [*CONTROLS, *settings.methods]:
      once = name in CONTROLS[:2]  # nothing is drawn there
      if (name, 0 if once else seed) in done:
        continue
      numbers, described = _run(name, settings.replace(seed=seed))
      settings.check_all_read()
      runs.append({"method": name, "seed": seed, "metrics": numbers})
      done.add((name, seed))
      write_record(path, command, described, runs)
      print(f"seed {seed}\n{evaluate.format_table({name: numbers})}\n", flush=True)
  table = claim.summarize(runs)
  table = dict(sorted(table.items(), key=lambda row: row[1]["knn_20"]))
  print(evaluate.format_table(table) + f"\n\nrecord: {path}")
  bars = {name: (row["knn_20"], row.get("knn_20_stderr", 0.0)) for name, row in table.items()}
  path.with_suffix(".png").write_bytes(figures.draw_bars(bars, CONTROLS, "kNN accuracy, k=20"))


def _run(name: str, settings: Settings) -> tuple[dict[str, float], str]:
  """Numbers of a method or a control, and the data in words."""
  method = METHODS.get(name, METHODS["simclr"])
  recipe = RECIPES.get(name, {})
  steps = round(settings.views / (settings.batch_size * method.views))
  settings = settings.replace(**recipe, steps=steps)
  ready = _prepared(method, settings)
  splits = ready.dataset.train, ready.dataset.test
  described = (
    f"{ready.dataset.name}: {len(splits[0])} train, {len(splits[1])} test, seen at "
    f"{ready.setup.image_size}x{ready.setup.image_size}x{ready.setup.channels}"
  )
  if name in CONTROLS[:2]:
    features = [_small_pixels(ready, split) for split in splits]
    if name == "principal_components":
      features = evaluate.principal_components(*features, count=128)
  else:
    if name == "untrained":
      example = {k: v[None] for k, v in ready.dataset.train[0].items()}
      state = init_state(ready.learner, example, seed=settings.seed, mesh=ready.mesh)
    else:
      workdir = Path(settings.workdir or "runs/compare_ssl") / f"{name}_{settings.seed}"
      launch.write_whole(workdir / "statistics.json", json.dumps(ready.statistics))
      trained = train(
        ready.learner,
        ready.feed,
        ready.schedule,
        workdir=workdir,
        mesh=ready.mesh,
        seed=settings.seed,
        parallel=settings.parallel,
        progress=settings.progress,
        record={"flags": settings.values()},
      )
      state = trained.state
    size = settings.eval_batch_size
    features = [outcome.embed(ready, state, split, size, name, quiet=True) for split in splits]
  key = jax.random.key(settings.seed)
  numbers = evaluate.evaluate(*features, key=key, protocols=PROTOCOLS)
  if name not in CONTROLS:
    numbers["seconds"] = trained.speed["training_seconds"]
  return {k: v for k, v in numbers.items() if k != "linear_penalty"}, described
