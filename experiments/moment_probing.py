"""Moment probing: does a frozen net's distribution of tokens tell more than their mean?

  python -m experiments.moment_probing --data=npz:data/mnist.npz

trains a small vision transformer on five classes, freezes it, and fits probes to 1,000 images of
the other five: ``linear`` on the mean of the tokens, ``mlp`` with a hidden layer that makes it as
large as moment probing, and ``moment_probing`` on mean and second moments; ``untrained_linear`` and
``untrained_moments`` probe the transformer as it starts, ``raw_pixels`` the pixels by a linear one.
Each takes the learning rate, of three, that is best on 250 images apart. The paper claims that
moment probing beats the linear probe. ``parameters`` is the probe's size.

A seed takes 25 seconds of one core. Over three seeds moment probing has 0.799 ± 0.027, the linear
probe 0.717 ± 0.037 and the hidden layer of as many parameters 0.772 ± 0.031: in every seed 0.06 to
0.11 more than the linear and 0.02 to 0.03 more than the hidden layer, while seeds differ more, by
which classes are new. Of the transformer as it starts moments tell 0.659, the mean 0.424; pixels,
of digits that are centred, 0.914.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments import claim
from repjax.arrays import cross_entropy
from repjax.augment import to_float
from repjax.encoders import ViT
from repjax.heads import MomentProbing
from repjax.learners import Objective, by_gradient, supervised
from repjax.train.launch import Settings, run_app

STEPS, PROBE_STEPS, BATCH, RATES = 300, 200, 64, (1e-3, 3e-3, 1e-2)
DIM, CLASSES, FITTED, CHOSEN = 32, 5, 1_000, 250
DATA = (
  "MNIST, 14x14: 8,000 train, drawn anew for each seed as are the 5 classes whose images train the "
  "transformer; of the other 5 classes 1,000 to fit probes and 250 to choose on; 4,000 test, of "
  "which those of the other 5"
)


class OnPooled(nn.Module):
  """A probe of the mean of tokens, with a hidden layer or without."""

  hidden: int = 0

  @nn.compact
  def __call__(self, pooled: jax.Array, tokens: jax.Array) -> jax.Array:
    """Classifies; tokens have no part."""
    if self.hidden:
      pooled = nn.gelu(nn.Dense(self.hidden)(pooled))
    return nn.Dense(CLASSES)(pooled)


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Trains the transformer, freezes it, and fits the probes."""
  steps, probe_steps = (claim.steps_of(settings, count) for count in (STEPS, PROBE_STEPS))
  train, test = claim.part_of_data(settings, train=8_000, test=4_000, seed=seed)
  place = np.argsort(np.random.default_rng(seed).permutation(10)).astype(np.int32)
  y, y_test = place[train.label], place[test.label]
  old = y < CLASSES
  encoder = ViT(patch_size=2, dim=DIM, depth=2, heads=2, mlp_ratio=2)
  normalize = lambda image: (image - 0.13) / 0.3
  plain = supervised(encoder, CLASSES, lambda key, image: image, normalize=normalize)
  learner = by_gradient(plain, optax.adam(optax.cosine_decay_schedule(2e-3, max(steps, 1))))
  batch = {"image": train.image[old], "label": y[old]}
  fit = functools.partial(claim.fit, learner, batch, batch_size=BATCH, seed=seed, progress="net")

  rows = np.flatnonzero(~old)[: FITTED + CHOSEN]
  parts = [(train.image[rows], y[rows]), (test.image[y_test >= CLASSES], y_test[y_test >= CLASSES])]
  encode = jax.jit(learner.encode)

  def seen(state):
    return [frozen(encode, state, image, label - CLASSES) for image, label in parts]

  pixels = [
    {"pooled": flat(image), "tokens": np.zeros((len(image), 1, 1), np.float32), "label": label - 5}
    for image, label in parts
  ]
  trained, untrained = seen(fit(steps=steps)), seen(fit(steps=0))
  moments = MomentProbing(classes=CLASSES, dim=96, heads=4)
  probes = {
    "linear": (OnPooled(), trained),
    "mlp": (OnPooled(hidden=103), trained),
    "moment_probing": (moments, trained),
    "untrained_linear": (OnPooled(), untrained),
    "untrained_moments": (moments, untrained),
    "raw_pixels": (OnPooled(), pixels),
  }
  return {
    name: probe(module, *bank, steps=probe_steps, seed=seed, progress=name)
    for name, (module, bank) in probes.items()
  }


def probe(module: nn.Module, train, test, *, steps: int, **options) -> dict[str, float]:
  """Accuracy of a probe at the learning rate that is best on the last rows of the train part."""
  part = lambda rows: jax.tree.map(lambda x: x[rows], train)
  make = lambda rate: by_gradient(
    objective(module),
    optax.adam(lambda step: rate * optax.cosine_decay_schedule(1.0, max(steps, 1))(step)),
  )
  learner = claim.side_by_side(make, np.array(RATES, np.float32))
  states = claim.fit(learner, part(slice(FITTED)), steps=steps, batch_size=BATCH, **options)
  tell = jax.jit(lambda params, rows: module.apply(params, rows["pooled"], rows["tokens"]))
  score = lambda params, rows: float(np.mean(np.argmax(tell(params, rows), 1) == rows["label"]))
  every = [{"params": jax.tree.map(lambda x: x[i], states.params)} for i in range(len(RATES))]
  best = max(every, key=lambda params: score(params, part(slice(FITTED, None))))
  size = sum(leaf.size for leaf in jax.tree.leaves(best))
  return {"accuracy": score(best, test), "parameters": float(size)}


def objective(module: nn.Module) -> Objective:
  """Cross entropy of a probe."""

  def loss(params, extra, batch, key):
    logits = module.apply({"params": params}, batch["pooled"], batch["tokens"])
    return jnp.mean(cross_entropy(logits, batch["label"])), (extra, {})

  init = lambda key, batch: (module.init(key, batch["pooled"], batch["tokens"])["params"], {})
  encode = lambda params, extra, batch: module.apply(
    {"params": params}, batch["pooled"], batch["tokens"]
  )
  return Objective(init, loss, encode)


def frozen(encode, state, image: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
  """Mean and tokens of images, 250 at a time."""
  whole = np.resize(image, (-(-len(image) // 250) * 250, *image.shape[1:]))
  found = [encode(state, whole[i : i + 250]) for i in range(0, len(whole), 250)]
  pooled = np.concatenate([np.asarray(f.pooled) for f in found])[: len(image)]
  tokens = np.concatenate([np.asarray(f.tokens) for f in found])[: len(image)]
  return {"pooled": pooled, "tokens": tokens, "label": label}


def flat(image: np.ndarray) -> np.ndarray:
  """Pixels, about 0."""
  return np.asarray(to_float(jnp.asarray(image.reshape(len(image), -1)))) - 0.13


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("moment_probing", study, settings, described=DATA)


if __name__ == "__main__":
  run_app(main)
