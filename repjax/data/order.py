"""Which example is shown when."""

import functools

import numpy as np


@functools.lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
  """The order of one epoch.

  Args:
    seed: of the run, >= 0.
    epoch: which pass over the data, >= 0.
    size: number of examples.

  Returns:
    ``[size]`` int64, read-only, each of ``0 .. size - 1`` once.

  Raises:
    ValueError: for a negative seed.
  """
  if seed < 0:
    raise ValueError(f"--seed={seed} is negative; choose at least 0")
  # NumPy keeps the raw stream of Philox fixed for ever, but not Generator.permutation: a resumed
  # run must see the same order under a newer NumPy.
  raw = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(size)
  order = np.argsort(raw, kind="stable").astype(np.int64)
  order.flags.writeable = False
  return order


def indices(seed: int, start: int, stop: int, size: int) -> np.ndarray:
  """The examples at the global positions ``start .. stop - 1``.

  Position ``p`` is place ``p % size`` of epoch ``p // size``, and every epoch has an order of its
  own. Nothing else enters, so neither workers, hosts nor batch boundaries can change the order.

  Args:
    seed: of the run, >= 0.
    start: first position, >= 0.
    stop: end of the positions, excluded.
    size: number of examples, > 0.

  Returns:
    ``[stop - start]`` int64 in ``[0, size)``.

  Raises:
    ValueError: for a negative seed or start, ``stop < start``, or an empty set.
  """
  if size < 1 or not 0 <= start <= stop:
    raise ValueError(f"expected 0 <= start <= stop and size >= 1, got {start=}, {stop=}, {size=}")
  parts = [np.zeros(0, np.int64)]
  for epoch in range(start // size, -(-stop // size)):
    first = epoch * size
    parts.append(permutation(seed, epoch, size)[max(start - first, 0) : stop - first])
  return np.concatenate(parts)
