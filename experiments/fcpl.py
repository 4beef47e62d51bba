"""FCPL: models of one space for descriptors of copies, and what their average finds.

  python -m experiments.fcpl --data=npz:data/cifar10.npz

trains dense nets, each from weights of its own, to tell 2,000 images of CIFAR-10 by copies of them
(the first stage), and looks for copies of 1,000 others: 500 queries are such copies, turned, moved,
recoloured and noisy, and 1,000 are changed alike and of none. ``micro_ap`` is the average precision
of all pairs in one ranking, ``recall_at_1`` the share of copies whose reference comes first;
``cross_ap`` is the first where the references are described by the model ``first``.

``compatible_1`` and ``compatible_2`` are held to that model's descriptors (the second stage),
``independent_1`` and ``independent_2`` are the same nets without. ``ensemble`` averages the unit
descriptors of ``first`` and the compatible ones, ``mixed_ensemble`` those of ``first`` and the
independent ones, and ``concatenated`` has these three side by side, at three times the width.
``progressive`` is the ensemble after a third stage with 500 known pairs of other images.
``untrained`` and ``raw_pixels`` are controls. The paper claims that compatible models can be
compared with one another and that their ensemble is better than any of them.

A seed takes 75 seconds of one core. Over three seeds models that are held to the first can be asked
in its place: 0.137 and 0.133 of micro-average precision against references of the first, where
independent ones have 0.0004. Their ensemble is no better than the first model alone, 0.213 against
0.218, nor with known pairs, 0.223; what averages best are models that see differently: independent
ones have 0.233 together and 0.253 side by side. Pixels have 0.031, a net as drawn 0.022.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import claim
from repjax import evaluate
from repjax.augment import gaussian_noise, jitter, random_affine, warp
from repjax.encoders import MLP, Flat
from repjax.evaluate.embed import unit_rows
from repjax.learners import Objective, by_gradient, fcpl, start_from
from repjax.train.launch import Settings, run_app

CLASSES, PAIRS, REFERENCES, COPIES, NONE = 2000, 500, 1000, 500, 1000
DIM, BATCH, STEPS, LAST_STEPS = 64, 128, 800, 150
# In the code 64 and 100: the ratio of both is kept.
SCALE, HOLD = 20.0, 30.0
SHAPE = (384, DIM)
DATA = (
  "CIFAR-10 at 16x16: 2,000 train images that are classes and 500 for pairs, drawn anew each seed; "
  "of the test images 1,000 references, copies of 500 of them, and 1,000 that are copies of none"
)


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Trains the models of each stage and looks for copies with them, one by one and together."""
  steps, last_steps = (claim.steps_of(settings, count) for count in (STEPS, LAST_STEPS))
  train, test = claim.part_of_data(
    settings, train=CLASSES + PAIRS, test=REFERENCES + NONE, seed=seed
  )
  classes = min(CLASSES, len(train.image) - PAIRS)
  references, others = test.image[:REFERENCES], test.image[REFERENCES:]
  asked = np.concatenate([references[:COPIES], others])
  partner = np.where(np.arange(len(asked)) < COPIES, np.arange(len(asked)), -1)
  queries = changed(asked, seed)
  batch = {"image": train.image[:classes], "label": np.arange(classes, dtype=np.int32)}

  def fit(name, arrays, number, steps=steps, start=None):
    """Trains a model, or goes on with one."""
    objective = describer(classes)
    if start is not None:
      objective = start_from(objective, start.params)
    rate = optax.cosine_decay_schedule(1e-3 if start is None else 2e-4, max(steps, 1))
    learner = by_gradient(objective, optax.adam(rate))
    # Every model starts from weights of its own.
    options = {"steps": steps, "batch_size": BATCH, "seed": 10 * seed + number}
    state = claim.fit(learner, arrays, progress=name, **options)
    return learner, state

  describe = lambda model, image: claim.features(model[0].encode, model[1], image)
  first = fit("first", batch, 0)
  held = batch | {"support": describe(first, batch["image"])}
  compatible = [fit(f"compatible {i}", held, i) for i in (1, 2)]
  independent = [fit(f"independent {i}", batch, i) for i in (1, 2)]

  # Third stage: the first model is held to where it was, as the others are.
  known = train.image[-PAIRS:]
  rows = np.resize(np.arange(PAIRS, dtype=np.int32), classes)
  pairs = held | {"query": changed(known, seed + 1000)[rows], "reference": known[rows]}
  pairs["source"] = np.stack([rows, rows], 1)
  tuned = [
    fit(f"pairs {i}", pairs, 3 + i, steps=last_steps, start=state)
    for i, (_, state) in enumerate([first, *compatible])
  ]

  of = lambda models: [[describe(model, x) for x in (queries, references)] for model in models]
  one, held_ones, own_ones = of([first]), of(compatible), of(independent)
  judge = lambda sides: evaluate.copy_detection(*sides, partner)
  numbers = {"first": judge(one[0]) | {"cross_ap": judge(one[0])["micro_ap"]}}
  for name, models in {"compatible": held_ones, "independent": own_ones}.items():
    for i, (query, reference) in enumerate(models, 1):
      cross = judge((query, one[0][1]))["micro_ap"]
      numbers[f"{name}_{i}"] = judge((query, reference)) | {"cross_ap": cross}
  numbers["ensemble"] = judge(average(one + held_ones))
  numbers["mixed_ensemble"] = judge(average(one + own_ones))
  numbers["concatenated"] = judge(side_by_side(one + own_ones))
  numbers["progressive"] = judge(average(of(tuned)))
  numbers["untrained"] = judge(of([fit("untrained", batch, 0, steps=0)])[0])
  numbers["raw_pixels"] = judge(
    [claim.scaled_photos(x / 255).reshape(len(x), -1) for x in (queries, references)]
  )
  return numbers


def average(models: list[list[np.ndarray]]) -> list[np.ndarray]:
  """Mean of the models' unit descriptors, of queries and of references."""
  return [np.mean([unit_rows(x) for x in side], 0) for side in zip(*models, strict=True)]


def side_by_side(models: list[list[np.ndarray]]) -> list[np.ndarray]:
  """The models' unit descriptors in one, of queries and of references."""
  return [np.concatenate([unit_rows(x) for x in side], 1) for side in zip(*models, strict=True)]


def describer(classes: int) -> Objective:
  """FCPL on a dense net."""
  encoder = Flat(MLP(SHAPE, norm="layer"))
  return fcpl(
    encoder, classes, copy, margin=0.1, scale=SCALE, hold=HOLD,
    normalize=claim.scaled_photos,
  )  # fmt: skip


def copy(key: jax.Array, image: jax.Array) -> jax.Array:
  """A copy of an image: turned, moved, zoomed, recoloured and noisy."""
  k_map, k_colour, k_noise = jax.random.split(key, 3)
  matrix = random_affine(
    k_map, *image.shape[:2], degrees=20, translate=0.1, scale=(1.0, 1.3)
  )  # fmt: skip
  image = jitter(k_colour, warp(image, matrix), brightness=0.4, contrast=0.4)
  return jnp.clip(gaussian_noise(k_noise, image, std=0.05), 0, 1)


@jax.jit
def copies_of(key: jax.Array, image: jax.Array) -> jax.Array:
  """A copy of each image."""
  return jax.vmap(copy)(jax.random.split(key, len(image)), image)


def changed(image: np.ndarray, seed: int) -> np.ndarray:
  """Copies as bytes."""
  copies = copies_of(jax.random.key(seed), jnp.asarray(image, jnp.float32) / 255)
  return np.round(255 * np.asarray(copies)).astype(np.uint8)


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("fcpl", study, settings, described=DATA)


if __name__ == "__main__":
  run_app(main)
