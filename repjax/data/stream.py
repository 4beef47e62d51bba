"""Batches without end for training, and once through for evaluation."""

import collections
import functools
import os
from collections.abc import Iterator
from concurrent import futures

import numpy as np
from absl import flags

from repjax.data.order import indices
from repjax.data.source import Source, take

Batch = dict[str, np.ndarray]
THREADS = 16  # A decoded JPEG holds the interpreter's lock for some fifteenth of its time.


def batches(
  source: Source,
  *,
  batch_size: int,
  seed: int,
  start: int = 0,
  workers: int = 0,
  rows: np.ndarray | None = None,
  prefetch: int | None = None,
) -> Iterator[Batch]:
  """Shuffled batches for ever, read ahead by Grain.

  Batch ``b`` holds the global positions ``b * batch_size`` onwards of `repjax.data.order.indices`,
  so an epoch may end inside a batch and no example is dropped. The step number is therefore the
  whole position: a checkpoint stores that and nothing of Grain's own iterator state, which is tied
  to a number of workers and hosts that may differ on the day of the restart.

  A batch is read by one thread or worker: reading by the example costs a tenth more, since Grain's
  own work then comes once an example (benchmarks/NOTES.md).

  Args:
    source: what to read; pickled to every worker, so one in memory is best read without workers.
    batch_size: examples over all hosts.
    seed: of the order, the same on all hosts.
    start: first batch, such as the step to resume at.
    workers: processes that decode, on this host; threads if 0, one a core up to 16.
    rows: ``[rows]`` integers, the places in a batch that this host reads; all of them if absent.
    prefetch: batches to read ahead, > 0, by no more threads than that; every worker reads at least
      one. If absent 4, or one for each thread.

  Returns:
    An endless iterator of ``image`` uint8 ``[rows, h, w, c]`` and ``label`` int32 ``[rows]``.
    Closing it stops what reads ahead.

  Raises:
    ImportError: if Grain is not installed.
    ValueError: if the batch is larger than the set, or a row is not in it.
  """
  if not 1 <= batch_size <= len(source):
    raise ValueError(
      f"--batch_size={batch_size} does not fit the train split of {len(source)}; choose 1 to "
      f"{len(source)}"
    )
  rows = np.arange(batch_size) if rows is None else np.asarray(rows)
  if not len(rows) or rows.min() < 0 or rows.max() >= batch_size:
    raise ValueError(f"expected rows in [0, {batch_size}), got {rows}")
  prefetch = _ahead() if prefetch is None else prefetch
  if start < 0 or workers < 0 or prefetch < 1:
    raise ValueError(
      f"expected start >= 0, workers >= 0 and prefetch >= 1, got {start=}, {workers=}, {prefetch=}"
    )
  try:
    import grain
  except ImportError as error:
    raise ImportError("streaming needs Grain: pip install 'repjax[stream]'") from error

  read = functools.partial(_read, source=source, seed=seed, batch_size=batch_size, rows=rows)
  threads = 0 if workers else min(prefetch, os.cpu_count() or 1)
  steps = grain.MapDataset.range(start, start + 2**50).map(read)
  stream = steps.to_iter_dataset(
    grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch if threads else 0)
  )
  if workers:
    if not flags.FLAGS.is_parsed():
      # In a notebook nobody parses absl's flags, and Grain's raise unless marked as given.
      for name in flags.FLAGS:
        if name.startswith("grain_"):
          flags.FLAGS[name].present = 1
    each = -(-prefetch // workers)
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=each)
    stream = stream.mp_prefetch(options)
  return _closing(iter(stream))


def once(
  source: Source,
  batch_size: int,
  *,
  rows: np.ndarray | None = None,
  prefetch: int | None = None,
) -> Iterator[Batch]:
  """Every example once and in order, read ahead in threads; the last batch may be short.

  Args:
    source: what to read.
    batch_size: examples a batch, > 0, over all hosts.
    rows: ``[rows]`` integers, the places in a batch that this host reads; all of them if absent.
    prefetch: batches to read ahead, > 0, each by a thread of its own; as `batches` if absent.

  Yields:
    ``image`` uint8 ``[batch, h, w, c]`` and ``label`` int32 ``[batch]``; as many batches on each
    host, of which the last may be empty.
  """
  prefetch = _ahead() if prefetch is None else prefetch
  with futures.ThreadPoolExecutor(prefetch) as pool:
    waiting = collections.deque()
    for first in range(0, len(source), batch_size):
      places = first + (np.arange(batch_size) if rows is None else rows)
      places = places[places < len(source)]
      waiting.append(pool.submit(take, source, places))
      if len(waiting) > prefetch:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()


def _ahead():
  return max(4, min(os.cpu_count() or 1, THREADS))


def _read(step, *, source, seed, batch_size, rows):
  first = int(step) * batch_size
  return take(source, indices(seed, first, first + batch_size, len(source))[rows])


def _closing(iterator):
  try:
    yield from iterator
  finally:
    iterator.close()
