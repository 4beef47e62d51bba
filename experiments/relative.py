"""Relative representations: a head of one net on the features of another.

  python -m experiments.relative

trains encoders of digits by contrast, without labels: two of one kind from different seeds, and a
convolutional one. A linear head learned on one of them reads another, which it has never seen:
``stitched`` is its accuracy there, the mean of both ways between the first two, ``native`` that on
its own net, ``other_kind`` between a dense and the convolutional net. ``found`` is the share of
images whose nearest neighbour among the other's features is the same image. ``relative`` features
are cosines to 200 train images, the same for all nets; ``absolute`` ones each net's own,
standardised; ``affine`` and ``orthogonal`` map one net to the other by the same 200 images.

A seed takes 25 seconds of one core. Over three seeds ``relative`` has 0.894 stitched and 0.922
native, 0.856 between kinds; ``absolute`` 0.129 stitched, near chance, of 0.928 native; cosines of
``untrained`` nets 0.616. A test image is found by its relative features in 0.880 of cases, by
absolute ones in none. Where a map may be fitted for each pair of nets it does better: ``affine``
0.916, ``orthogonal`` 0.910. Pixels have 0.976 with a head of their own.
"""

import itertools

import jax
import numpy as np
import optax

from experiments import claim
from repjax import data, evaluate, losses, measure
from repjax.encoders import MLP, ConvNet, Flat
from repjax.learners import Crops, Learner, Network, by_gradient, joint_embedding
from repjax.train.launch import Settings, run_app

DIM, ANCHORS, TEMPERATURE = 32, 200, 0.2
DATA = "digits, 8x8, 1,297 train, 500 test; pixels in [0, 1], less 0.3, divided by 0.37"


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Trains three nets and stitches each to each."""
  steps = claim.steps_of(settings, 600)
  digits = data.load("digits")
  splits = digits.train, digits.test
  anchors = np.random.default_rng(seed).permutation(len(digits.train))[:ANCHORS]
  dense, conv = contrastive(Flat(MLP((256, DIM)))), contrastive(ConvNet((16, 32), (DIM,)))

  def spaces(steps):
    """Features of both splits in each of three nets."""
    options = {"steps": steps, "batch_size": 256}
    for learner, own in ((dense, 2 * seed), (dense, 2 * seed + 1), (conv, seed)):
      state = claim.fit(learner, {"image": digits.train.image}, seed=own, **options)
      yield [claim.features(learner.encode, state, split.image) for split in splits]

  trained, start = list(spaces(steps)), list(spaces(0))
  numbers = {
    "relative": compare([relative(net, anchors) for net in trained], splits),
    "absolute": compare([standardised(net) for net in trained], splits),
    "untrained": compare([relative(net, anchors) for net in start], splits),
  }
  for name, of in (("affine", affine), ("orthogonal", measure.orthogonal_map)):
    numbers[name] = compare([standardised(net) for net in trained], splits, through(of, anchors))
  pixels = [split.image.reshape(len(split.image), -1) / np.float32(255) for split in splits]
  numbers["raw_pixels"] = {"native": linear(pixels, pixels, splits)}
  return numbers


def relative(net: list[np.ndarray], anchors: np.ndarray) -> list[np.ndarray]:
  """Both splits by their cosines to anchors of the train split."""
  return [np.asarray(measure.relative_representation(x, net[0][anchors])) for x in net]


def standardised(net: list[np.ndarray]) -> list[np.ndarray]:
  """Both splits in the train split's units."""
  mean, scale = net[0].mean(0), net[0].std(0) + 1e-6
  return [(x - mean) / scale for x in net]


def affine(source: np.ndarray, target: np.ndarray) -> measure.LinearMap:
  """Least squares with a little ridge."""
  return measure.affine_map(source, target, ridge=1e-2)


def through(of, anchors):
  """What brings a net's features into another's space by a map fitted on anchors."""

  def bring(source, target):
    found = of(source[0][anchors], target[0][anchors])
    return [np.asarray(measure.apply_map(found, x)) for x in source]

  return bring


def compare(nets, splits, bring=lambda source, target: source) -> dict[str, float]:
  """Accuracies and retrieval between nets, the first two of one kind.

  Args:
    nets: train and test features of each of three.
    splits: their labels.
    bring: ``(source, target) -> source`` in the target's space.

  Returns:
    ``native``, ``stitched``, ``other_kind`` and ``found``.
  """
  ways = {
    (i, j): linear(nets[i], bring(nets[j], nets[i]), splits)
    for i, j in itertools.permutations(range(3), 2)
  }
  found = [own_is_nearest(bring(nets[j], nets[i])[1], nets[i][1]) for i, j in ((0, 1), (1, 0))]
  return {
    "native": float(np.mean([linear(net, net, splits) for net in nets[:2]])),
    "stitched": (ways[0, 1] + ways[1, 0]) / 2,
    "other_kind": float(np.mean([ways[way] for way in ((0, 2), (1, 2), (2, 0), (2, 1))])),
    "found": float(np.mean(found)),
  }


def linear(net, other, splits) -> float:
  """Accuracy on another net's test features of a head fitted to a net's train features."""
  banks = [
    evaluate.Embedded(x, split.label) for x, split in zip((net[0], other[1]), splits, strict=True)
  ]
  return evaluate.linear_probe(*banks, key=jax.random.key(0), penalties=(1e-2,))["linear"]


def own_is_nearest(query: np.ndarray, key: np.ndarray) -> float:
  """Share of rows whose nearest by cosine is the row of the same place."""
  cosine = measure.cosine_similarities(query, key)
  return float(np.mean(np.argmax(cosine, 1) == np.arange(len(query))))


def contrastive(encoder) -> Learner:
  """InfoNCE between two views, on the encoder's own output."""

  def loss(seen):
    z_1, z_2 = (view.projected for view in seen.online)
    one_way = lambda a, b: losses.info_nce(a, b, temperature=TEMPERATURE)
    return (one_way(z_1, z_2) + one_way(z_2, z_1)).mean() / 2

  objective = joint_embedding(
    Network(encoder),
    [Crops(claim.shift_and_noise, 2)],
    loss,
    normalize=claim.centred_digits,
  )
  return by_gradient(objective, optax.adam(1e-3))


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("relative", study, settings, described=DATA)


if __name__ == "__main__":
  run_app(main)
