"""Every method of pretraining: one encoder, one budget, one evaluation.

  python -m experiments.compare_ssl --data=folder:data/cifar10

pretrains a small ViT on CIFAR-10 at 16x16 pixels by each method and three seeds, beside raw pixels,
their principal components and the encoder before training. The budget is views that the trained
net encodes, whatever a method makes of them. What is on record is not run again, and a run that was
cut off goes on from its checkpoint.

  python -m experiments.compare_ssl --data=folder:data/cifar10 --methods=byol,dino --seeds=0

runs some of them. A picture of the table lies beside the record. With --choose a tenth of the train
split stands in for the test split, which is not to choose by: recipes are found so.
"""

import functools
from pathlib import Path

import jax
import numpy as np
from absl import flags

from experiments import claim, outcome
from experiments.methods import METHODS
from experiments.records import spelt
from experiments.setup import Prepared, load, prepare
from repjax import data, evaluate
from repjax.augment import to_float
from repjax.train import init_state, launch, train
from repjax.train.launch import Settings, run_app

flags.DEFINE_list("methods", sorted(METHODS), "Which methods; the controls always run.")
flags.DEFINE_bool("choose", False, "Judge on --validation of the train split, not the test split.")
flags.DEFINE_integer("views", 400_000, "Views of images that each method encodes.", lower_bound=1)

#: Where a flag is not given.
DEFAULTS = {
  "view_size": 16,
  "encoder": "vit_nano4",
  "stem": "patch",
  "batch_size": 64,
  "learning_rate": 1e-3,
  "weight_decay": 0.05,
  "clip": 1.0,
  "checkpoint_every": 200,
}
#: What a method needs other than the rest; found with --choose, seed 0.
RECIPES = {
  # Adaptive rates collapse it at once.
  "simsiam": {"optimizer": "sgd", "learning_rate": 0.05, "weight_decay": 1e-4},
}
CONTROLS = ("raw_pixels", "principal_components", "untrained")
PROTOCOLS = (
  functools.partial(evaluate.knn, k=(20, 200)),
  functools.partial(evaluate.linear_probe, penalties=(1e-4, 1e-3, 1e-2, 1e-1)),
  functools.partial(evaluate.few_shot, shots=(5,)),
  evaluate.spectrum,
)


def main(settings: Settings) -> None:
  """Runs what is not on record yet, and shows all of it."""
  settings = settings.replace(**{k: v for k, v in DEFAULTS.items() if not settings.given(k)})
  launch.use_compile_cache(settings)
  if unknown := sorted(set(settings.methods) - METHODS.keys()):
    raise ValueError(
      f"--methods={','.join(unknown)} is unknown; choose of {', '.join(sorted(METHODS))}"
    )
  path = Path(settings.results or "runs/compare_ssl.json")
  command = spelt("python -m experiments.compare_ssl", settings, ("methods", "seed", "seeds"))
  dataset = load(settings)
  if settings.choose:
    train, held = data.holdout(dataset.train, settings.validation, 0)
    dataset = dataset._replace(train=train, test=held)
  workdir = Path(settings.workdir or "runs/compare_ssl")

  def study(name, seed):
    nonlocal dataset
    ready, chosen = _prepared(name, settings.replace(seed=seed), dataset)
    dataset = ready.dataset  # in memory from here on, if it fits
    numbers = _numbers(name, chosen, ready, workdir / f"{name}_{seed}")
    settings.check_all_read()
    return numbers, outcome.described(ready)

  claim.run_each(
    path,
    command,
    [(name, seed) for seed in claim.seeds(settings) for name in [*CONTROLS, *settings.methods]],
    study,
    metric="knn_20",
    title="kNN accuracy, k=20",
    controls=CONTROLS,
    drawn=lambda name: name not in CONTROLS[:2],  # nothing is drawn of pixels
  )


def _prepared(name, settings, dataset: data.Dataset) -> tuple[Prepared, Settings]:
  """The parts of a run, and its flags."""
  method = METHODS.get(name, METHODS["simclr"])  # controls train nothing
  recipe = {k: v for k, v in RECIPES.get(name, {}).items() if not settings.given(k)}
  settings = settings.replace(**recipe)
  steps = round(settings.views / (settings.batch_size * method.views))
  settings = settings.replace(steps=steps)
  return prepare(method, settings, dataset=dataset), settings


def _numbers(name, settings, ready: Prepared, workdir: Path) -> dict[str, float]:
  """Trains, if there is something to train, and evaluates."""
  splits, seconds = (ready.dataset.train, ready.dataset.test), {}
  if name in CONTROLS[:2]:
    features = [_seen_pixels(ready, split) for split in splits]
    if name == "principal_components":
      features = evaluate.projected(*features, count=min(128, features[0].features.shape[1]))
  else:
    if name == "untrained":
      example = {k: v[None] for k, v in ready.dataset.train[0].items()}
      state = init_state(ready.learner, example, seed=settings.seed, mesh=ready.mesh)
    else:
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
      state, seconds = trained.state, {"seconds": trained.speed["training_seconds"]}
    size = settings.eval_batch_size
    features = [outcome.embed(ready, state, split, size, name, quiet=True) for split in splits]
  key = jax.random.key(settings.seed)
  numbers = evaluate.evaluate(*features, key=key, protocols=PROTOCOLS) | seconds
  return {k: v for k, v in numbers.items() if k != "linear_penalty"}


def _seen_pixels(ready: Prepared, split: data.Source) -> evaluate.Embedded:
  """What the encoder is shown, as it is."""
  see = jax.jit(lambda image: ready.setup.normalize(to_float(image)))
  batches = (
    {"image": np.asarray(see(batch["image"])), "label": batch["label"]}
    for batch in data.once(split, 2000)
  )
  return evaluate.pixels(batches)


if __name__ == "__main__":
  run_app(main)
