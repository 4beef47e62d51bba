"""Claims of PiToMe and DivPrune: a trained net with fewer tokens, without training it again.

  python -m experiments.token_reduction --data=npz:data/mnist.npz

trains one small vision transformer to tell digits of 28x28 pixels on which pieces of other digits
lie, and then takes tokens from it, with its weights as they are. Merging is in each of the first
three of its four blocks, by PiToMe, ToMe or at random, at keep rates of 0.8, 0.65 and 0.5 a block.
Pruning is once, behind the attention of the first block, to 10, 25 and 50% of the patches:
DivPrune, those that the class token attends to, with the others fused into one (EViT) or not,
medoids of clusters (CenterCLIP's), even distances, at random.

Numbers of a method are accuracies at its rates, their mean, and multiply-adds and wall time of an
image over those of the whole net. The picture beside the record has accuracy against multiply-adds.

A seed takes a minute and a half of one core. Over three seeds the whole net tells 0.818. Merged,
ToMe keeps 0.807 as the mean over its rates and PiToMe 0.799, beyond the noise, random merging
0.743: tokens are best merged by likeness, but protecting those that stand alone does not help here,
at any rate. Pruned, DivPrune keeps 0.744, medoids 0.740, attention 0.737, EViT 0.733, even
distances 0.713, random ones 0.695: ahead of all and within their noise, seeds differing by 0.03.
With half of the tokens merged a block, an image takes 0.41 of the multiply-adds and 0.43 of the
time by ToMe, 0.50 by PiToMe.
"""

import functools
import json
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments import claim, contest, outcome
from repjax import select
from repjax.encoders import ViT
from repjax.evaluate import figures
from repjax.evaluate.token_groups import token_groups
from repjax.learners import by_gradient, supervised
from repjax.train.flops import count_flops
from repjax.train.launch import Settings, run_app

DEPTH, PATCHES = 4, 49
ENCODER = ViT(patch_size=4, dim=48, depth=DEPTH, heads=4, pool="cls", stem="conv")
MERGE_RATES, PRUNE_RATES = (0.8, 0.65, 0.5), (0.1, 0.25, 0.5)
DRAWN = (("pitome", 0.65), ("tome", 0.65), ("divprune", 0.25), ("attention", 0.25))
TEST, STEPS, BATCH = 1000, 400, 64
DATA = (
  "MNIST, 12,000 images of the train split and 1,000 of the test split, with four 6x6 pieces of "
  "other digits on each, drawn anew each seed"
)


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Trains one net and takes tokens from it by each method."""
  train, test = cluttered(settings, seed)
  steps = claim.steps_of(settings, STEPS)
  learner = by_gradient(
    supervised(ENCODER, 10, lambda key, image: image, normalize=scaled),
    contest.warmed_adamw(2e-3, steps),
  )
  state = claim.fit(learner, train, steps=steps, batch_size=BATCH, seed=seed)
  ((accuracy, adds, seconds, _),) = judged(state.params, test, [None])
  numbers = {"whole_net": {"accuracy": accuracy, "multiply_adds": 1.0, "time": 1.0}}
  drawn = {"image": test["image"][:8]}
  for rates, methods in ((MERGE_RATES, merges(seed)), (PRUNE_RATES, prunes(seed))):
    rows = {name: {"accuracy": 0.0} for name in methods}
    for rate in rates:
      found = judged(state.params, test, [make(rate) for make in methods.values()])
      for name, one in zip(methods, found, strict=True):
        rows[name]["accuracy"] += one[0] / len(rates)
        rows[name][f"accuracy_{rate}"] = one[0]
        rows[name][f"multiply_adds_{rate}"] = one[1] / adds
        rows[name][f"time_{rate}"] = one[2] / seconds
        if (name, rate) in DRAWN:
          drawn[name] = token_groups(drawn["image"], one[3][:8, 1:], (7, 7))
    numbers |= rows
  if outcome.can_draw():
    folder = Path("runs/token_reduction")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"patches_{seed}.png").write_bytes(figures.draw_rows(drawn))
  return numbers


def merges(seed: int) -> Mapping:
  """Merging in each of the first blocks, by keep rate of a block."""
  layers, key = range(DEPTH - 1), jax.random.key(seed)

  def hook(choose):
    return lambda rate: select.merge_between(choose, select.keep_rate(PATCHES, layers, rate))

  def drawn(layer, patches, left):
    shape = patches.tokens.shape[:2]
    return select.random_merging(jax.random.fold_in(key, layer), *shape, left)

  margin = lambda layer: 0.9 - 0.8 * layer / DEPTH
  return {
    "pitome": hook(lambda i, patches, left: select.pitome(patches.keys, left, margin=margin(i))),
    "tome": hook(lambda i, patches, left: select.tome(patches.keys, left)),
    "random_merging": hook(drawn),
  }


def prunes(seed: int) -> Mapping:
  """Pruning behind the first block's attention, by the share of patches that is left."""
  left_at = lambda rate: select.keep_rate(PATCHES, (0,), rate)
  hook = lambda choose: lambda rate: select.drop_between(choose, left_at(rate))
  shape = lambda patches: patches.tokens.shape[:2]
  key = jax.random.key(seed)
  return {
    "divprune": hook(lambda i, patches, left: select.divprune(patches.tokens, left)),
    "attention": hook(lambda i, patches, left: select.top_attention(patches.attention, left)),
    "evit": lambda rate: select.fuse_between(left_at(rate)),
    "medoids": hook(lambda i, patches, left: select.k_medoids(patches.tokens, left)),
    "uniform": hook(lambda i, patches, left: select.uniform_tokens(*shape(patches), left)),
    "random": hook(lambda i, patches, left: select.random_tokens(key, *shape(patches), left)),
  }


def cluttered(settings: Settings, seed: int) -> list[dict[str, np.ndarray]]:
  """Digits among pieces of others; train and test part."""
  train, _, test = claim.three_parts(settings, image_size=28, seed=seed)
  test = {name: array[:TEST] for name, array in test.items()}
  rng = np.random.default_rng(seed)
  return [part | {"image": with_pieces(rng, part["image"])} for part in (train, test)]


def with_pieces(rng: np.random.Generator, digits: np.ndarray, pieces: int = 4) -> np.ndarray:
  """Puts 6x6 pieces of other digits anywhere on each."""
  count, side = digits.shape[:2]
  images, reach = digits.copy(), np.arange(6)
  rows = np.arange(count)[:, None, None]
  for _ in range(pieces):
    y, x = rng.integers(6, side - 12, (2, count, 1, 1))
    piece = digits[rng.permutation(count)[:, None, None], y + reach[:, None], x + reach]
    y, x = rng.integers(0, side - 5, (2, count, 1, 1))
    place = rows, y + reach[:, None], x + reach
    images[place] = np.maximum(images[place], piece)
  return images


def scaled(image: jax.Array) -> jax.Array:
  """Pixels less their mean, in standard deviations."""
  return (image - 0.1) / 0.25


def as_input(image: jax.Array) -> jax.Array:
  """Pixels of 0 to 255 as the net is given them."""
  return scaled(jnp.asarray(image, jnp.float32) / 255)


def judged(params: claim.Tree, test: dict, hooks: list) -> list[tuple]:
  """Of each hook: accuracy, multiply-adds of an image, seconds of one, and where tokens went."""

  def logits(params, image, reduce):
    net = functools.partial(ENCODER.clone(reduce=reduce).apply, mutable=["intermediates"])
    features, seen = net({"params": params["encoder"]}, as_input(image))
    trace = seen["intermediates"]["trace"][0].target if "intermediates" in seen else None
    return features.pooled @ params["head"]["kernel"] + params["head"]["bias"][None], trace

  def chosen(params, image, which):
    # One program for all, which are alike but for the choice, and each is timed alone.
    def reduce(layer, between):
      branches = [functools.partial(hook, layer) for hook in hooks]
      return lax.switch(which, branches, between) if layer < DEPTH - 1 else between

    return logits(params, image, None if hooks == [None] else reduce)

  batches = np.split(test["image"], 8)
  run = jax.jit(chosen).lower(params, batches[0], 0).compile()
  rows = []
  for number, hook in enumerate(hooks):
    found, times, targets = [], [], []
    for batch in batches:
      start = time.perf_counter()
      out, target = jax.block_until_ready(run(params, batch, number))
      times.append(time.perf_counter() - start)
      found.append(np.argmax(out, -1))
      targets.append(target)
    accuracy = float(np.mean(np.concatenate(found) == test["label"]))
    count = functools.partial(logits, reduce=hook)
    adds = count_flops(lambda p, x, f=count: f(p, x)[0], params, batches[0][:1]) / 2
    rows.append((accuracy, adds, min(times) / len(batches[0]), targets[0]))
  return rows


def draw_curves(path: Path) -> None:
  """Draws accuracy against multiply-adds, means over the record's seeds."""
  if not outcome.can_draw():
    return
  table = claim.summarize(json.loads(path.read_text())["runs"])
  whole = table["whole_net"]["accuracy"]
  panels = {}
  for title, rates, methods in (
    ("merged in three blocks", MERGE_RATES, merges(0)),
    ("pruned in the first block", PRUNE_RATES, prunes(0)),
  ):
    line = lambda name, metric, rates=rates: [table[name][f"{metric}_{r}"] for r in sorted(rates)]
    panels[title] = {
      name: (
        np.array([*line(name, "multiply_adds"), 1]),
        np.array([*line(name, "accuracy"), whole]),
      )
      for name in methods
    }
  picture = figures.draw_curves(panels, across="multiply-adds, of those of the whole net")
  path.with_suffix(".png").write_bytes(picture)


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("token_reduction", study, settings, described=DATA)
  draw_curves(Path(settings.results or "runs/token_reduction.json"))


if __name__ == "__main__":
  run_app(main)
