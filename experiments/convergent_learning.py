"""Convergent learning: do two nets from different seeds have the same units?

  python -m experiments.convergent_learning

trains two convolutional nets of digits from different seeds and looks for the channels of one among
those of the other, layer by layer: matches are made on train images, and what is told is of test
images. ``matched`` is the mean correlation of partners, one to one, over the three layers;
``best`` that of the best partner, who may be shared; ``unmatched`` the share of channels whose
partner has a correlation below 0.5. ``explained`` is the share of a channel's variance that the
other net's predict, by the lasso from ``units`` of them (``sparse``), from all (``dense``) and from
the partner alone (``convergent_learning``). ``joint`` is the share of channels in groups of both
nets, by spectral clustering of the last layer. In ``permuted`` the second net sees the images in
another order; ``untrained`` are the nets as they start.

A seed takes 20 seconds of one core. Over three seeds partners have a correlation of 0.544, permuted
0.001, untrained 0.397 (0.511 in the first layer, 0.348 in the last, where trained nets have 0.562
and 0.548); 0.375, 0.458 and 0.354 of the channels have no match in the first, second and third
layer. A partner alone explains 0.347 of a channel's variance, 11 of 24 channels by the lasso 0.707,
all of them 0.773: as in the paper, nets agree on subspaces rather than on units.
"""

import jax
import numpy as np
import optax

from experiments import claim
from repjax import data, measure
from repjax.encoders import ConvNet
from repjax.learners import by_gradient, supervised
from repjax.train.launch import Settings, run_app

DIMS, ROWS, PENALTY, GROUP, ALIKE = (16, 24, 32), 8000, 0.05, 4, 0.5
DATA = (
  "digits, 8x8, 1,297 train, 500 test; pixels in [0, 1], less 0.3, divided by 0.37; 8,000 places "
  "in the maps of each split"
)


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Trains two nets and matches their channels."""
  steps = claim.steps_of(settings, 400)
  digits = data.load("digits")
  arrays = {"image": digits.train.image, "label": digits.train.label}
  objective = supervised(ConvNet(DIMS), 10, claim.shift_and_noise, normalize=claim.centred_digits)
  learner = by_gradient(objective, optax.adam(2e-3))
  encode = jax.jit(lambda state, image: learner.encode(state, image).layers)
  rng = np.random.default_rng(seed)

  def units(steps):
    """``[net][split][layer]``, channels at the same places of the same images."""
    places = [
      [rng.integers(0, len(split) * side**2, ROWS) for side in (8, 4, 2)]
      for split in (digits.train, digits.test)
    ]
    for own in (2 * seed, 2 * seed + 1):
      state = claim.fit(learner, arrays, steps=steps, batch_size=128, seed=own)
      yield [
        [
          np.asarray(x).reshape(-1, x.shape[-1])[rows]
          for x, rows in zip(encode(state, split.image), chosen, strict=True)
        ]
        for split, chosen in zip((digits.train, digits.test), places, strict=True)
      ]

  first, second = units(steps)
  numbers = {"convergent_learning": matches(first, second)}
  order = rng.permutation(ROWS)
  shuffled = [[x[order] for x in split] for split in second]
  numbers["permuted"] = matches(first, shuffled)
  numbers["untrained"] = matches(*units(0))
  sparse = lambda x, y: measure.sparse_map(x, y, penalty=PENALTY)
  for name, fit in (("sparse", sparse), ("dense", measure.affine_map)):
    numbers[name] = predictions(first, second, jax.jit(fit))
    numbers[f"permuted {name}"] = predictions(first, shuffled, jax.jit(fit))
  return numbers


def matches(first, second) -> dict[str, float]:
  """Partners by train images, and their correlation on test images.

  Args:
    first: ``[split][layer]`` of a net, each ``[rows, channels]``.
    second: of the other.

  Returns:
    Numbers over all layers, and of each.
  """
  numbers, table = {}, []
  for layer, (train, other, test, other_test) in enumerate(
    zip(first[0], second[0], first[1], second[1], strict=True), 1
  ):
    chosen = np.asarray(measure.unit_correlation(train, other))
    held_out = np.asarray(measure.unit_correlation(test, other_test))
    partner, _ = measure.one_to_one(chosen)
    best, _ = measure.semi_matching(chosen)
    own = np.arange(len(chosen))
    matched = held_out[own, partner]
    row = {
      "matched": matched.mean(),
      "best": held_out[own, np.asarray(best)].mean(),
      "unmatched": np.mean(matched < ALIKE),
      "explained": np.mean(matched**2),
    }
    table.append(row)
    numbers |= {f"{key}_{layer}": float(value) for key, value in row.items()}
  mean = {key: float(np.mean([row[key] for row in table])) for key in table[0]}
  count = 2 * DIMS[-1] // GROUP
  groups = measure.unit_clusters(first[0][-1], second[0][-1], clusters=count)
  shared = np.intersect1d(*groups)
  joint = np.mean(np.isin(np.concatenate(groups), shared))
  return mean | {"joint": float(joint)} | numbers


def predictions(first, second, fit) -> dict[str, float]:
  """Variance of the first net's channels that maps from the second's explain on test images.

  Args:
    first: ``[split][layer]`` of a net, each ``[rows, channels]``.
    second: of the other.
    fit: ``(source, target) -> map``.

  Returns:
    ``explained`` and ``units`` (weights that are not 0 a channel), over all layers and of each.
  """
  numbers = {"explained": [], "units": []}
  for train, other, test, other_test in zip(first[0], second[0], first[1], second[1], strict=True):
    found = fit(other, train)
    error = np.mean((np.asarray(measure.apply_map(found, other_test)) - test) ** 2, 0)
    alive = test.std(0) > 1e-6
    numbers["explained"].append(np.mean(1 - error[alive] / test.var(0)[alive]))
    numbers["units"].append(np.mean(np.count_nonzero(found.matrix, 0)))
  layers = {f"{k}_{i}": float(x) for k, row in numbers.items() for i, x in enumerate(row, 1)}
  return {key: float(np.mean(row)) for key, row in numbers.items()} | layers


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("convergent_learning", study, settings, described=DATA)


if __name__ == "__main__":
  run_app(main)
