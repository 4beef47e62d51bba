"""SplitQuant's claim: layers split into three keep what 2 bits a weight take from a net.

  python -m experiments.splitquant --data=npz:data/mnist.npz

trains a dense net and a ConvNet on MNIST at 14x14 pixels and rounds their kernels and biases to
2, 3, 4, 6 and 8 bits: on one grid an array from the least to the largest weight (``minmax``), on
one from a percentile to its mirror image (``clipped``, of 95, 99 and 99.9 that which is best on
train images), and on three grids an array for its lower, middle and upper weights (``splitquant``).
``random_split`` has three grids too, for parts drawn at random. ``float32`` is rounded not at all,
``untrained`` not even trained.

``int2`` and so on are test accuracies, means of both nets, ``mlp_int2`` and ``convnet_int2`` those
of each; ``error_int2`` is the root mean square of what rounding moves kernels by, in standard
deviations of the weights. Three layers are three integers a weight: what 2 bits give when split
takes 6 bits a weight, or 4 if the part that a weight belongs to is stored beside one integer, and
is to be compared with ``int4`` and ``int6`` of ``minmax`` as well.

A seed takes 20 seconds of one core. Over three seeds 2 bits give 0.941 ± 0.005 when split, 0.660 on
one grid, 0.914 clipped and 0.769 split at random, of 0.964 in float32; weights move by 0.30
standard deviations, 0.64, 0.41 and 0.60. At 4 bits it is 0.963 against 0.959 and 0.962. For the
bits that are stored one grid is the better bargain: 4 bits a weight, unsplit, give 0.959, more than
2 bits split in three.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import claim
from repjax import data
from repjax.encoders import MLP, ConvNet, Flat
from repjax.learners import by_gradient, supervised
from repjax.train.launch import Settings, run_app
from repjax.trees import dequantize_layers, quantize_layers, split_by_size

NETS = {"mlp": Flat(MLP((128, 64))), "convnet": ConvNet((16, 32), dense=(32,))}
BITS, PERCENTILES = (2, 3, 4, 6, 8), (95.0, 99.0, 99.9)
STEPS, BATCH = 600, 128
DATA = (
  "MNIST at 14x14: 10,000 train images, drawn anew for each seed, of which 2,000 choose the "
  "percentile; 4,000 test images"
)


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Trains both nets, and rounds them in every way."""
  steps = claim.steps_of(settings, STEPS)
  train, test = claim.part_of_data(settings, train=10_000, test=4_000, seed=seed)
  batch = {"image": train.image, "label": train.label}
  few = data.Arrays(train.image[:2000], train.label[:2000])
  numbers = {}
  for name, net in NETS.items():
    objective = supervised(net, 10, claim.shift_and_noise, normalize=claim.scaled_digits)
    rate = optax.cosine_decay_schedule(3e-3, max(steps, 1))
    learner = by_gradient(objective, optax.adam(rate))
    state = claim.fit(learner, batch, steps=steps, batch_size=BATCH, seed=seed, progress=name)
    start = claim.fit(learner, batch, steps=0, batch_size=BATCH, seed=seed)

    def told(params, part=test, learner=learner, state=state):
      return claim.head_accuracy(learner, state._replace(params=params), part.image, part.label)

    found = round_all(state.params, told, lambda params, told=told: told(params, few), seed)
    for method, params in {"float32": state.params, "untrained": start.params}.items():
      found[method] = dict.fromkeys((f"int{bits}" for bits in BITS), told(params))
    for method, row in found.items():
      own = {f"{name}_{metric}": value for metric, value in row.items()}
      numbers[method] = numbers.get(method, {}) | own
  return {method: means(row) | row for method, row in numbers.items()}


def round_all(
  params: claim.Tree,
  tell: Callable[[claim.Tree], float],
  choose: Callable[[claim.Tree], float],
  seed: int,
) -> claim.Numbers:
  """Accuracy after each way of rounding, and how far weights move.

  Args:
    params: of a net.
    tell: its accuracy on test images.
    choose: its accuracy on train images.
    seed: of the control's parts.

  Returns:
    ``int{bits}`` and ``error_int{bits}`` of each way.
  """
  key = jax.random.key(seed)

  def at_random(x):
    part = jax.random.randint(key, x.shape, 0, 3)
    return jnp.stack([jnp.where(part == i, x, 0) for i in range(3)])

  numbers = {}
  for bits in BITS:
    clipped = [rounded(params, bits, percentile=p) for p in PERCENTILES]
    ways = {
      "minmax": rounded(params, bits),
      "clipped": max(clipped, key=choose),
      "splitquant": rounded(params, bits, split=split_by_size),
      "random_split": rounded(params, bits, split=at_random),
    }
    for method, back in ways.items():
      row = {f"int{bits}": tell(back), f"error_int{bits}": moved(params, back)}
      numbers[method] = numbers.get(method, {}) | row
  return numbers


def rounded(params: claim.Tree, bits: int, **options) -> claim.Tree:
  """Parameters after a round trip through integers."""
  return dequantize_layers(quantize_layers(params, bits=bits, **options))


def moved(params: claim.Tree, back: claim.Tree) -> float:
  """Root mean square of what kernels move by, each in its standard deviations."""
  pairs = zip(jax.tree.leaves(params), jax.tree.leaves(back), strict=True)
  shares = [np.mean((x - y) ** 2) / np.var(x) for x, y in pairs if x.ndim > 1]
  return float(np.sqrt(np.mean(shares)))


def means(row: dict[str, float]) -> dict[str, float]:
  """Of both nets."""
  metrics = dict.fromkeys(metric.partition("_")[2] for metric in row)
  return {m: float(np.mean([row[f"{name}_{m}"] for name in NETS])) for m in metrics}


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("splitquant", study, settings, described=DATA)


if __name__ == "__main__":
  run_app(main)
