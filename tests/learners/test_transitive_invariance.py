"""Transitive invariance: edges and chains of the graph, and the ranking loss over chains."""

import jax
import layouts
import numpy as np

from repjax.encoders import MLP
from repjax.learners import chains, transitive_invariance
from repjax.learners.transitive_invariance import CORNERS, INTRA, TRANSITIVE

RNG = np.random.default_rng(0)
BATCH = {name: RNG.integers(0, 256, (16, 8, 8, 3), np.uint8) for name in CORNERS}
ENCODER, PROJECTOR = layouts.Tiny(), MLP((4,))
LEARNERS = {
  "transitive_invariance": lambda axis: transitive_invariance(
    ENCODER, PROJECTOR, layouts.noise, axis_name=axis
  )
}


def batch():
  return BATCH


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(LEARNERS["transitive_invariance"], layout, batch=batch)


def test_a_chain_is_two_tracks_whose_first_frames_are_joined_by_an_edge():
  tracks = np.arange(5 * 4).reshape(5, 4, 1, 1, 1)  # instance = value // 4, frame = value % 4
  edges = np.array([[1, 2], [0, 3], [4, 0], [1, 4], [2, 3]])
  made = {name: x.reshape(-1) for name, x in chains(tracks, edges, seed=0).items()}
  assert set(made["image"] % 4) == set(made["similar"] % 4) == {0}
  assert 0 not in made["tracked"] % 4 and 0 not in made["similar_tracked"] % 4
  np.testing.assert_array_equal(made["tracked"] // 4, made["image"] // 4)
  np.testing.assert_array_equal(made["similar_tracked"] // 4, made["similar"] // 4)
  np.testing.assert_array_equal(made["similar"].reshape(5, 2) // 4, edges)


def test_the_loss_ranks_each_positive_before_the_hardest_negatives():
  positives = INTRA + TRANSITIVE
  objective = transitive_invariance(
    ENCODER, PROJECTOR, lambda key, image: image, positives=positives, negatives=3, margin=0.3
  )
  params, extra = jax.jit(objective.init)(jax.random.key(0), BATCH)
  value, _ = jax.jit(objective.loss)(params, extra, BATCH, jax.random.key(1))
  z = []
  for name in CORNERS:
    image = (BATCH[name] / 255).astype(np.float32)
    pooled = ENCODER.apply({"params": params["encoder"]}, image).pooled
    out = np.asarray(PROJECTOR.apply({"params": params["projector"]}, pooled), np.float64)
    z.append(out / np.linalg.norm(out, axis=1, keepdims=True))
  total = []
  for i, j in positives:
    distance = 1 - z[i] @ z[j].T
    for row in range(16):
      others = np.sort(np.delete(distance[row], row))[:3]
      total.append(np.maximum(0.3 + distance[row, row] - others, 0).mean())
  np.testing.assert_allclose(value, np.mean(total), rtol=1e-4)
