"""Batches: one stream for any number of workers, hosts and restarts."""

import itertools
import threading

import numpy as np
import pytest

from repjax import data

SIZE = 22


@pytest.fixture(scope="module")
def source():
  rng = np.random.default_rng(0)
  return data.Arrays(rng.integers(0, 256, (SIZE, 3, 4, 1), dtype=np.uint8), np.arange(SIZE))


def labels(source, count, **options):
  stream = data.batches(source, batch_size=8, seed=1, **options)
  found = np.stack([batch["label"] for batch in itertools.islice(stream, count)])
  stream.close()
  return found


def test_batches_follow_the_order_of_the_positions(source):
  stream = data.batches(source, batch_size=8, seed=1)
  for b, batch in enumerate(itertools.islice(stream, 9)):
    where = data.indices(1, 8 * b, 8 * b + 8, SIZE)
    np.testing.assert_array_equal(batch["label"], where)
    np.testing.assert_array_equal(batch["image"], source.image[where])
    assert batch["image"].dtype == np.uint8 and batch["label"].dtype == np.int32


def test_every_epoch_streams_each_example_once(source):
  shown = labels(source, 11).reshape(4, SIZE)
  np.testing.assert_array_equal(np.sort(shown, 1), np.tile(np.arange(SIZE), (4, 1)))


@pytest.mark.parametrize("start", [1, 3, 10])
def test_a_restart_continues_where_it_stopped(source, start):
  np.testing.assert_array_equal(labels(source, 12)[start:], labels(source, 12 - start, start=start))


def test_a_late_position_is_reached_at_once(source):
  np.testing.assert_array_equal(
    labels(source, 1, start=10**9)[0], data.indices(1, 8 * 10**9, 8 * 10**9 + 8, SIZE)
  )


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_out_the_same_batches(source, hosts):
  # Rows of one host need not be neighbours.
  shares = [np.arange(i, 8, hosts) for i in range(hosts)]
  whole = labels(source, 6)
  for rows in shares:
    np.testing.assert_array_equal(labels(source, 6, rows=rows), np.asarray(whole)[:, rows])


def test_worker_processes_change_nothing(source):
  np.testing.assert_array_equal(labels(source, 7, workers=2, start=2), labels(source, 7, start=2))


@pytest.mark.parametrize("prefetch", [1, 3])
def test_reading_ahead_changes_nothing(source, prefetch):
  np.testing.assert_array_equal(labels(source, 6, prefetch=prefetch), labels(source, 6))


class Counted:
  """A source that counts what is read of it."""

  def __init__(self, source):
    self.source = source
    self.image_shape = source.image_shape
    self.read = 0
    self.lock = threading.Lock()

  def __len__(self):
    return len(self.source)

  def __getitem__(self, i):
    with self.lock:
      self.read += 1
    return self.source[i]


@pytest.mark.parametrize("prefetch", [1, 3])
def test_no_more_is_read_ahead_than_asked(source, prefetch):
  counted = Counted(source)
  stream = data.batches(counted, batch_size=8, seed=1, prefetch=prefetch)
  for taken in range(1, 6):
    next(stream)
    assert 8 * taken <= counted.read <= 8 * (taken + prefetch)
  stream.close()


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"batch_size": 4096}, "--batch_size=4096 does not fit the train split of 22; choose 1 to 22"),
    ({"batch_size": 0}, "--batch_size=0 does not fit the train split of 22; choose 1 to 22"),
    ({"rows": [6, 8]}, r"expected rows in \[0, 8\), got \[6 8\]"),
    ({"start": -1}, "expected start >= 0, .* got start=-1"),
    ({"prefetch": 0}, "prefetch >= 1, got .* prefetch=0"),
  ],
)
def test_impossible_batches_are_refused_before_the_first(source, options, message):
  with pytest.raises(ValueError, match=message):
    data.batches(source, **{"batch_size": 8, "seed": 0} | options)


@pytest.mark.parametrize("batch_size", [1, 5, 22, 50])
@pytest.mark.parametrize("prefetch", [1, 4])
def test_once_shows_every_example_once_in_order(source, batch_size, prefetch):
  found = list(data.once(source, batch_size, prefetch=prefetch))
  np.testing.assert_array_equal(np.concatenate([b["label"] for b in found]), source.label)
  np.testing.assert_array_equal(np.concatenate([b["image"] for b in found]), source.image)
  assert {len(b["label"]) for b in found[:-1]} <= {batch_size}


@pytest.mark.parametrize("hosts", [1, 2, 5])
def test_hosts_share_out_what_is_shown_once(source, hosts):
  whole = list(data.once(source, 10))
  shares = [list(data.once(source, 10, rows=np.arange(10)[host::hosts])) for host in range(hosts)]
  assert {len(share) for share in shares} == {len(whole)}
  for parts, batch in zip(zip(*shares, strict=True), whole, strict=True):
    label = np.full(len(batch["label"]), -2)
    for host, part in enumerate(parts):
      label[host::hosts] = part["label"]
    np.testing.assert_array_equal(label, batch["label"])


def test_a_host_may_have_no_row_in_the_last_batch():
  source = data.Subset(Lazy(), np.arange(3))
  last = list(data.once(source, 2, rows=np.array([1])))[-1]
  assert last["image"].shape == (0, 2, 2, 3) and last["label"].shape == (0,)


class Lazy:
  """A source that reads one example at a time."""

  image_shape = (2, 2, 3)

  def __len__(self):
    return 3

  def __getitem__(self, i):
    return {"image": np.full((2, 2, 3), i, np.uint8), "label": np.int32(i)}
