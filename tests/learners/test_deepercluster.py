"""DeeperCluster: rotation x coarse x fine, clusters of clusters, and heads that start again."""

import jax
import layouts
import numpy as np
import optax

from repjax.learners import by_gradient, cluster_labels, deepercluster, restart_heads

RNG = np.random.default_rng(0)
LABELS = {
  "coarse": RNG.integers(0, 2, (16, 4)).astype(np.int32),
  "fine": RNG.integers(0, 3, (16, 4)).astype(np.int32),
  "weight": RNG.uniform(0.5, 1.5, (16, 4)).astype(np.float32),
}
BATCH = layouts.BATCH | LABELS
LEARNERS = {
  "deepercluster": lambda axis: deepercluster(
    layouts.Tiny(), layouts.noise, coarse=2, fine=3, axis_name=axis
  )
}


def batch():
  return BATCH


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(LEARNERS["deepercluster"], layout, batch=batch)


def test_the_loss_has_two_levels_of_the_turned_image():
  # The image tells its turn: a corner is marked, and noise-free views show which one.
  image = np.zeros((16, 4, 4, 1), np.uint8)
  image[:, 0, 0] = RNG.integers(1, 256, (16, 1))
  shown = BATCH | {"image": image}
  seen = []

  class Corners(layouts.Tiny):
    def __call__(self, image, *, train=False):
      if train:
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), image)
      return super().__call__(image, train=train)

  objective = deepercluster(Corners(), lambda key, image: image, coarse=2, fine=3)
  params, extra = jax.jit(objective.init)(jax.random.key(0), shown)
  params = jax.tree.map(lambda x: RNG.normal(size=x.shape).astype(np.float32), params)
  value, _ = jax.jit(objective.loss)(params, extra, shown, jax.random.key(1))
  jax.effects_barrier()
  # np.rot90 moves the upper left corner to the lower left, and so on.
  corners = np.stack([seen[0][:, r, c, 0] for r, c in ((0, 0), (-1, 0), (-1, -1), (0, -1))], 1)
  turn = corners.argmax(1)
  assert set(turn) == {0, 1, 2, 3}
  pooled = layouts.Tiny().apply({"params": params["encoder"]}, seen[0]).pooled
  rows, pooled = np.arange(16), np.asarray(pooled, np.float64)
  entropy = lambda logits, label: np.log(np.exp(logits).sum(1)) - logits[rows, label]
  upper = turn * 2 + LABELS["coarse"][rows, turn]
  total = entropy(pooled @ params["super_head"]["kernel"] + params["super_head"]["bias"], upper)
  sub = params["sub_head"]
  inner = np.einsum("bd,bdk->bk", pooled, sub["kernel"][upper]) + sub["bias"][upper]
  total += entropy(inner, LABELS["fine"][rows, turn])
  np.testing.assert_allclose(value, np.mean(total * LABELS["weight"][rows, turn]), rtol=1e-5)


def test_clusters_are_found_within_each_turn_and_within_each_cluster():
  # Two well apart blobs of two blobs each, placed anew for each turn.
  centres = RNG.normal(size=(4, 2, 1, 8)) * 20 + RNG.normal(size=(4, 2, 2, 8)) * 3
  truth = RNG.integers(0, 2, (2, 60))
  features = centres[:, truth[0], truth[1]].swapaxes(0, 1) + RNG.normal(size=(60, 4, 8)) * 0.01
  features[..., 3] = 1  # a dead dimension
  labels = cluster_labels(features, coarse=2, fine=2, seed=0)
  together = lambda x: x[:, None] == x[None, :]
  for turn in range(4):
    leaf = labels["coarse"][:, turn] * 2 + labels["fine"][:, turn]
    np.testing.assert_array_equal(together(leaf), together(truth[0] * 2 + truth[1]))
    weight = np.bincount(leaf, labels["weight"][:, turn])
    np.testing.assert_allclose(weight, 15, rtol=1e-5)  # 60 / 4: leaves weigh the same


def test_heads_and_their_moments_restart_and_the_encoder_goes_on():
  learner = by_gradient(LEARNERS["deepercluster"](None), optax.adam(0.1))
  state = jax.jit(learner.init)(jax.random.key(0), BATCH)
  state = jax.tree.map(lambda x: x + 1, state)
  fresh = restart_heads(state)
  for tree in (fresh.params, fresh.opt[0].mu, fresh.opt[0].nu):
    for name, part in tree.items():
      level = 0 if name.endswith("head") else 1
      assert all((np.asarray(x) == 0).all() == (level == 0) for x in jax.tree.leaves(part))
  assert fresh.step == state.step
