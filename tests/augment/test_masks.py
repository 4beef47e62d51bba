"""Masks: exact counts, every patch as likely as the next, blocks that are blocks."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from repjax import augment

KEYS = jax.random.split(jax.random.key(0), 600)


def masks(f, grid, **how):
  return np.asarray(jax.jit(jax.vmap(partial(f, grid=grid, **how)))(KEYS))


@pytest.mark.parametrize("ratio, hidden", [(0, 0), (0.01, 1), (0.55, 14), (0.6, 15), (1, 25)])
def test_random_masks_hide_the_share_rounded_up(ratio, hidden):
  mask = augment.random_mask(KEYS[0], (5, 5), ratio=ratio)
  assert int(mask.sum()) == hidden


@pytest.mark.parametrize("patches, ratio, hidden", [(100, 0.55, 55), (100, 0.07, 7), (36, 0.6, 22)])
def test_float_error_hides_no_extra_patch(patches, ratio, hidden):
  assert augment.masked_count(patches, ratio) == hidden


def test_random_masks_hide_whole_units():
  mask = masks(augment.random_mask, (6, 8), ratio=0.6, unit=2)
  units = mask.reshape(len(KEYS), 3, 2, 4, 2)
  np.testing.assert_array_equal(units.any((2, 4)), units.all((2, 4)))
  assert (units.all((2, 4)).sum((1, 2)) == math.ceil(12 * 0.6)).all()


def test_random_masks_hide_every_patch_and_every_pair_equally_often():
  mask = masks(augment.random_mask, (2, 3), ratio=0.5).reshape(len(KEYS), 6)
  sets, counts = np.unique(mask @ (1 << np.arange(6)), return_counts=True)
  assert len(sets) == math.comb(6, 3)
  assert stats.chisquare(counts).pvalue > 1e-3


@pytest.fixture(scope="module")
def blocks():
  return masks(augment.block_mask, (10, 12), ratio=0.4, min_block=6, exact=True)


@pytest.fixture(scope="module")
def short_blocks():
  return masks(augment.block_mask, (10, 12), ratio=0.4, min_block=6, exact=False)


def test_exact_block_masks_hide_the_share(blocks):
  assert (blocks.sum((1, 2)) == 48).all()


def test_block_masks_never_hide_more_than_the_share(short_blocks):
  counts = short_blocks.sum((1, 2))
  assert counts.max() <= 48
  assert counts.mean() > 0.85 * 48


def beit_counts(rng, n, height, width, wanted, min_block, aspect):
  """Hidden patches by the rule of BEiT's generator, one attempt after another."""
  counts = []
  for _ in range(n):
    mask, failures = np.zeros((height, width), bool), 0
    while mask.sum() < wanted and failures < 10:
      left = wanted - mask.sum()
      area = rng.uniform(min_block, left) if left > min_block else rng.uniform(left, min_block)
      shape = np.exp(rng.uniform(*np.log(aspect)))
      h, w = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
      failures += 1
      if h < height and w < width:
        top, first = rng.integers(height - h + 1), rng.integers(width - w + 1)
        block = np.zeros_like(mask)
        block[top : top + h, first : first + w] = True
        if 0 < (block & ~mask).sum() <= left:
          mask, failures = mask | block, 0
    counts.append((mask.sum(), ndimage.label(mask)[1], mask[0].sum()))
  return np.array(counts).T


def test_block_masks_are_distributed_as_beits(short_blocks):
  ours = np.array([(m.sum(), ndimage.label(m)[1], m[0].sum()) for m in short_blocks]).T
  theirs = beit_counts(np.random.default_rng(1), 600, 10, 12, 48, 6, (0.3, 1 / 0.3))
  for a, b in zip(ours, theirs, strict=True):  # patches, connected parts, patches in the first row
    assert stats.ks_2samp(a, b, method="asymp").pvalue > 1e-3


def test_block_masks_are_the_same_left_to_right(blocks):
  rate = blocks.mean(0)
  np.testing.assert_allclose(rate, rate[:, ::-1], atol=0.12)
  np.testing.assert_allclose(rate, rate[::-1], atol=0.12)
  np.testing.assert_allclose(rate.mean(), 0.4, atol=1e-6)


def test_vmap_equals_a_loop(blocks):
  one = jax.jit(partial(augment.block_mask, grid=(10, 12), ratio=0.4, min_block=6))
  np.testing.assert_array_equal(blocks[:5], jnp.stack([one(k) for k in KEYS[:5]]))


def test_keep_indices_are_the_visible_patches_in_order():
  mask = augment.random_mask(KEYS[0], (4, 5), ratio=0.75)
  wanted = np.flatnonzero(~np.asarray(mask).ravel())
  kept = augment.keep_indices(mask, 5)
  assert kept.dtype == jnp.int32
  np.testing.assert_array_equal(kept, wanted)


def test_impossible_masks_are_refused():
  with pytest.raises(ValueError, match=r"ratio=1.5 is outside \[0, 1\]"):
    augment.random_mask(KEYS[0], (4, 4), ratio=1.5)
  with pytest.raises(ValueError, match=r"ratio=-0.1 is outside"):
    augment.block_mask(KEYS[0], (4, 4), ratio=-0.1)
  with pytest.raises(ValueError, match=r"grid=\(4, 6\) is not divisible by unit=4"):
    augment.random_mask(KEYS[0], (4, 6), unit=4)
  with pytest.raises(ValueError, match=r"aspect=\(2, 1\)"):
    augment.block_mask(KEYS[0], (4, 4), aspect=(2, 1))
  with pytest.raises(ValueError, match=r"keep=17 of 16 patches; choose between 1 and 16"):
    augment.keep_indices(jnp.zeros((4, 4), bool), 17)


def test_multi_blocks_are_rectangles_that_the_context_does_not_see():
  grid = (10, 10)
  keep, targets = map(np.asarray, jax.jit(jax.vmap(partial(augment.multi_block, grid=grid)))(KEYS))
  assert all(len(set(row)) == 25 for row in keep)
  assert all(not set(row) & set(blocks.ravel()) for row, blocks in zip(keep, targets, strict=True))
  # 15 to 20 patches of 3/4 to 3/2: 3x4, 4x4 or 5x4, each cut to the first 12.
  row, column = np.divmod(targets, 10)
  sides = np.stack([row.max(2) - row.min(2), column.max(2) - column.min(2)], -1) + 1
  assert targets.shape == (len(KEYS), 4, 12)
  assert set(map(tuple, sides.reshape(-1, 2))) == {(3, 4)}
  assert (row.min(), row.max(), column.min(), column.max()) == (0, 9, 0, 9)


def test_a_context_that_is_too_small_takes_from_the_targets():
  draw = partial(augment.multi_block, grid=(4, 4), blocks=2, scale=(0.5, 0.6), keep=15)
  keep, targets = jax.jit(draw)(KEYS[0])
  assert len(set(keep.tolist())) == 15
  assert set(keep.tolist()) & set(targets.ravel().tolist())
