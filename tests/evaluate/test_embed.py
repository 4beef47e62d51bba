"""Embedding a split: each example once and in order, on any layout."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from repjax.evaluate import embed, pixels, projected
from repjax.evaluate.embed import Embedded, labelled, rank_in_class

N = 93
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (N, 4, 4, 3), dtype=np.uint8)
LABEL = RNG.integers(-1, 5, N).astype(np.int32)
STATE = RNG.normal(size=(48, 6)).astype(np.float32)


class Pooled(NamedTuple):
  pooled: jax.Array


def encode(state, image):
  return Pooled(image.reshape(len(image), -1).astype(jnp.float32) / 255 @ state)


def batches(size):
  for start in range(0, N, size):
    yield {"image": IMAGE[start : start + size], "label": LABEL[start : start + size]}


@pytest.mark.parametrize("devices", [None, 1, 8])
@pytest.mark.parametrize("size", [1, 7, 64, N])
def test_each_example_counts_once_and_in_order_on_any_layout(devices, size):
  mesh = None
  if devices:
    mesh = jax.make_mesh(
      (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
  ours = embed(encode, STATE, batches(size), batch_size=size, mesh=mesh)
  definition = IMAGE.reshape(N, -1).astype(np.float64) / 255 @ STATE
  np.testing.assert_allclose(ours.features, definition, atol=1e-5)
  np.testing.assert_array_equal(ours.label, LABEL)


def test_rows_that_a_process_reads_itself_give_the_same():
  mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
  ours = embed(encode, STATE, batches(16), batch_size=16, mesh=mesh, rows=np.arange(16))
  theirs = embed(encode, STATE, batches(16), batch_size=16)
  np.testing.assert_allclose(ours.features, theirs.features, atol=1e-6)
  np.testing.assert_array_equal(ours.label, LABEL)
  with pytest.raises(ValueError, match=r"batch_size=12 is not divisible by the 8 shards.* use 16"):
    embed(encode, STATE, batches(12), batch_size=12, mesh=mesh, rows=np.arange(12))


def test_an_encoder_is_traced_once_over_batches_states_and_calls():
  traces = []

  def counted(state, image):
    traces.append(image.shape)
    return encode(state, image)

  for scale in (1, 2):
    embed(counted, scale * STATE, batches(10), batch_size=10)
  assert traces == [(10, 4, 4, 3)]


def test_progress_sees_every_batch():
  seen = []
  progress = lambda batches: (seen.append(len(b["label"])) or b for b in batches)
  embed(encode, STATE, batches(64), batch_size=64, progress=progress)
  assert seen == [64, 29]


def test_bad_input_is_named():
  with pytest.raises(ValueError, match=r"64.*batch_size=32"):
    embed(encode, STATE, batches(64), batch_size=32)
  with pytest.raises(ValueError, match="at least one batch"):
    embed(encode, STATE, [], batch_size=32)
  with pytest.raises(ValueError, match=r"93 of 93 examples are not finite, first of example 0"):
    embed(encode, np.nan * STATE, batches(64), batch_size=64)


def test_pixels_are_the_images_over_255():
  ours = pixels(batches(64))
  np.testing.assert_allclose(ours.features, IMAGE.reshape(N, -1) / np.float64(255), atol=1e-7)
  np.testing.assert_array_equal(ours.label, LABEL)


def test_unlabelled_examples_are_dropped_from_both_splits():
  split = Embedded(RNG.normal(size=(4, 2)), np.int32([0, -1, 1, -1]))
  train, test = labelled(split, split)
  np.testing.assert_array_equal(train.features, split.features[[0, 2]])
  np.testing.assert_array_equal(test.label, [0, 1])
  with pytest.raises(ValueError, match="none of the 4 test examples has a label"):
    labelled(split, split._replace(label=np.full(4, -1)))
  with pytest.raises(ValueError, match="dim 2 and test features 1"):
    labelled(split, split._replace(features=split.features[:, :1]))


def test_ranks_are_a_uniform_permutation_within_each_class():
  label = np.asarray([0] * 4 + [7] * 3 + [0])
  firsts = np.zeros(len(label))
  for i in range(300):
    rank = rank_in_class(jax.random.key(i), label)
    assert sorted(rank[label == 0]) == [0, 1, 2, 3, 4]
    assert sorted(rank[label == 7]) == [0, 1, 2]
    firsts += rank == 0
  # Four standard deviations of a binomial share.
  share = np.where(label == 0, 1 / 5, 1 / 3)
  assert np.all(np.abs(firsts / 300 - share) < 4 * np.sqrt(share * (1 - share) / 300))


def test_projections_are_those_of_scikit_learn_up_to_their_sign():
  from sklearn.decomposition import PCA

  rng = np.random.default_rng(0)
  train, test = (
    Embedded(rng.normal(3, [5, 3, 2, 1], (n, 4)).astype(np.float32), np.zeros(n, np.int32))
    for n in (50, 20)
  )
  wanted = PCA(2, svd_solver="full").fit(train.features)
  for split, ours in zip((train, test), projected(train, test, count=2), strict=True):
    theirs = wanted.transform(split.features)
    signs = np.sign((ours.features * theirs).sum(0, keepdims=True))
    np.testing.assert_allclose(signs * ours.features, theirs, atol=1e-4)
  with pytest.raises(ValueError, match="count=5 components of features of dim 4; choose at most 4"):
    projected(train, test, count=5)
