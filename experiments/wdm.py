"""Wasserstein dependency: what InfoNCE leaves out where there is more to tell than log batch.

  python -m experiments.wdm

trains two encoders of stacks of two and of six digits, for the inner product of a stack's feature
with that of another stack in which each digit is followed by the next. Each digit has 2.3 nats to
tell, a batch of 16 shows InfoNCE 2.8. ``wdm`` is Wasserstein predictive coding, InfoNCE with a
penalty on the slope of the critic, which the paper trains with, of the weight that decodes best on
part of the train split; ``info_nce`` the same without. ``decode_K`` is the share of digits that a
ridge regression tells from features of stacks of K, ``nats_K`` the InfoNCE bound of test stacks,
``wasserstein_K`` the difference of means of true and other pairs.

RESULT
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import claim
from repjax import data, losses, measure
from repjax.encoders import MLP, Features
from repjax.learners import Objective, by_gradient
from repjax.train.launch import Settings, run_app

STACKS, STEPS, BATCH, DIM, PENALTIES = (2, 6), 1200, 16, 32, (1.0, 10.0)
DATA = (
  "stacks of 2 and 6 digits, 8x8, and of their successors: 8,000 of the train split to learn from "
  "(the last 1,000 of them to choose on), 2,000 of the test split to judge on; features read by "
  "ridge regression"
)


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Trains with and without a bounded slope, for stacks of each size."""
  steps = claim.steps_of(settings, STEPS)
  dataset, rng = data.load("digits"), np.random.default_rng(seed)
  numbers = {name: {} for name in ("wdm", "info_nce", "untrained", "raw_pixels")}
  for count in STACKS:
    train, label = stacks(rng, dataset.train, count, 8000)
    test, test_label = stacks(rng, dataset.test, count, 2000)
    judge = lambda of: decode(of(train["x"]), label, of(test["x"]), test_label)
    guess = lambda of: decode(
      of(train["x"][:7000]), label[:7000], of(train["x"][7000:]), label[7000:]
    )
    for name, penalties in (("wdm", PENALTIES), ("info_nce", (0.0,))):
      learner = claim.side_by_side(
        lambda penalty: by_gradient(objective(penalty), optax.adam(1e-3)),
        np.array(penalties, np.float32),
      )
      for method, length in ((name, steps), ("untrained", 0)):
        states = claim.fit(learner, train, steps=length, batch_size=BATCH, seed=seed)
        at = [jax.tree.map(lambda x, i=i: x[i], states) for i in range(len(penalties))]
        of = lambda state: lambda x: claim.features(learner.encode, state, x)
        best = max(at, key=lambda state: guess(of(state))) if len(at) > 1 else at[0]
        numbers[method][f"decode_{count}"] = judge(of(best))
        nats, apart = bounds(best.params, test)
        numbers[method] |= {f"nats_{count}": nats, f"wasserstein_{count}": apart}
    numbers["raw_pixels"][f"decode_{count}"] = judge(lambda x: x)
  return numbers


def stacks(rng: np.random.Generator, split, count: int, size: int):
  """Stacks of digits and of their successors, and the digits of the first."""
  image = (np.asarray(split.image, np.float32)[..., 0].reshape(len(split), -1) / 255 - 0.3) / 0.37
  of_class = [np.flatnonzero(np.asarray(split.label) == digit) for digit in range(10)]
  pick = lambda label: image[np.vectorize(lambda c: rng.choice(of_class[c]))(label)]
  label = rng.integers(0, 10, (size, count))
  flat = lambda x: x.reshape(size, -1)
  return {"x": flat(pick(label)), "y": flat(pick((label + 1) % 10))}, label


def net(params, x: jax.Array) -> jax.Array:
  """Features of stacks."""
  return MLP((256, DIM)).apply({"params": params}, x)


def objective(penalty: jax.Array) -> Objective:
  """InfoNCE of inner products, with a penalty on their slope."""

  def critic(params, x, y):
    return net(params["x"], x[None])[0] @ net(params["y"], y[None])[0]

  def init(key, batch):
    keys = jax.random.split(key)
    of = lambda key, x: MLP((256, DIM)).init(key, x)["params"]
    return {"x": of(keys[0], batch["x"]), "y": of(keys[1], batch["y"])}, {}

  def loss(params, extra, batch, key):
    f = lambda x, y: critic(params, x, y)
    value = jnp.mean(losses.wasserstein_predictive(f, batch["x"], batch["y"]))
    other = jnp.roll(batch["y"], 1, 0)
    slope = losses.gradient_penalty(f, batch["x"], batch["y"], other, key)
    return value + penalty * jnp.mean(slope), (extra, {})

  def encode(params, extra, x):
    z = net(params["x"], x)
    return Features(z, z[:, None], ())

  return Objective(init, loss, encode)


@jax.jit
def scores_of(params, x, y):
  """Scores of all pairs."""
  return net(params["x"], x) @ net(params["y"], y).T


def bounds(params, test: dict[str, np.ndarray]) -> tuple[float, float]:
  """InfoNCE and the difference of means, over test batches of the size trained with."""
  told = []
  for start in range(0, 2000 - BATCH, BATCH):
    rows = slice(start, start + BATCH)
    scores = scores_of(params, test["x"][rows], test["y"][rows])
    told.append(READ(scores))
  nats, apart = np.mean(np.asarray(told), 0)
  return float(nats), float(apart)


READ = jax.jit(lambda x: jnp.stack([measure.info_nce_bound(x), measure.wasserstein_bound(x)]))


def decode(train: np.ndarray, label: np.ndarray, test: np.ndarray, test_label: np.ndarray) -> float:
  """Share of digits that a ridge regression to all of a stack's classes tells."""
  centre, scale = train.mean(0), train.std(0) + 1e-6
  ones = lambda x: np.concatenate([(x - centre) / scale, np.ones((len(x), 1))], 1)
  a, b = ones(train), ones(test)
  target = np.eye(10)[label].reshape(len(label), -1)
  weight = np.linalg.solve(a.T @ a + 1e-3 * len(a) * np.eye(a.shape[1]), a.T @ target)
  told = (b @ weight).reshape(len(b), -1, 10).argmax(-1)
  return float(np.mean(told == test_label))


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("wdm", study, settings, described=DATA)


if __name__ == "__main__":
  run_app(main)
