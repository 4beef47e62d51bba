"""CenterCLIP's claim: of a clip's tokens, the centres of clusters within segments of time suffice.

  python -m experiments.centerclip --data=npz:data/mnist.npz

trains a transformer over the patches of six frames to find the caption of a clip among 80: which
digit moves, in which of eight directions, on a canvas with pieces of other digits that stand
still. Captions are embedded by their two words. Behind the first block 15 of 96 tokens are left,
five of each of three segments of two frames: medoids of clusters, as in CenterCLIP, tokens at even
distances, or tokens drawn anew at each step; the net is trained with them. Rivals are the same net
with all tokens, and an untrained one.

Numbers are Recall@1 of captions for test clips, and multiply-adds of a clip over those of the net
with all tokens, clustering included.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments import claim
from repjax import data, select
from repjax.arrays import cross_entropy, l2_normalize
from repjax.encoders import VideoTransformer
from repjax.learners import Learner
from repjax.train.flops import count_flops
from repjax.train.launch import Settings, run_app

FRAMES, SIDE, DIRECTIONS, SEGMENTS, LEFT = 6, 28, 8, 3, 15
VIDEO = VideoTransformer(patch_size=7, dim=48, depth=3, heads=4, frames=FRAMES)
TOKENS = FRAMES * (SIDE // 7) ** 2
TRAIN, TEST, STEPS, BATCH = 6000, 1000, 300, 50
DATA = (
  "MNIST, 6,000 images of the train split, drawn anew each seed, and 1,000 of the test split, "
  "halved to 14x14, each moving over a 28x28 canvas for six frames in one of eight directions, "
  "with four still 5x5 pieces of other digits"
)

Choose = Callable[[jax.Array, jax.Array], select.Reduction]


def medoids(x: jax.Array, key: jax.Array) -> select.Reduction:
  """CenterCLIP's: k-medoids in each segment."""
  return select.in_segments(select.k_medoids, x, LEFT, SEGMENTS)


def uniform(x: jax.Array, key: jax.Array) -> select.Reduction:
  """Even distances in each segment."""
  choose = lambda x, left: select.uniform_tokens(*x.shape[:2], left)
  return select.in_segments(choose, x, LEFT, SEGMENTS)


def drawn(x: jax.Array, key: jax.Array) -> select.Reduction:
  """As many at random in each segment."""
  choose = lambda x, left: select.random_tokens(key, *x.shape[:2], left)
  return select.in_segments(choose, x, LEFT, SEGMENTS)


METHODS = {
  "centerclip": medoids,
  "uniform": uniform,
  "random": drawn,
  "all_tokens": None,
}


class Retrieval(nn.Module):
  """Clips and captions in one space.

  Attributes:
    video: encodes clips.
    choose: which tokens are left behind the first block; all if absent.
  """

  video: VideoTransformer
  choose: Choose | None

  @nn.compact
  def __call__(self, clip: jax.Array, key: jax.Array) -> jax.Array:
    """Similarity of clips to all captions, ``[batch, 80]``."""
    hook = None
    if self.choose is not None:
      hook = lambda i, x: select.take(self.choose(x, key), x) if i == 1 else x
    clip = nn.Dense(32)(self.video(clip, tokens_in=hook).pooled)
    words = nn.Embed(10, 32)(jnp.arange(10)), nn.Embed(DIRECTIONS, 32)(jnp.arange(DIRECTIONS))
    pairs = jnp.repeat(words[0], DIRECTIONS, 0), jnp.tile(words[1], (10, 1))
    caption = nn.Dense(32)(nn.gelu(nn.Dense(64)(jnp.concatenate(pairs, -1))))
    scale = jnp.exp(self.param("logit_scale", nn.initializers.constant(np.log(10)), ()))
    return scale * l2_normalize(clip) @ l2_normalize(caption).T


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Trains a net for each choice of tokens and finds the captions of test clips."""
  steps = claim.steps_of(settings, STEPS)
  train, test = clips(settings, seed)
  example = as_input(test["clip"][:1])
  adds, numbers = {}, {}
  for name, choose in METHODS.items():
    net = Retrieval(VIDEO, choose)
    learner = matching(net, steps)
    state = claim.fit(learner, train, steps=steps, batch_size=BATCH, seed=seed)
    numbers[name] = {"recall_at_1": recall(net, state[0], test)}
    adds[name] = count_flops(lambda p, n=net: n.apply(p, example, jax.random.key(0)), state[0])
    if choose is None:
      start = jax.jit(learner.init)(jax.random.key(seed), train)
      numbers["untrained"] = {"recall_at_1": recall(net, start[0], test)}
  for name, count in adds.items():
    numbers[name]["multiply_adds"] = count / adds["all_tokens"]
  return numbers


def matching(net: Retrieval, steps: int) -> Learner:
  """Cross entropy of a clip's caption among all of them."""
  rate = optax.warmup_cosine_decay_schedule(0.0, 2e-3, max(steps // 10, 1), steps)
  optimizer = optax.adamw(rate, weight_decay=0.05)

  def init(key, batch):
    params = net.init(key, as_input(batch["clip"][:2]), key)
    return params, optimizer.init(params)

  def update(state, batch, key):
    params, inner = state
    loss = lambda p: jnp.mean(
      cross_entropy(net.apply(p, as_input(batch["clip"]), key), batch["caption"])
    )
    value, gradient = jax.value_and_grad(loss)(params)
    updates, inner = optimizer.update(gradient, inner, params)
    return (optax.apply_updates(params, updates), inner), {"loss": value}

  return Learner(init, update, lambda state, clip: net.apply(state[0], clip, jax.random.key(0)))


def recall(net: Retrieval, params: claim.Tree, test: dict[str, np.ndarray]) -> float:
  """Share of clips whose caption is the most similar."""
  found = jax.jit(lambda p, x: jnp.argmax(net.apply(p, as_input(x), jax.random.key(0)), -1))
  parts = np.split(test["clip"], 4)
  return float(np.mean(np.concatenate([found(params, x) for x in parts]) == test["caption"]))


def as_input(clip: jax.Array) -> jax.Array:
  """Pixels of 0 to 255 less their mean, in standard deviations."""
  return (jnp.asarray(clip, jnp.float32) / 255 - 0.1) / 0.25


def clips(settings: Settings, seed: int) -> list[dict[str, np.ndarray]]:
  """Moving digits and the numbers of their captions, for training and for test."""
  parts = claim.part_of_data(settings, train=TRAIN, test=TEST, seed=seed)
  rngs = (np.random.default_rng((seed, number)) for number in range(2))
  return [moving(rng, part) for rng, part in zip(rngs, parts, strict=True)]


def moving(rng: np.random.Generator, part: data.Arrays) -> dict[str, np.ndarray]:
  """A clip of each digit: two pixels a frame, over still pieces of other digits."""
  digits, count = part.image, len(part.image)
  canvas = np.zeros((count, FRAMES, SIDE, SIDE, 1), np.uint8)
  rows, frames = np.arange(count)[:, None, None], np.arange(FRAMES)

  def put(images, time, y, x):
    reach = np.arange(images.shape[1])
    place = rows, time, y[:, None, None] + reach[:, None], x[:, None, None] + reach
    canvas[place] = np.maximum(canvas[place], images)

  for _ in range(4):
    y, x = rng.integers(3, 7, (2, count, 1, 1))
    reach = np.arange(5)
    piece = digits[rng.permutation(count)[:, None, None], y + reach[:, None], x + reach]
    spot = rng.integers(0, SIDE - 4, (2, count))
    for time in frames:
      put(piece, time, *spot)
  direction = rng.integers(0, DIRECTIONS, count)
  angle = direction * 2 * np.pi / DIRECTIONS
  step = 2 * np.rint(np.stack([np.sin(angle), np.cos(angle)])).astype(int)
  way = step * (FRAMES - 1)
  low, high = np.maximum(0, -way), SIDE - 14 - np.maximum(0, way)
  start = rng.integers(low, high + 1)
  for time in frames:
    put(digits, time, *(start + time * step))
  return {"clip": canvas, "caption": (part.label * DIRECTIONS + direction).astype(np.int32)}


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("centerclip", study, settings, described=DATA)


if __name__ == "__main__":
  run_app(main)
