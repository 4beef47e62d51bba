"""Equivariant points: pretrained to follow what moves, features tell where a box is and stands.

  python -m experiments.equivariant_points

draws pairs of frames, in which a box of one of three kinds (car, pedestrian, cyclist) stands on the
ground among clutter and drives on along its heading. A PointNet is pretrained on 2,000 pairs with
equivariance (place by contrast, rotation by class, scene flow), or to be invariant (NT-Xent of two
scenes transformed alike, rotation included), or not at all; ``from_scratch`` is trained on the
labels alone. From 60 labelled scenes a ridge regression on the frozen features tells the box:
centre, heading, length and width (``box``, mean R2), and a linear probe its kind (``kind``).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import claim
from repjax import evaluate
from repjax.encoders import MLP, PointNet
from repjax.learners import Objective, by_gradient, equivariant_points
from repjax.learners.equivariant_points import move_scale_flip, turn_upright
from repjax.learners.learner import example_keys
from repjax.losses import nt_xent
from repjax.train.launch import Settings, run_app

ON_BOX, ON_GROUND, LABELS = 40, 24, 60
# Length, width and height of car, pedestrian and cyclist.
KINDS = np.array([[1.0, 0.5, 0.4], [0.25, 0.25, 0.8], [0.7, 0.25, 0.7]])


def scenes(seed: int, count: int) -> dict[str, np.ndarray]:
  """Frames, flow, and what is to be told of the first frame."""
  rng = np.random.default_rng(seed)
  kind = rng.integers(0, len(KINDS), count)
  size = KINDS[kind] * rng.uniform(0.8, 1.2, (count, 3))
  heading = rng.uniform(-np.pi, np.pi, count)
  ahead = np.stack([np.cos(heading), np.sin(heading), 0 * heading], 1)
  centre = np.c_[rng.uniform(-1, 1, (count, 2)), size[:, 2] / 2]
  by = ahead * rng.uniform(0.1, 0.5, (count, 1))

  def on_box(centre):
    at = rng.uniform(-0.5, 0.5, (count, ON_BOX, 3))
    face = rng.integers(0, 3, (count, ON_BOX, 1))  # one coordinate is at a side
    at = np.where(np.arange(3) == face, np.sign(at) / 2, at) * size[:, None]
    across = np.stack([-ahead[:, 1], ahead[:, 0], ahead[:, 2]], 1)
    up = np.broadcast_to([0.0, 0.0, 1.0], (count, 3))
    frame = np.stack([ahead, across, up], 1)
    return at @ frame + centre[:, None]

  ground = np.concatenate(
    [rng.uniform(-2, 2, (count, ON_GROUND, 2)), np.zeros((count, ON_GROUND, 1))], -1
  )
  flow = np.concatenate([np.repeat(by[:, None], ON_BOX, 1), np.zeros((count, ON_GROUND, 3))], 1)
  noisy = lambda x: x + rng.normal(scale=0.01, size=x.shape)
  box = np.c_[centre[:, :2], np.cos(2 * heading), np.sin(2 * heading), size[:, :2]]
  return {
    "points": noisy(np.concatenate([on_box(centre), ground], 1)).astype(np.float32),
    "next": noisy(np.concatenate([on_box(centre + by), ground], 1)).astype(np.float32),
    "flow": flow.astype(np.float32),
    "box": box.astype(np.float32),
    "kind": kind.astype(np.int32),
  }


def invariant(encoder, projector) -> Objective:
  """NT-Xent of pooled features of two scenes that were moved and turned apart."""

  def init(key, batch):
    k_encoder, k_projector = jax.random.split(key)
    params = encoder.init(k_encoder, batch["points"])["params"]
    pooled = encoder.apply({"params": params}, batch["points"]).pooled
    return {"encoder": params, "projector": projector.init(k_projector, pooled)["params"]}, {}

  def view(key, points):
    k_turn, k_move = jax.random.split(key)
    angle = jax.random.uniform(k_turn, maxval=2 * jnp.pi)
    return move_scale_flip(k_move, turn_upright(points, angle))

  def loss(params, extra, batch, key):
    z = []
    for k in jax.random.split(key):
      points = jax.vmap(view)(example_keys(k, len(batch["points"])), batch["points"])
      pooled = encode(params, extra, points).pooled
      z.append(projector.apply({"params": params["projector"]}, pooled))
    return jnp.mean(nt_xent(*z, temperature=0.2)), (extra, {})

  def encode(params, extra, points):
    return encoder.apply({"params": params["encoder"]}, points)

  return Objective(init, loss, encode)


def from_labels(encoder, scale) -> Objective:
  """Regression of the box and classification of the kind."""
  heads = MLP((6 + len(KINDS),))

  def init(key, batch):
    params = encoder.init(key, batch["points"])["params"]
    pooled = encoder.apply({"params": params}, batch["points"]).pooled
    return {"encoder": params, "heads": heads.init(key, pooled)["params"]}, {}

  def encode(params, extra, points):
    features = encoder.apply({"params": params["encoder"]}, points)
    return features._replace(pooled=heads.apply({"params": params["heads"]}, features.pooled))

  def loss(params, extra, batch, key):
    out = encode(params, extra, batch["points"]).pooled
    error = jnp.mean(jnp.square(out[:, :6] - batch["box"] / scale[None]))
    kind = optax.softmax_cross_entropy_with_integer_labels(out[:, 6:], batch["kind"])
    return error + jnp.mean(kind), (extra, {})

  return Objective(init, loss, encode)


def r2(predicted, truth):
  error = np.square(predicted - truth).sum(0)
  return float(np.mean(1 - error / np.square(truth - truth.mean(0)).sum(0)))


def ridge(bank, target, query):
  """Predicts by a ridge regression on standardised features."""
  mean, deviation = bank.mean(0), bank.std(0) + 1e-6
  x, q = ((z - mean) / deviation for z in (bank, query))
  kernel = np.linalg.solve(x.T @ x + len(x) * np.eye(x.shape[1]), x.T @ (target - target.mean(0)))
  return q @ kernel + target.mean(0)


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Pretrains, and learns box and kind from a few labels."""
  train, test = scenes(seed, 2000), scenes(10_000 + seed, 1000)
  few = {name: x[:LABELS] for name, x in train.items()}
  encoder = PointNet((32, 64), (64, 64))
  learners = {
    "invariant": invariant(encoder, MLP((64, 32))),
    "equivariant_points": equivariant_points(
      encoder, MLP((64, 32)), MLP((64, 32)), rotation_weight=1.0
    ),
  }
  numbers = {}
  for name in ("untrained", "invariant", "equivariant_points"):
    learner = by_gradient(learners.get(name, learners["invariant"]), optax.adam(1e-3))
    steps = claim.steps_of(settings, 600) if name != "untrained" else 0
    state = claim.fit(
      learner, train, steps=steps, batch_size=64, seed=seed, progress=f"{name} {seed}"
    )
    bank, query = (claim.features(learner.encode, state, x["points"]) for x in (few, test))
    pair = evaluate.Embedded(bank, few["kind"]), evaluate.Embedded(query, test["kind"])
    numbers[name] = {
      "box": r2(ridge(bank, few["box"], query), test["box"]),
      "kind": evaluate.linear_probe(*pair, key=jax.random.key(seed))["linear"],
    }
  scale = train["box"].std(0)
  learner = by_gradient(from_labels(encoder, scale), optax.adam(1e-3))
  steps = claim.steps_of(settings, 600)
  options = {"batch_size": LABELS, "seed": seed, "progress": f"from_scratch {seed}"}
  state = claim.fit(learner, few, steps=steps, **options)
  out = claim.features(learner.encode, state, test["points"])
  right = np.mean(out[:, 6:].argmax(1) == test["kind"])
  numbers["from_scratch"] = {"box": r2(out[:, :6] * scale, test["box"]), "kind": float(right)}
  return numbers


def main(settings: Settings) -> None:
  """Runs the experiment."""
  described = "2,000 drawn pairs of frames of 64 points, 60 of them labelled; 1,000 to test"
  claim.run("equivariant_points", study, settings, described=described)


if __name__ == "__main__":
  run_app(main)
