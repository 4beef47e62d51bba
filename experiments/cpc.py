"""CPC on the rows of digits, and its bound where the information is known.

  python -m experiments.cpc --data=npz:data/mnist.npz

Rows of an image come one after another; from those so far, codes of those to come are picked out.
The state after the last row is compared, by a linear probe on 2,000 labelled digits, with that of a
net that is not trained, with as many principal components of the pixels, with the pixels, and with
the same net trained on the labels of 100 digits alone. On correlated Gaussians the bound of the
mutual information, the logarithm of the number of choices less the loss, stands beside the closed
form, ``-log(1 - rho**2) / 2`` nats a coordinate: below it, and close where the choices suffice.

A seed takes two and a half minutes of one core. Over three seeds the probe tells 0.741 ± 0.009 of
the digits after CPC and 0.737 untrained, 0.872 of principal components, 0.893 of pixels: on rows of
digits prediction teaches nothing that a recurrent net as drawn has not. With 100 labels the same
net reaches 0.654. The bound is 0.519 of 0.575 nats at a correlation of 0.5, and 3.113 of 3.321 at
0.9.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments import claim
from repjax import data, evaluate, losses
from repjax.augment import to_float
from repjax.encoders import GRU, Features, PatchMLP
from repjax.evaluate.embed import Embedded
from repjax.learners import by_gradient, cpc, supervised
from repjax.train.launch import Settings, run_app

STEPS, BATCH, DIM = 800, 64, 128
TRAIN, PROBE, TEST, FEW = 10_000, 2_000, 2_000, 100
CORRELATIONS = (0.5, 0.9)
COORDINATES, CHOICES = 4, 256


class Rows(nn.Module):
  """CPC's encoder and context as one net, for labels."""

  encoder: nn.Module
  context: nn.Module

  def __call__(self, image, *, train=False):
    states = self.context(self.encoder(image, train=train).tokens, train=train)
    return Features(states[:, -1], states, ())


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Linear probes of states, and bounds of known informations."""
  steps = claim.steps_of(settings, STEPS)
  dataset = data.load(settings.data, image_size=settings.image_size)
  train, test = (data.in_memory(part) for part in (dataset.train, dataset.test))
  rng = np.random.default_rng(seed)
  rows = rng.permutation(len(train.image))[:TRAIN]
  image, label = train.image[rows], train.label[rows]
  judged = rng.permutation(len(test.image))[:TEST]
  parts = (image[:PROBE], label[:PROBE]), (test.image[judged], test.label[judged])

  nets = PatchMLP((1, image.shape[2]), (DIM, DIM // 2)), GRU(DIM)
  objective = cpc(*nets, steps=4, temperature=1.0)
  learner = by_gradient(objective, optax.adam(1e-3))
  state = claim.fit(learner, {"image": image}, steps=steps, batch_size=BATCH, seed=seed)
  still = claim.fit(learner, {"image": image}, steps=0, batch_size=BATCH, seed=seed)
  few = {"image": image[:FEW], "label": label[:FEW]}
  taught = supervised(Rows(*nets), 10, lambda key, x: x)
  labels = by_gradient(taught, optax.adam(1e-3))
  taught_state = claim.fit(
    labels, few, steps=min(steps, 300), batch_size=min(BATCH, FEW), seed=seed
  )

  def told(encode):
    return [Embedded(encode(images), labels) for images, labels in parts]

  flat = lambda images: np.asarray(to_float(jnp.asarray(images))).reshape(len(images), -1)
  mean = flat(image).mean(0)
  axes = np.linalg.svd(flat(image)[:PROBE] - mean, full_matrices=False)[2][:DIM]
  encoders = {
    "cpc": functools.partial(claim.features, learner.encode, state),
    "untrained": functools.partial(claim.features, learner.encode, still),
    "pca": lambda images: (flat(images) - mean) @ axes.T,
    "raw_pixels": flat,
  }
  probe = lambda encode: evaluate.linear_probe(
    *told(encode), key=jax.random.key(seed), penalties=(1e-4, 1e-3, 1e-2, 1e-1)
  )
  numbers = {name: {"linear": probe(encode)["linear"]} for name, encode in encoders.items()}
  logits = lambda state, images: _class_logits(taught, state, images)
  guess = claim.features(logits, taught_state, parts[1][0]).argmax(1)
  numbers["supervised_100"] = {"linear": float(np.mean(guess == parts[1][1]))}
  for rho in CORRELATIONS:
    truth = -COORDINATES * np.log(1 - rho**2) / 2
    bound = information(rho, seed, min(steps, 800))
    numbers[f"gaussian_{rho}"] = {
      "bound": bound,
      "truth": float(truth),
      "gap": float(truth) - bound,
    }
  return numbers


def information(rho: float, seed: int, steps: int) -> float:
  """The bound, on fresh draws, of what one of two correlated Gaussians tells of the other.

  The best critic of Gaussians is quadratic: a code of the coordinates and their squares has it.
  """

  k_train, k_test = jax.random.split(jax.random.key(seed))
  params = _critic(rho, jax.random.split(k_train, steps))
  return float(np.log(CHOICES) - np.mean(_fresh(params, rho, jax.random.split(k_test, 50))))


def _loss(params, rho, key):
  x, noise = jax.random.normal(key, (2, CHOICES, COORDINATES))
  y = rho * x + jnp.sqrt(1 - rho**2) * noise
  quadratic = lambda v: jnp.concatenate([v, v**2, jnp.ones((CHOICES, 1))], 1)
  return jnp.mean(losses.cpc((quadratic(x) @ params)[:, None], quadratic(y)[:, None]))


_fresh = jax.jit(jax.vmap(_loss, (None, None, 0)))


@jax.jit
def _critic(rho, keys):
  optimizer = optax.adam(3e-2)

  def body(carry, key):
    params, opt = carry
    updates, opt = optimizer.update(jax.grad(_loss)(params, rho, key), opt, params)
    return (optax.apply_updates(params, updates), opt), None

  params = jnp.zeros((2 * COORDINATES + 1, 2 * COORDINATES + 1))
  return jax.lax.scan(body, (params, optimizer.init(params)), keys)[0][0]


def _class_logits(objective, state, images):
  head = state.params["head"]
  pooled = objective.encode(state.params, state.extra, images).pooled
  return pooled @ head["kernel"] + head["bias"][None]


def main(settings: Settings) -> None:
  """Runs the experiment."""
  described = (
    f"{settings.data}: {TRAIN} train digits without labels, {PROBE} of them with for the probe, "
    f"{TEST} of the test split; Gaussians of {COORDINATES} coordinates, {CHOICES} choices"
  )
  claim.run("cpc", study, settings, described=described)


if __name__ == "__main__":
  run_app(main)
