"""DeeperCluster: rotations and clusters together, on an uncurated set of digits.

  python -m experiments.deepercluster --data=npz:data/mnist.npz

draws 4,000 MNIST digits with class k kept at 0.75^k of its number, so that nines are 13 times as
rare as noughts, and trains a small convolutional net in 5 rounds of 80 steps, clustering features
before each: rotation x 2 coarse x 10 fine clusters (``deepercluster``), rotation alone
(``rotation_alone``), 40 clusters of upright images (``deepcluster``). Features are the maps after
the second of three layers, averaged to a 3x3 grid; a linear probe learns from 500 balanced labels.

A seed takes half a minute of one core. Over three seeds the probe tells 0.925 ± 0.006 of the digits
after DeeperCluster, 0.922 after DeepCluster and 0.915 after rotation alone, 0.887 untrained, 0.846
of pixels: above both controls, within the noise of its parts.
"""

import functools

import jax
import numpy as np
import optax

from experiments import claim
from repjax import data, evaluate
from repjax.augment import affine_augment
from repjax.encoders import ConvNet
from repjax.learners import by_gradient, cluster_labels, deepercluster, restart_heads
from repjax.train.launch import Settings, run_app

ROUNDS, STEPS, BATCH, LABELS = 5, 80, 128, 500
METHODS = {
  "rotation_alone": {"turns": 4, "coarse": 1, "fine": 1},
  "deepcluster": {"turns": 1, "coarse": 1, "fine": 40},
  "deepercluster": {"turns": 4, "coarse": 2, "fine": 10},
}


def uncurated(arrays: data.Arrays, seed: int, size: int) -> np.ndarray:
  """Images in which class k is kept at 0.75^k."""
  rng = np.random.default_rng(seed)
  kept = rng.uniform(size=len(arrays.label)) < 0.75**arrays.label
  return arrays.image[kept][:size]


def alternate(learner, image, kind, *, steps, seed, name):
  """Clusters and trains in turns."""
  turns = kind["turns"]
  turned = np.stack([np.rot90(image, k, (1, 2)) for k in range(turns)], 1)
  few = {"image": image[:2]} | {k: np.zeros((2, turns)) for k in ("coarse", "fine", "weight")}
  few |= {k: few[k].astype(np.int32) for k in ("coarse", "fine")}
  state = jax.jit(learner.init)(jax.random.key(seed), few)

  def update(state, arrays, rows, step):
    batch = jax.tree.map(lambda x: x[rows], arrays)
    return learner.update(state, batch, jax.random.fold_in(jax.random.key(seed), step))[0]

  update = jax.jit(update, donate_argnums=0)
  embed = functools.partial(claim.features, learner.encode)
  clusters = {key: kind[key] for key in ("coarse", "fine")}
  for step in claim.count_steps(steps, f"{name} {seed}"):
    if step % STEPS == 0:
      features = embed(state, turned.reshape(-1, *image.shape[1:])).reshape(*turned.shape[:2], -1)
      labels = cluster_labels(features, **clusters, seed=seed + step)
      state = restart_heads(state)
      arrays = jax.device_put({"image": image, **labels})
    rows = data.indices(seed, step * BATCH, (step + 1) * BATCH, len(image))
    state = update(state, arrays, rows.astype(np.int32), step)
  return state


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Trains the three pretexts and probes each beside the untrained net and raw pixels."""
  train, test = claim.part_of_data(settings, train=12000, test=2000, seed=seed)
  image = uncurated(train, seed, 4000)
  labelled = slice(len(train.image) - LABELS, None)
  encoder = ConvNet((16, 32, 64))
  view = affine_augment(degrees=10, shear=5, noise=0.02)
  normalize = claim.scaled_digits
  key = jax.random.key(seed)

  def score(embed):
    bank = evaluate.Embedded(embed(train.image[labelled]), train.label[labelled])
    query = evaluate.Embedded(embed(test.image), test.label)
    numbers = evaluate.linear_probe(bank, query, key=key)
    numbers |= evaluate.few_shot(bank, query, key=key, shots=(5,))
    return {metric: numbers[metric] for metric in ("linear", "shot_5")}

  numbers = {"raw_pixels": score(lambda x: x.reshape(len(x), -1).astype(np.float32) / 255)}
  for name in ("untrained", *METHODS):
    kind = METHODS.get(name, METHODS["deepercluster"])
    learner = by_gradient(
      deepercluster(encoder, view, normalize=normalize, **kind), optax.adam(2e-3)
    )
    steps = claim.steps_of(settings, ROUNDS * STEPS) if name != "untrained" else 0
    state = alternate(learner, image, kind, steps=steps, seed=seed, name=name)
    numbers[name] = score(
      functools.partial(claim.features, claim.maps_of_layer(learner, 1, 2), state)
    )
  return numbers


def main(settings: Settings) -> None:
  """Runs the experiment."""
  described = (
    f"{settings.data}: 4,000 imbalanced train images, 500 balanced labels to a probe, 2,000 test, "
    "14x14x1"
  )
  claim.run("deepercluster", study, settings, described=described)


if __name__ == "__main__":
  run_app(main)
