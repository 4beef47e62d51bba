"""What miners choose, beside pytorch-metric-learning's, and how drawn negatives are distributed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import P
from libraries import answers, check_answer
from test_pair_losses import over_pairs

from repjax.losses import miners
from repjax.losses.distances import euclidean
from repjax.losses.pair_losses import contrastive_margin
from repjax.train.mesh import make_mesh

RNG = np.random.default_rng(0)
EMBEDDINGS, LABELS = RNG.normal(size=(16, 6)).astype(np.float32), np.arange(16) % 5 - 1
UNIT = {"normalize": True}


def batch_hard(x, labels, **options):
  hardest = miners.hardest_positives(x, labels, **options)
  return both(hardest, miners.hardest_negatives(x, labels, **options))


def easy_hard(x, labels, **options):
  easiest = miners.easiest_positives(x, labels, **options)
  return both(easiest, miners.hardest_negatives(x, labels, **options))


def easy_semi_hard(x, labels, **options):
  easiest = miners.easiest_positives(x, labels, **options)
  return both(easiest, miners.hardest_negatives(x, labels, beyond=easiest, **options))


def both(positive, negative):
  """Pairs of the anchors that have one of each, as pytorch-metric-learning keeps."""
  some = jnp.any(positive, 1) & jnp.any(negative, 1)
  return (positive | negative) & some[:, None]


MINERS = {
  "batch_hard": functools.partial(batch_hard, **UNIT),
  "easy_hard": functools.partial(easy_hard, **UNIT),
  "easy_semi_hard": functools.partial(easy_semi_hard, **UNIT),
  "violated": functools.partial(miners.violated_triplets, margin=0.3, **UNIT),
  "semi_hard": functools.partial(miners.violated_triplets, margin=0.3, semi_hard=True, **UNIT),
  "angular": functools.partial(miners.angular_triplets, angle=35),
  "multi_similarity": functools.partial(miners.multi_similarity_pairs, epsilon=0.05),
  "margin": functools.partial(miners.margin_pairs, positive_margin=0.9, negative_margin=1.1),
}
DRAWN = functools.partial(miners.distance_weighted, jax.random.key(0))


@pytest.mark.parametrize("answer", answers("miners"))
def test_loss_of_mined_pairs_equals_another_library(answer):
  options = {"positive_margin": 0.2, "negative_margin": 1.5, "power": 1, "normalize": True}
  mine = MINERS[answer.rpartition("_")[0]]
  loss = over_pairs(contrastive_margin, **options)
  check_answer(
    "miners", answer, lambda embeddings, labels: loss(embeddings, labels, mine(embeddings, labels))
  )


@pytest.mark.parametrize("miner", [*MINERS.values(), DRAWN], ids=[*MINERS, "drawn"])
@pytest.mark.parametrize("devices", [2, 8])
def test_a_miner_is_one_on_any_layout(miner, devices):
  mesh = make_mesh(f"data:{devices}", devices=jax.devices()[:devices])

  shard = functools.partial(miner, axis_name="data")
  spread = jax.shard_map(shard, mesh=mesh, in_specs=(P("data"), P("data")), out_specs=P("data"))
  np.testing.assert_array_equal(jax.jit(spread)(EMBEDDINGS, LABELS), miner(EMBEDDINGS, LABELS))


@pytest.mark.parametrize("miner", [*MINERS.values(), DRAWN], ids=[*MINERS, "drawn"])
def test_unlabelled_rows_are_in_no_pair(miner):
  mined = np.asarray(miner(EMBEDDINGS, LABELS))
  assert not mined[LABELS < 0].any() and not mined[:, LABELS < 0].any()
  assert mined.any()


@pytest.mark.parametrize("miner", [*MINERS.values(), DRAWN], ids=[*MINERS, "drawn"])
def test_no_gradient_goes_through_a_miner(miner):
  def total(x):
    return jnp.sum(x) + jnp.sum(miner(x, LABELS) * jnp.ones((16, 16)))

  np.testing.assert_array_equal(jax.grad(total)(EMBEDDINGS), 1)


@pytest.mark.parametrize("miner", [*MINERS.values(), DRAWN], ids=[*MINERS, "drawn"])
@pytest.mark.parametrize("labels", [np.zeros(16, int), np.arange(16), np.full(16, -1)])
def test_nothing_to_mine_is_finite(miner, labels):
  for x in (EMBEDDINGS, 0 * EMBEDDINGS):
    assert np.isfinite(miner(x, labels)).all()


def test_counts_of_triplets_are_counts_of_triplets():
  labels, d = np.arange(16) % 4, np.asarray(euclidean(EMBEDDINGS, EMBEDDINGS))
  wanted = np.zeros((16, 16))
  for a in range(16):
    for p in np.flatnonzero(labels == labels[a]):
      for n in np.flatnonzero(labels != labels[a]):
        if p != a and 0 < d[a, n] - d[a, p] <= 0.5:
          wanted[a, p] += 1
          wanted[a, n] += 1
  ours = miners.violated_triplets(EMBEDDINGS, labels, margin=0.5, semi_hard=True)
  np.testing.assert_array_equal(ours, wanted)


def test_each_positive_gets_a_negative():
  labels = np.arange(16) % 4
  drawn = np.asarray(miners.distance_weighted(jax.random.key(1), EMBEDDINGS, labels, farthest=2))
  same = labels[:, None] == labels[None, :]
  np.testing.assert_array_equal(drawn * same, same & ~np.eye(16, dtype=bool))
  np.testing.assert_array_equal((drawn * ~same).sum(1), 3)


def test_negatives_are_drawn_against_the_density_of_their_distance():
  x = RNG.normal(size=(6, 4)).astype(np.float32)
  labels = np.array([0, 0, 1, 1, 1, 1])
  keys = jax.random.split(jax.random.key(0), 4000)
  options = {"cutoff": 0.8, "farthest": 2.0}
  draw = lambda key: miners.distance_weighted(key, x, labels, **options)[0, 2:]
  shares = np.mean(jax.vmap(draw)(keys), 0)
  unit = x / np.linalg.norm(x, axis=1, keepdims=True)
  d = np.maximum(np.linalg.norm(unit[0] - unit[2:], axis=1), 0.8)
  weights = 1 / (d**2 * (1 - d**2 / 4) ** 0.5)
  np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.03)
