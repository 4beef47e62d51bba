"""OBoW: is a vocabulary that the teacher renews worth more than one that stays?

  python -m experiments.obow --data=npz:data/mnist.npz --results=results/obow_mnist.json

trains one small ResNet by OBoW, by OBoW whose vocabulary stays once it is full, and by SimCLR, on
the same crops for as many updates, and reads digits off the pooled features with a linear probe.

A seed takes three minutes of one core. Over three seeds it is not shown: OBoW's probe tells 0.690
of the digits, that of a vocabulary that stays 0.729, SimCLR's 0.846, the untrained net's 0.556 and
that of pixels 0.879.
"""

import functools

import jax
import numpy as np
import optax

from experiments import claim
from repjax import augment, evaluate
from repjax.encoders import MLP, ResNet
from repjax.evaluate import Embedded
from repjax.learners import Crops, Objective, by_gradient, obow, rising_momentum, simclr
from repjax.train.launch import Settings, run_app

SIZE, WORDS, BATCH, STEPS = 16, 512, 64, 500
DATA = "MNIST, 12,000 train, 1,000 labelled, 2,000 test, a draw a seed; resized to 16x16"


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Probes every method, the encoder as it starts, and pixels."""
  steps = claim.steps_of(settings, STEPS)
  train, bank, test = claim.three_parts(settings, image_size=SIZE, seed=seed)

  def judge(encode):
    splits = [Embedded(encode(split["image"]), split["label"]) for split in (bank, test)]
    probe = evaluate.linear_probe(*splits, key=jax.random.key(seed), penalties=(1e-3, 1e-2, 1e-1))
    return {"linear": probe["linear"], "knn": evaluate.knn(*splits, k=(5,))["knn_5"]}

  def trained(name, steps):
    rate = optax.warmup_cosine_decay_schedule(0, 3e-3, STEPS // 10, max(steps, STEPS // 5))
    learner = by_gradient(objective(name, steps), optax.adamw(rate, weight_decay=1e-4))
    state = claim.fit(
      learner, train, steps=steps, batch_size=BATCH, seed=seed, progress=f"{name} {seed}"
    )
    return judge(functools.partial(claim.features, learner.encode, state))

  numbers = {name: trained(name, steps) for name in ("obow", "fixed_vocabulary", "simclr")}
  numbers["untrained"] = trained("obow", 0)
  numbers["raw_pixels"] = judge(lambda image: image.reshape(len(image), -1).astype(np.float32))
  return numbers


def objective(name: str, steps: int) -> Objective:
  """The method, on an encoder and crops that all share."""
  encoder = ResNet((1, 1), bottleneck=False, width=16, stem="cifar")
  crop = functools.partial(augment.random_resized_crop, size=SIZE, area=(0.3, 0.9))
  colours = functools.partial(augment.jitter, brightness=0.4, contrast=0.4)
  view = augment.compose(crop, colours)
  normalize = lambda image: augment.normalize(image, [0.13], [0.3])
  if name == "simclr":
    return simclr(encoder, MLP((64, 32)), view, temperature=0.3, normalize=normalize)
  return obow(
    encoder,
    [Crops(view, 2)],
    lambda key, image: image,
    words=WORDS,
    momentum=rising_momentum(0.97, max(steps, 1)),
    inverse_delta=10.0,
    kappa=5.0,
    # The mean distance has to settle within a short run.
    distance_momentum=0.9,
    # Full once, the vocabulary of the encoder as it starts is the one that stays.
    renew_steps=WORDS // BATCH if name == "fixed_vocabulary" else None,
    normalize=normalize,
  )


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("obow", study, settings, described=DATA)


if __name__ == "__main__":
  run_app(main)
