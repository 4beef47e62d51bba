"""Every backbone: one recipe, one budget, accuracy beside parameters, arithmetic and speed.

  python -m experiments.compare_backbones --data=folder:data/cifar10

trains small nets of each kind as classifiers of CIFAR-10, from scratch, on 10,000 images at 16x16
pixels, which are cropped and flipped: little data, where the habits of a net matter. ViT and ResNet
are the nets to compare with, raw pixels by their 20 nearest neighbours the control. Sizes are
chosen for some 200,000 parameters each. ``images_per_second`` is of training, compilation left out.

  python -m experiments.compare_backbones --data=folder:data/cifar10 --backbones=swin,vit --seeds=0

runs some of them; what is on record is not run again. A picture of the table lies beside the
record.

A net takes two to three minutes of one core. Over three seeds GLNet has 0.558, ConvNeXt V2 0.535,
ConvNeXt 0.534, DHVT 0.533, ResNet 0.531, DynPerceiver 0.513, ViT 0.509, CSWin 0.507, Perceiver
0.498, CrossViT 0.471, TNT 0.467, Swin 0.461, pixels 0.404, with standard errors of 0.006 or less,
but for TNT's, 0.010. Images a second from 247 (DHVT) to 2,684 (CSWin).
"""

import functools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import claim, contest
from experiments.records import spelt
from repjax import data, encoders, evaluate, learners
from repjax.augment import crop_flip, normalize
from repjax.train import launch
from repjax.train.flops import count_flops
from repjax.train.launch import Settings, run_app

TRAIN, TEST, BATCH, STEPS, TIMED = 10_000, 5_000, 64, 1500, 20
_E = encoders
#: Small nets of each kind, for images of 16 pixels.
BACKBONES = {
  "vit": lambda: _E.ViT(2, 64, 4, 4),
  "resnet": lambda: _E.ResNet((1, 1, 1), False, width=24, stem="cifar"),
  "convnext": lambda: _E.ConvNeXt((2, 2), 48, layer_scale=1.0, patch_size=2),
  "convnextv2": lambda: _E.ConvNeXt((2, 2), 48, grn=True, patch_size=2),
  "swin": lambda: _E.Swin((2, 2), 40, 2, window=4, patch_size=2),
  "cswin": lambda: _E.CSWin(40, (2, 2), (1, None), (2, 4)),
  "crossvit": lambda: _E.CrossViT((2, 4), (32, 64), (1, 1), (4, 4), 2),
  "tnt": lambda: _E.TNT(4, 64, 3, 4, 16, 2, 2),
  "dhvt": lambda: _E.DHVT(2, 64, 4, 4),
  "glnet": lambda: _E.GLNet((1, 2), 40, ("glmix", "attention"), slots=16, head_dim=8, patch_size=2),
  "dyn_perceiver": lambda: _E.DynPerceiver(
    (1, 1), width=32, stem="cifar", latents=16, latent_depths=(1, 1), heads=(1, 2), grid=8, exits=()
  ),
  "perceiver": lambda: _E.Perceiver(16, 96, 2, 2, 4, 8),
}
CONTROL = "raw_pixels"

flags.DEFINE_list("backbones", sorted(BACKBONES), "Which; the control always runs.")


def main(settings: Settings) -> None:
  """Runs what is not on record yet, and shows all of it."""
  launch.use_compile_cache(settings)
  if unknown := sorted(set(settings.backbones) - BACKBONES.keys()):
    raise ValueError(
      f"--backbones={','.join(unknown)} is unknown; choose of {', '.join(sorted(BACKBONES))}"
    )
  path = Path(settings.results or "runs/compare_backbones.json")
  command = spelt("python -m experiments.compare_backbones", settings, ("backbones", "seeds"))
  part = functools.cache(
    lambda seed: claim.part_of_data(settings, train=TRAIN, test=TEST, seed=seed)
  )

  def study(name, seed):
    train, test = part(seed)
    numbers = _numbers(name, seed, train, test, claim.steps_of(settings, STEPS))
    settings.check_all_read()
    shape = "x".join(map(str, train.image_shape))
    return numbers, f"{settings.data}: {len(train)} train, {len(test)} test, seen at {shape}"

  claim.run_each(
    path,
    command,
    [(name, seed) for seed in claim.seeds(settings) for name in [CONTROL, *settings.backbones]],
    study,
    metric="accuracy",
    title="accuracy",
    controls=(CONTROL,),
  )


def _numbers(name, seed, train: data.Arrays, test: data.Arrays, steps: int) -> dict[str, float]:
  """Trains a net and tells the test images by it."""
  if name == CONTROL:
    bank, held = (evaluate.pixels([{"image": x.image, "label": x.label}]) for x in (train, test))
    return {"accuracy": evaluate.knn(bank, held, k=(20,))["knn_20"]}
  mean, std = data.channel_statistics(train)
  encoder = BACKBONES[name]()
  objective = learners.supervised(
    encoder,
    int(train.label.max()) + 1,
    crop_flip(train.image_shape[0], min_area=0.5),
    normalize=lambda image: normalize(image, mean, std),
  )
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), contest.warmed_adamw(2e-3, steps))
  learner = learners.by_gradient(objective, optimizer)
  arrays = {"image": train.image, "label": train.label}
  batch = min(BATCH, len(train))
  state = claim.fit(learner, arrays, steps=steps, batch_size=batch, seed=seed, progress=name)
  head = jax.tree.map(np.asarray, state.params["head"])
  features = claim.features(learner.encode, state, test.image)
  answers = np.argmax(features @ head["kernel"] + head["bias"], 1)
  variables = {"params": state.params["encoder"], **state.extra}
  image = jax.ShapeDtypeStruct((1, *train.image_shape), jnp.float32)
  return {
    "accuracy": float(np.mean(answers == test.label)),
    "parameters": sum(x.size for x in jax.tree.leaves(state.params["encoder"])),
    "million_multiply_adds": count_flops(encoder.apply, variables, image) / 2e6,
    "images_per_second": _speed(learner, state, {k: v[:batch] for k, v in arrays.items()}),
  }


def _speed(learner: learners.Learner, state, batch) -> float:
  """Images a second of updates, once they are compiled."""
  update, key = jax.jit(learner.update), jax.random.key(0)
  step = lambda state: jax.block_until_ready(update(state, batch, key)[0])
  state = step(state)
  start = time.perf_counter()
  for _ in range(TIMED):
    state = step(state)
  return TIMED * len(batch["label"]) / (time.perf_counter() - start)


if __name__ == "__main__":
  run_app(main)
