"""The order of examples depends on the seed and the position alone."""

import itertools

import numpy as np
import pytest

from repjax import data


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_every_epoch_shows_each_example_once(size):
  shown = data.indices(3, 0, 5 * size, size).reshape(5, size)
  np.testing.assert_array_equal(np.sort(shown, 1), np.tile(np.arange(size), (5, 1)))


def test_any_partition_of_the_positions_gives_the_same_order():
  whole = data.indices(0, 0, 50, 7)
  for cuts in ([0, 50], [0, 3, 7, 8, 30, 30, 50], range(51)):
    parts = [data.indices(0, a, b, 7) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_seeds_and_epochs_have_orders_of_their_own():
  orders = {tuple(data.indices(seed, 20 * epoch, 20 * epoch + 20, 20))
            for seed in range(4) for epoch in range(4)}  # fmt: skip
  assert len(orders) == 16


def test_first_places_are_uniform():
  # 3,000 epochs of 6: each example leads 500 +- 20 (one standard deviation) of them.
  first = data.indices(1, 0, 18_000, 6)[::6]
  assert np.all(np.abs(np.bincount(first, minlength=6) - 500) < 100)


def test_the_order_is_the_same_on_every_machine_and_numpy():
  np.testing.assert_array_equal(
    data.indices(0, 0, 10, 10), np.argsort(np.random.Philox(key=[0, 0]).random_raw(10))
  )
  np.testing.assert_array_equal(data.indices(7, 95, 105, 10), [9, 4, 3, 8, 2, 0, 4, 9, 1, 3])


@pytest.mark.parametrize("arguments", [(0, -1, 1, 5), (0, 2, 1, 5), (0, 0, 1, 0)])
def test_impossible_positions_are_refused(arguments):
  with pytest.raises(ValueError, match="expected 0 <= start"):
    data.indices(*arguments)


def test_a_negative_seed_is_refused():
  with pytest.raises(ValueError, match="--seed=-1 is negative; choose at least 0"):
    data.indices(-1, 0, 1, 5)
