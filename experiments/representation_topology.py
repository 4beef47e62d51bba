"""tRSA: which layer is it, by its geometry, or by its topology?

  python -m experiments.representation_topology

trains four small convolutional nets of digits from different seeds and asks of each layer of one
which layer of another it is, seen by a few noisy units: 24 of its units on 30 images, with Gaussian
noise of half the layer's standard deviation, of twice (``noisy``), or none (``clean``). The answer
is the most similar layer of another net, of which all units are seen. ``accuracy`` is the share of
right answers over all pairs of nets and 20 draws of units, noise and test images; chance is 1 in 6.
``trsa`` compares geo-topological matrices with the quantiles that answer best on train images, in a
grid of which (0, 1) is plain ``rsa``; ``rsa_rank`` compares ranks, ``cka`` is linear and unbiased.
``untrained`` is tRSA between the nets as they start, and each of ``trsa at`` is one pair of
quantiles.

A seed takes 40 seconds of one core. tRSA matches RSA here and does not beat it. Over three seeds
``trsa`` tells 0.426, ``rsa`` 0.430, ``cka`` 0.420 and ``untrained`` 0.215; without noise 0.453,
0.438, 0.429 and 0.202, with large dissimilarities made equal and small ones left; with much
noise 0.245, 0.253, 0.284 and 0.186. The topology alone, a graph at the median, has 0.382.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import claim
from repjax import data, measure
from repjax.encoders import ConvNet
from repjax.learners import by_gradient, supervised
from repjax.train.launch import Settings, run_app

NETS, DIMS = 4, (16, 24, 32, 32, 32, 32)
UNITS, IMAGES, DRAWS = 24, 30, 20
NOISES = {"accuracy": 0.5, "clean": 0.0, "noisy": 2.0}
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
GRID = [(low, high) for low in LEVELS for high in LEVELS if low <= high and low < 1 and high > 0]
DATA = "digits, 8x8, 1,297 train, 500 test; pixels in [0, 1], less 0.3, divided by 0.37"


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Trains the nets, chooses quantiles on train images and identifies layers on test images."""
  steps = claim.steps_of(settings, 300)
  digits = data.load("digits")
  arrays = {"image": digits.train.image, "label": digits.train.label}
  objective = supervised(ConvNet(DIMS), 10, claim.shift_and_noise, normalize=claim.centred_digits)
  learner = by_gradient(objective, optax.adam(1e-3))
  encode = jax.jit(lambda state, image: learner.encode(state, image).layers)
  key = jax.random.key(seed)

  def layers(steps):
    """``[nets, n, units]`` of each layer and split, in units of the layer's deviation."""
    options = {"steps": steps, "batch_size": 128}
    states = [claim.fit(learner, arrays, seed=NETS * seed + i, **options) for i in range(NETS)]
    for split in (digits.train, digits.test):
      each = [[x.reshape(len(x), -1) for x in encode(s, split.image[:500])] for s in states]
      yield [jnp.stack([x / jnp.std(x) for x in layer]) for layer in zip(*each, strict=True)]

  (train, test), (_, start) = layers(steps), layers(0)
  numbers = {}
  for metric, noise in NOISES.items():
    chosen = identify(train, noise, jax.random.fold_in(key, 0))
    found, before = (identify(x, noise, jax.random.fold_in(key, 1)) for x in (test, start))
    best = max(GRID, key=lambda pair, chosen=chosen: chosen[name(pair)])
    table = {
      "trsa": found[name(best)],
      "rsa": found[name((0.0, 1.0))],
      "rsa_rank": found["rsa_rank"],
      "cka": found["cka"],
      "untrained": before[name(best)],
      **{name(pair): found[name(pair)] for pair in GRID},
    }
    for method, value in table.items():
      numbers.setdefault(method, {})[metric] = float(value)
    numbers["trsa"] |= {f"{metric}_low": best[0], f"{metric}_high": best[1]}
  return numbers


def name(pair: tuple[float, float]) -> str:
  """Of a pair of quantiles."""
  return f"trsa at {pair[0]} {pair[1]}"


def identify(maps: list[jax.Array], noise: float, key: jax.Array) -> dict[str, float]:
  """Share of layers that each measure tells.

  Args:
    maps: ``[nets, n, units]`` each.
    noise: standard deviation of what is added to the units that are seen.
    key: of units, noise and images.

  Returns:
    Accuracy by measure.
  """
  measures = {name(pair): None for pair in GRID} | {"rsa_rank": None, "cka": None}
  right = dict.fromkeys(measures, 0.0)
  for draw in jax.random.split(key, DRAWS):
    similar = jax.tree.map(np.asarray, _similarities(maps, noise, draw))
    for method, matrix in similar.items():  # [seen net, seen layer, other net, layer]
      apart = ~np.eye(len(matrix), dtype=bool)[:, None].repeat(len(maps), 1)
      answer = matrix.argmax(-1)[apart]
      truth = np.broadcast_to(np.arange(len(maps))[None, :, None], apart.shape)[apart]
      right[method] += np.mean(answer == truth) / DRAWS
  return right


@jax.jit
def _similarities(maps, noise, key):
  k_image, *keys = jax.random.split(key, 1 + 2 * len(maps))
  rows = jax.random.permutation(k_image, maps[0].shape[1])[:IMAGES]
  clean = [x[:, rows] for x in maps]

  def seen(x, k_unit, k_noise):
    """Some noisy units of each net's layer."""
    score = jax.random.uniform(k_unit, (x.shape[0], x.shape[2]))
    units = jnp.argsort(score, 1)[:, :UNITS]
    few = jnp.take_along_axis(x, units[:, None], 2)
    return few + noise * jax.random.normal(k_noise, few.shape)

  noisy = [
    seen(x, *pair) for x, pair in zip(clean, zip(keys[::2], keys[1::2], strict=True), strict=True)
  ]
  of_all = lambda of, arrays: jnp.stack([jax.vmap(of)(x) for x in arrays], 1)  # [net, layer, ...]
  rdms = [of_all(measure.euclidean_rdm, x) for x in (noisy, clean)]

  def unit(x):
    x = x - jnp.mean(x, -1, keepdims=True)
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)

  def correlations(of):
    first, second = (unit(jax.vmap(jax.vmap(of))(x)) for x in rdms)
    return jnp.einsum("ilp,jmp->iljm", first, second, precision="highest")

  found = {
    name(pair): correlations(functools.partial(measure.geo_topological, low=pair[0], high=pair[1]))
    for pair in GRID
  }
  found["rsa_rank"] = correlations(measure.ranks)
  gram = lambda x: measure.centre_gram(measure.linear_gram(x), unbiased=True).reshape(-1)
  first, second = (of_all(gram, x) for x in (noisy, clean))
  length = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
  found["cka"] = jnp.einsum("ilp,jmp->iljm", length(first), length(second), precision="highest")
  return found


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("representation_topology", study, settings, described=DATA)


if __name__ == "__main__":
  run_app(main)
