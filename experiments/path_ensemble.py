"""A ViT as an ensemble of paths: weighing them, teaching the short ones, leaving some out.

  python -m experiments.path_ensemble --data=npz:data/cifar10.npz

trains a ViT of six blocks on 4,000 images of CIFAR-10 at 16x16 pixels from one start by equal
steps: as it is (``vit``), with a factor for every path and channel (``ensemble_scale``), and with
these while the sum over all paths teaches what the first blocks have (``distilled``). Of the
trained ``vit``'s 13 paths, two are then left out: those without which, one at a time, most of 1,000
images set apart are told (``pruned_worst``), or any two (``pruned_random``, the mean of ten draws).
``gain`` is over the same model with all of its paths.

A seed takes a minute and a half of one core. Over three seeds (3 to 5) nothing of the claim shows
in so small a net: weighed paths tell 0.448 ± 0.005 of the images and the plain ViT 0.448 ± 0.006;
taught by the sum 0.440; without the two paths that images set apart miss least 0.433, without any
two 0.435, so that no path harms. Pixels have 0.374.
"""

import jax.numpy as jnp
import numpy as np
import optax

from experiments import claim, contest
from repjax.augment import crop_flip
from repjax.encoders import PathEnsemble, ViT
from repjax.learners import by_gradient, self_distillation, supervised
from repjax.train.launch import Settings, run_app

STEPS, BATCH, RATE, TRAIN = 1500, 50, 2e-3, 4000
PRUNED, DRAWS = 2, 10
VIT = ViT(patch_size=4, dim=32, depth=6, heads=4)
PATHS = 2 * VIT.depth + 1
DATA = (
  "CIFAR-10 at 16x16: 4,000 images to learn from and 1,000 to choose paths on, both of the train "
  "split, and 2,000 of the test split, drawn anew each seed; crops and flips"
)


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Trains three models, and prunes paths of the plain one."""
  steps = claim.steps_of(settings, STEPS)
  train, held, test = claim.three_parts(settings, image_size=16, seed=seed)
  train = {name: array[:TRAIN] for name, array in train.items()}
  options = {"classes": 10, "augment": crop_flip(16), "normalize": claim.scaled_photos}
  # The plain model is an ensemble whose factors are all 1, so that all start from the same.
  weighed = PathEnsemble(VIT)
  objectives = {
    "vit": supervised(PathEnsemble(VIT, ensemble_scale=False), **options),
    "ensemble_scale": supervised(weighed, **options),
    "distilled": self_distillation(weighed, **options),
  }
  numbers, states = {}, {}
  for name, objective in objectives.items():
    learner = by_gradient(objective, contest.warmed_adamw(RATE, steps))
    state = claim.fit(learner, train, steps=steps, batch_size=BATCH, seed=seed, progress=name)
    numbers[name] = {
      "accuracy": claim.head_accuracy(learner, state, **test),
      "train_accuracy": claim.head_accuracy(learner, state, **train),
    }
    states[name] = state

  plain, learner = states["vit"], by_gradient(objectives["ensemble_scale"], optax.identity())

  def without(paths, part):
    """Accuracy of the plain model if some of its paths add nothing to the sum."""
    scale = jnp.ones((PATHS, VIT.dim)).at[np.array(paths, int)].set(0)
    encoder = plain.params["encoder"] | {"ensemble_scale": scale}
    state = plain._replace(params=plain.params | {"encoder": encoder})
    return claim.head_accuracy(learner, state, **part)

  alone = [without([path], held) for path in range(PATHS)]
  worst = np.argsort(alone, kind="stable")[-PRUNED:]
  rng = np.random.default_rng(seed)
  draws = [rng.choice(PATHS, PRUNED, replace=False) for _ in range(DRAWS)]
  whole = numbers["vit"]["accuracy"]
  pruned = {
    "pruned_worst": without(worst, test),
    "pruned_random": float(np.mean([without(draw, test) for draw in draws])),
  }
  numbers |= {name: {"accuracy": x, "gain": x - whole} for name, x in pruned.items()}
  return numbers | {"raw_pixels": {"accuracy": claim.pixel_accuracy(train, test, seed=seed)}}


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("path_ensemble", study, settings, described=DATA)


if __name__ == "__main__":
  run_app(main)
