"""URPE: can a transformer with relative positions say where a token stands among equal ones?

  python -m experiments.urpe

trains transformers of two blocks on sequences of 32 equal tokens to tell the place of each: with
relative positions as a bias inside of the softmax (``bias``), with the Toeplitz factor outside of
it too (``urpe``), and with a position added to each token (``absolute``). By the paper's
proposition 2 the first cannot do better than chance, 1/32, whatever it learns. ``accuracy`` is on
tokens that training did not have.

A seed takes 15 seconds of one core. Over three seeds ``urpe`` and ``absolute`` are always right,
1.000; ``bias`` has 0.031, as an untrained transformer and chance have.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments import claim
from repjax.arrays import cross_entropy
from repjax.encoders import RelativeTransformer
from repjax.learners import Objective, by_gradient
from repjax.train.launch import Settings, run_app

LENGTH, WIDTH, STEPS, BATCH = 32, 16, 600, 16
DATA = (
  "sequences of 32 equal vectors of 16 normal entries, to be numbered; 2,000 vectors to train on, "
  "500 to test on"
)


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Trains with each kind of positions."""
  steps = claim.steps_of(settings, STEPS)
  rng = np.random.default_rng(seed)
  train, test = (rng.normal(size=(n, WIDTH)).astype(np.float32) for n in (2000, 500))
  numbers = {}
  for name in ("urpe", "absolute", "bias"):
    net = Numbered(RelativeTransformer(32, 2, 4, LENGTH, name == "urpe"), name == "absolute")
    schedule = optax.warmup_cosine_decay_schedule(0, 3e-3, steps // 10, steps)
    learner = by_gradient(objective(net), optax.adam(schedule))
    options = {"batch_size": BATCH, "seed": seed}
    state = claim.fit(learner, {"token": train}, steps=steps, **options)
    numbers[name] = {"accuracy": accuracy(learner, state, test)}
    if name == "urpe":
      start = claim.fit(learner, {"token": train}, steps=0, **options)
      numbers["untrained"] = {"accuracy": accuracy(learner, start, test)}
  return numbers


class Numbered(nn.Module):
  """A sequence of equal tokens through an encoder, and a linear guess of each token's place."""

  encoder: nn.Module
  absolute: bool

  @nn.compact
  def __call__(self, token: jax.Array) -> jax.Array:
    """Maps ``[batch, 16]`` to ``[batch, 32, 32]`` logits."""
    x = jnp.broadcast_to(token[:, None], (len(token), LENGTH, WIDTH))
    if self.absolute:  # what the first layer makes of it is a learned position
      place = jnp.broadcast_to(jnp.eye(LENGTH)[None], (len(token), LENGTH, LENGTH))
      x = jnp.concatenate([x, place], -1)
    return nn.Dense(LENGTH, name="out")(self.encoder(x).tokens)


def objective(net: Numbered) -> Objective:
  """Cross entropy of places."""

  def loss(params, extra, batch, key):
    logits = net.apply({"params": params}, batch["token"])
    place = jnp.broadcast_to(jnp.arange(LENGTH)[None], logits.shape[:2])
    return jnp.mean(cross_entropy(logits, place)), (extra, {})

  init = lambda key, batch: (net.init(key, batch["token"])["params"], {})
  return Objective(init, loss, lambda params, extra, token: net.apply({"params": params}, token))


def accuracy(learner, state, token: np.ndarray) -> float:
  """Share of places that are right."""
  logits = jax.jit(learner.encode)(state, token)
  return float(np.mean(np.argmax(logits, -1) == np.arange(LENGTH)[None]))


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("urpe", study, settings, described=DATA)


if __name__ == "__main__":
  run_app(main)
