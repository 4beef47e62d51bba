"""Mutual information: which estimator errs where, on variables whose information is known.

  python -m experiments.information

draws 1,000 pairs of each of thirteen tasks (`repjax.measure.information_tasks`, up to five
coordinates a side, 0.22 to 1.71 nats) and lets estimators answer: the Gaussian formula, both KSG,
and critics that are trained briefly on one half and read on the other by InfoNCE, Donsker and
Varadhan's (MINE), NWJ, Jensen-Shannon and SMILE. All but the formula see coordinates whose tails
are drawn in by asinh, which changes no information. ``error`` is the mean absolute error in nats
over tasks, ``error_TASK`` that of one; ``zero`` always answers 0.

A seed takes 45 seconds of one core, 16 once compiled. Over three seeds the error is 0.14 for both
KSG, 0.21 for the formula, 0.24 for MINE, 0.27 for InfoNCE, 0.35 for SMILE, 0.38 for NWJ, 1.08 for
Jensen-Shannon, 0.62 for ``zero``. KSG is within 0.08 up to two coordinates a side and misses 0.35
of 1.02 nats of two pairs among five; the formula is within 0.04 on what is normal and misses 0.9
of spirals. Critics learn by heart from 500 pairs: MINE is within 0.05 on normal pairs and their
maps, and on spirals all are worse than ``zero``. What is exponential in held-out scores, NWJ and
Jensen-Shannon, fails on long tails.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from experiments import claim
from repjax import measure
from repjax.train.launch import Settings, run_app

PAIRS, DIM, STEPS, BATCH, WIDTH = 1000, 5, 300, 125, 64
DATA = "1,000 pairs of each of 13 synthetic tasks of known mutual information, drawn anew by seed"
# What a critic is trained by, and what is read from it.
CRITICS = {
  "info_nce": (measure.info_nce_bound, measure.info_nce_bound),
  "mine": (measure.donsker_varadhan_bound, measure.donsker_varadhan_bound),
  "nwj": (measure.nwj_bound, measure.nwj_bound),
  "jensen_shannon": (measure.jensen_shannon_divergence, measure.jensen_shannon_bound),
  "smile": (measure.jensen_shannon_divergence, measure.smile_bound),
}


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Every estimator on every task."""
  steps = claim.steps_of(settings, STEPS)
  tasks = {n: t for n, t in measure.information_tasks().items() if n != "normal-dense-50-50"}
  pairs = {}
  for i, (name, task) in enumerate(tasks.items()):
    pairs[name] = task.sample(jax.random.fold_in(jax.random.key(seed), i), PAIRS)
  # Coordinates of zeros change neither distances nor critics: all tasks have one shape.
  padded = jax.tree.map(lambda *x: jnp.stack(x), *[tuple(map(wide, p)) for p in pairs.values()])
  gaussian = jax.jit(lambda x, y: measure.gaussian_information(x, y, unbiased=True))
  answers = {
    "gaussian": [gaussian(x, y) for x, y in pairs.values()],
    "ksg": jax.jit(lambda x, y: lax.map(lambda z: measure.ksg_information(*z), (x, y)))(*padded),
    "ksg_2": jax.jit(lambda x, y: lax.map(lambda z: measure.ksg_information_2(*z), (x, y)))(
      *padded
    ),
  }
  keys = jax.random.split(jax.random.key(seed + 100), len(tasks))
  for objective in dict.fromkeys(trained for trained, _ in CRITICS.values()):
    reads = {name: read for name, (trained, read) in CRITICS.items() if trained is objective}
    fit = jax.jit(
      jax.vmap(lambda x, y, k, o=objective, r=reads: neural(x, y, k, o, tuple(r.values()), steps))
    )
    answers |= dict(zip(reads, fit(*padded, keys), strict=True))
  answers["zero"] = np.zeros(len(tasks))
  truth = np.array([task.information for task in tasks.values()])
  numbers = {}
  for method, told in answers.items():
    error = np.abs(np.asarray(told) - truth)
    each = {f"error_{name}": float(e) for name, e in zip(tasks, error, strict=True)}
    numbers[method] = {"error": float(np.mean(error)), **each}
  return numbers


def wide(x: jax.Array) -> jax.Array:
  """Coordinates of one scale, their tails drawn in, and zeros up to `DIM`."""
  x = x - jnp.median(x, 0, keepdims=True)
  x = x / (1.5 * jnp.median(jnp.abs(x), 0, keepdims=True))  # some have no standard deviation
  return jnp.pad(jnp.arcsinh(x), ((0, 0), (0, DIM - x.shape[1])))


def neural(x: jax.Array, y: jax.Array, key: jax.Array, objective, reads, steps: int) -> list:
  """Trains a critic on every other pair and reads it on the rest, batch by batch."""
  optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, steps))
  (x, x_test), (y, y_test) = ((z[::2], z[1::2]) for z in (x, y))
  k_params, k_rows = jax.random.split(key)

  def scores(params, x, y):
    # Separable: the product of two small nets' features.
    side = lambda own, z: jax.nn.relu(z @ own[0] + own[1][None]) @ own[2]
    return side(params[0], x) @ side(params[1], y).T

  def start(key):
    keys = jax.random.split(key, 3)
    first, bias = jax.random.normal(keys[0], (DIM, WIDTH)), jax.random.normal(keys[1], (WIDTH,))
    return first, bias, jax.random.normal(keys[2], (WIDTH, 16)) / WIDTH

  params = tuple(map(start, jax.random.split(k_params)))

  def step(carry, key):
    params, opt = carry
    rows = jax.random.choice(key, len(x), (BATCH,), replace=False)
    grads = jax.grad(lambda p: -objective(scores(p, x[rows], y[rows])))(params)
    updates, opt = optimizer.update(grads, opt, params)
    return (optax.apply_updates(params, updates), opt), None

  keys = jax.random.split(k_rows, steps)
  (params, _), _ = lax.scan(step, (params, optimizer.init(params)), keys)
  parts = zip(jnp.split(x_test, 4), jnp.split(y_test, 4), strict=True)
  parts = [scores(params, *part) for part in parts]
  return [jnp.mean(jnp.stack([read(part) for part in parts])) for read in reads]


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("information", study, settings, described=DATA)


if __name__ == "__main__":
  run_app(main)
