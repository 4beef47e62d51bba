"""CLCA's claim: with a cache and a head over layers, few tokens do almost as well as all.

  python -m experiments.clca --data=npz:data/mnist.npz

trains small vision transformers on 2,000 images of MNIST. The second and third of four blocks each
keep a quarter of the patches, those that the class token attends to most, the others dropped
(``topk``) or fused into one (``evit``). Each is trained as it is, its last class token classified,
and with CLCA: a carrier token of each block is put back behind blocks that reduce, and class tokens
of three depths are aggregated. The plain nets keep so many patches more that they take no fewer
multiply-adds. ``evit_head`` has CLCA's head alone. Rivals are the net with all tokens and a linear
classifier of pixels.

Numbers are accuracy on test images, and multiply-adds of an image over those of the whole net.

A seed takes a minute and a half of one core. Over three seeds EViT with CLCA tells 0.706 ± 0.013
and without 0.575 ± 0.010, top-k 0.692 and 0.565, at no more multiply-adds, half of those of the
whole net, which has 0.592. Most of it is the head, which has batch norm: 0.679 by itself. All are
undertrained, of 2,000 images: a linear classifier of pixels has 0.899.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments import claim, contest
from repjax import select
from repjax.encoders import CLCA, ViT
from repjax.learners import by_gradient, supervised
from repjax.train.flops import count_flops
from repjax.train.launch import Settings, run_app

LAYERS, PATCHES, RATE = (1, 2), 49, 0.25
TRAIN, STEPS, BATCH = 2000, 250, 50
VIT = ViT(patch_size=4, dim=48, depth=4, heads=4, pool="cls", positions="learned")
DATA = (
  "MNIST: 2,000 images of the train split and 2,000 of the test split, drawn anew each seed; noise "
  "and shifts of up to one pixel"
)


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Trains each net by one recipe."""
  steps = claim.steps_of(settings, STEPS)
  train, _, test = claim.three_parts(settings, image_size=28, seed=seed)
  train = {name: array[:TRAIN] for name, array in train.items()}
  whole, numbers = multiply_adds(VIT), {}
  for name, net in nets().items():
    objective = supervised(net, 10, claim.shift_and_noise, normalize=claim.scaled_digits)
    learner = by_gradient(objective, contest.warmed_adamw(2e-3, steps))
    state = claim.fit(learner, train, steps=steps, batch_size=BATCH, seed=seed)
    numbers[name] = {
      "accuracy": claim.head_accuracy(learner, state, **test),
      "multiply_adds": multiply_adds(net) / whole,
    }
  return numbers | {"raw_pixels": {"accuracy": claim.pixel_accuracy(train, test, seed=seed)}}


def nets() -> dict[str, nn.Module]:
  """The nets that are compared."""
  found = {"whole_net": VIT}
  for name in ("evit", "topk"):
    parts = {"clca": (True, 2), "head": (False, 2)}
    for part, (cache, kernels) in parts.items():
      if name == "evit" or part == "clca":
        vit = reducing(name, registers=int(cache))
        found[f"{name}_{part}"] = CLCA(vit, LAYERS, cache=cache, kernels=kernels)
    wanted = multiply_adds(found[f"{name}_clca"])
    plain = (reducing(name, more) for more in range(PATCHES))
    found[name] = next(net for net in plain if multiply_adds(net) >= wanted)
  return found


def reducing(name: str, more: int = 0, registers: int = 0) -> ViT:
  """The net that keeps a quarter of its patches twice, and some more."""
  left, patches = {}, PATCHES
  for layer in LAYERS:
    left[layer] = patches = math.ceil(RATE * patches) + (name == "evit") + more
    patches -= more
  options = {"prefix": 1 + registers, "traced": False}
  if name == "evit":
    reduce = select.fuse_between(left, **options)
  else:
    choose = lambda layer, patches, left: select.top_attention(patches.attention, left)
    reduce = select.drop_between(choose, left, **options)
  return VIT.clone(registers=registers, reduce=reduce)


def multiply_adds(net: nn.Module) -> float:
  """Of one image."""
  image = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
  variables = jax.eval_shape(net.init, jax.random.key(0), image)
  return count_flops(lambda v, x: net.apply(v, x).pooled, variables, image) / 2


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("clca", study, settings, described=DATA)


if __name__ == "__main__":
  run_app(main)
