"""Token reduction inside of a ViT: the official code's numbers, laws, multiply-adds, traces."""

import functools
import json
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax import select
from repjax.encoders import VideoTransformer, ViT
from repjax.pretrained import vit_rules
from repjax.pretrained.vit import TIMM
from repjax.train.flops import count_flops
from repjax.trees import convert

ORACLES = pathlib.Path(__file__).parents[1] / "oracles"
FIXTURE = np.load(ORACLES / "token_merging.npz")
weights = runpy.run_path(str(ORACLES / "encoders.py"))["weights"]
IMAGE = weights("image", (2, 16, 16, 3))
TINY = ViT(patch_size=4, dim=32, depth=3, heads=4, pool="cls", positions="learned")

tome = lambda layer, patches, left: select.tome(patches.keys, left)
pitome = lambda layer, patches, left: select.pitome(
  patches.keys, left, margin=0.9 - 0.8 * layer / 3
)
divprune = lambda layer, patches, left: select.divprune(patches.tokens, left)
top = lambda layer, patches, left: select.top_attention(patches.attention, left)


@functools.cache
def variables(vit=TINY):
  return jax.jit(vit.init)(jax.random.key(0), IMAGE)


def apply(vit, params, reduce=None):
  run = functools.partial(vit.clone(reduce=reduce).apply, mutable=["intermediates"])
  features, seen = jax.jit(run)(params, IMAGE)
  return features, seen["intermediates"]["trace"][0] if "intermediates" in seen else None


def close(x, y, tolerance=1e-4):
  np.testing.assert_allclose(np.asarray(x), y, tolerance, tolerance)


def as_sets(x):
  return np.stack([row[np.lexsort(np.round(row, 3).T)] for row in np.asarray(x)])


@pytest.mark.parametrize("proportional", [True, False])
@pytest.mark.parametrize("method", ["tome", "pitome"])
def test_equals_the_official_blocks_in_timms_vit(method, proportional):
  shapes = json.loads(str(FIXTURE["vit/shapes"]))
  state = {name: weights(name, tuple(shape)) for name, shape in shapes.items()}
  like = jax.eval_shape(TINY.init, jax.random.key(0), IMAGE)
  params = convert(state, vit_rules(TINY, TIMM), like)
  choose = {"tome": tome, "pitome": pitome}[method]
  reduce = select.merge_between(choose, {0: 13, 1: 10, 2: 7}, proportional=proportional)
  features, trace = apply(TINY, params, reduce)
  case = f"vit_{method}" + ("" if proportional else "_plain")
  expected = FIXTURE[f"{case}/last"]
  close(features.pooled, expected[:, 0])
  close(as_sets(features.tokens), as_sets(expected[:, 1:]), 1e-3)
  close(np.sort(select.token_sizes(trace)), np.sort(FIXTURE[f"{case}/sizes"]))


@pytest.mark.parametrize(
  "make",
  [
    lambda left: select.merge_between(tome, left),
    lambda left: select.drop_between(divprune, left),
    lambda left: select.fuse_between(left),
  ],
  ids=["merge", "drop", "fuse"],
)
def test_all_left_is_the_whole_net(make):
  dense, none = apply(TINY, variables())
  same, trace = apply(TINY, variables(), make({0: 16, 2: 16}))
  assert none is None
  close(same.pooled, dense.pooled)
  close(select.unmerge(trace, same.layers[-1]), dense.layers[-1])
  untouched, _ = apply(TINY, variables(), make({}))
  jax.tree.map(np.testing.assert_array_equal, untouched, dense)


def test_merging_equal_tokens_changes_nothing_if_attention_is_proportional():
  # Patches of one colour and no positions, so that all are alike, and only their number counts.
  vit = TINY.clone(positions="sincos", pool="mean", class_token=True)
  flat = jnp.broadcast_to(jnp.array([0.2, -0.4, 0.9]), (1, 16, 16, 3))
  same = lambda layer, x: x.at[:, 1:].set(x[:, 1:2]) if layer == 0 else x
  run = lambda reduce: jax.jit(
    lambda params: vit.clone(reduce=reduce).apply(params, flat, tokens_in=same).pooled
  )(variables(vit))
  dense = run(None)
  close(run(select.merge_between(tome, {0: 10, 1: 7})), dense, 1e-5)
  plain = run(select.merge_between(tome, {0: 10, 1: 7}, proportional=False))
  assert np.abs(plain - dense).max() > 1e-3


def test_multiply_adds_are_those_of_the_tokens_left():
  def counted(reduce):
    return count_flops(lambda x: TINY.clone(reduce=reduce).apply(variables(), x).layers, IMAGE[:1])

  dim = 32
  block = lambda seen, fed: 2 * (4 * seen * dim**2 + 2 * seen**2 * dim + 8 * fed * dim**2)
  patches = 2 * 16 * 48 * dim
  assert counted(None) == patches + 3 * block(17, 17)
  drop = select.drop_between(lambda layer, p, left: select.uniform_tokens(1, 16, left), {0: 4})
  assert counted(drop) == patches + block(17, 5) + 2 * block(5, 5)
  matching = 2 * 8 * 8 * (dim // 4)
  merging = counted(select.merge_between(tome, {0: 9}))
  assert merging == patches + block(17, 10) + 2 * block(10, 10) + matching


def test_dropped_tokens_leave_those_of_the_kept_as_they_are():
  kept = select.drop_between(top, {2: 5})
  features, trace = apply(TINY, variables(), kept)
  dense, _ = apply(TINY, variables())
  # Reduced behind the last attention, so that what is left is what it would have been.
  close(features.layers[-1], select.take(trace, dense.layers[-1]), 1e-5)
  close(features.pooled, dense.pooled, 1e-5)


def test_attention_of_the_class_token_is_what_the_block_computes():

  @jax.jit
  def look(params):
    seen = []

    def reduce(layer, between):
      seen.append(between)
      return between

    TINY.clone(reduce=reduce).apply(params, IMAGE)
    return seen[1].query, seen[1].key, select.class_attention(seen[1].query, seen[1].key, 1)

  *seen, found = look(variables())
  query, key = (np.asarray(x, np.float64) for x in seen)
  expected = np.zeros((2, 16))
  for b, h in np.ndindex(2, 4):
    scores = np.exp(key[b, :, h] @ query[b, 0, h] / np.sqrt(8))
    expected[b] += (scores / scores.sum())[1:] / 4
  close(found, expected, 1e-5)


@pytest.mark.parametrize("rotary", [None, "mixed"])
def test_rotary_positions_follow_the_tokens_that_are_left(rotary):
  vit = TINY.clone(positions="rotary", rotary=rotary, registers=1)
  chosen = jnp.array([[1, 4, 5, 9, 14], [0, 2, 3, 12, 15]])
  choose = lambda layer, patches, left: select.keep_only(chosen, 16)
  reduce = select.drop_between(choose, {0: 5}, prefix=2)

  def hide(layer, between):  # a block that attends to nothing that is dropped later
    sizes = jnp.full((2, 18), 1e-30).at[:, :2].set(1)
    sizes = sizes.at[jnp.arange(2)[:, None], chosen + 2].set(1)
    return between._replace(sizes=sizes)

  # Dropped after block 0 is hidden from block 1 on.
  dropped, _ = apply(vit, variables(vit), reduce)
  hidden, _ = apply(vit, variables(vit), hide)
  close(dropped.pooled, hidden.pooled)


def test_gradients_are_finite_in_bfloat16_with_rematerialised_blocks():
  reduce = select.merge_between(tome, {0: 9, 1: 5})
  vit = TINY.clone(dtype=jnp.bfloat16, remat=True, reduce=reduce)
  loss = lambda params: jnp.sum(vit.apply(params, IMAGE).pooled ** 2)
  gradients = jax.jit(jax.grad(loss))(variables())
  assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(gradients))
  assert jnp.any(gradients["params"]["block_0"]["mlp"]["up"]["kernel"] != 0)


def test_a_clips_tokens_chosen_before_the_first_block_are_those_it_is_given():
  clip = weights("image", (2, 2, 8, 8, 3))
  net = VideoTransformer(patch_size=4, dim=16, depth=2, heads=2, frames=2)
  chosen = select.keep_only(jnp.array([[1, 4, 6], [0, 3, 7]]), 8)
  hook = lambda i, x: select.take(chosen, x) if i == 0 else x

  @jax.jit
  def both(clip):
    params = net.init(jax.random.key(0), clip)
    return net.apply(params, clip, tokens_in=hook), net.apply(params, clip, keep=chosen.kept)

  jax.tree.map(close, *both(clip))


def test_keep_rate_rounds_up():
  assert select.keep_rate(10, (1, 3), 0.7) == {1: 7, 3: 5}


def test_what_cannot_be_reduced_is_refused():
  reduce = select.merge_between(tome, {0: 9})
  for vit, words in (
    (TINY.clone(scan=True), ["reduce", "scan=False", "scan=True"]),
    (TINY.clone(positions="relative"), ["reduce", "positions='relative'"]),
  ):
    with pytest.raises(ValueError) as error:
      vit.clone(reduce=reduce).init(jax.random.key(0), IMAGE)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)
