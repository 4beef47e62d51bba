"""Code lengths: scipy's entropy, a coder that counts symbol by symbol, and their order."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from repjax.codes import adaptive_bits, count_symbols, entropy_bits, lzma_bits, table_bits

RNG = np.random.default_rng(0)
SYMBOLS = RNG.binomial(7, [0.2, 0.5, 0.0], (300, 3))
COUNTS = count_symbols(SYMBOLS, levels=8)


def test_counts_are_those_of_numpy():
  for c in range(3):
    np.testing.assert_array_equal(COUNTS[c], np.bincount(SYMBOLS[:, c], minlength=8))


def test_bits_by_the_counts_are_scipys_entropy():
  wanted = 300 * scipy.stats.entropy(np.asarray(COUNTS), base=2, axis=1)
  np.testing.assert_allclose(jax.jit(entropy_bits)(COUNTS), wanted, rtol=1e-5)


def test_an_adaptive_coder_counts_as_it_goes():
  for prior in (0.5, 1.0):
    ours = adaptive_bits(COUNTS, prior=prior)
    for c in range(3):
      seen, total = np.zeros(8), 0.0
      for symbol in RNG.permutation(SYMBOLS[:, c]):  # in any order
        total -= math.log2((seen[symbol] + prior) / (seen.sum() + 8 * prior))
        seen[symbol] += 1
      np.testing.assert_allclose(ours[c], total, rtol=1e-4)


def test_no_table_is_shorter_than_the_counts_own():
  own, other = entropy_bits(COUNTS), jnp.roll(COUNTS, 2, 1)
  assert (table_bits(COUNTS, COUNTS) >= own).all()
  assert (table_bits(COUNTS, other) > table_bits(COUNTS, COUNTS)).all()
  assert (adaptive_bits(COUNTS) >= own).all()
  share = (np.float64(other) + 0.5) / (np.float64(other) + 0.5).sum(1, keepdims=True)
  np.testing.assert_allclose(
    table_bits(COUNTS, other), -(np.float64(COUNTS) * np.log2(share)).sum(1), rtol=1e-5
  )
  # A table of very much the same costs what one's own does.
  np.testing.assert_allclose(table_bits(COUNTS, 1e5 * COUNTS), own, rtol=1e-3, atol=1e-2)


def test_a_real_coder_needs_more_than_the_ideal_of_independent_symbols_and_less_of_repeated_ones():
  drawn = RNG.integers(0, 4, 20_000).astype(np.uint8)
  ideal = float(entropy_bits(count_symbols(drawn[:, None], levels=4))[0])
  assert ideal < lzma_bits(drawn) < 1.3 * ideal
  assert lzma_bits(np.tile(drawn[:100], 200)) < ideal / 20
