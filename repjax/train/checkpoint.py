"""Checkpoints: the only file that knows Orbax."""

import contextlib
import itertools
import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Sharding

from repjax.train.hosts import everywhere, is_lead, share

Tree = Any


class Restored(NamedTuple):
  """What a checkpoint held.

  Attributes:
    step: updates made when it was written.
    state: the learner's state, laid out over the current mesh.
    record: the JSON saved with it: clock, seed, flags, mesh, validation metrics.
    path: the folder it came from.
  """

  step: int
  state: Tree
  record: dict[str, Any]
  path: Path


class Checkpoints:
  """The checkpoints of one run: written in the background, whole or not at all.

  Of several processes each writes and reads its own part; all of them call every method.

  Args:
    directory: where they go, one folder a step; made if absent. One folder for all processes.
    keep: how many of the latest stay.
    best: name of the metric whose highest value keeps one more, if any.
    read_only: only look; nothing is made, tidied or deleted.
  """

  def __init__(
    self,
    directory: str | Path,
    *,
    keep: int = 2,
    best: str | None = None,
    read_only: bool = False,
  ):
    import orbax.checkpoint as ocp

    self._ocp, self.directory, self._read_only = ocp, Path(directory).absolute(), read_only
    self._metrics = {}  # by step; read from disk where this process has not written them
    options = ocp.CheckpointManagerOptions(
      preservation_policy=_Keep(keep, lambda steps: best and self._highest(best, steps)),
      enable_async_checkpointing=True,
      read_only=read_only,
      create=not read_only,
    )
    if not read_only and is_lead():
      # What a save that was cut off has left would fill the disk. Orbax's own tidying goes on in
      # the background, where it may meet with a later save.
      for path in self.directory.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(path)
    self._manager = ocp.CheckpointManager(self.directory, options=options)
    self._reader = ocp.Checkpointer(
      ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=_alone(ocp))
      ),
      multiprocessing_options=_alone(ocp),
    )

  def steps(self) -> list[int]:
    """Steps that have a finished checkpoint, in order."""
    return sorted(self._manager.all_steps())

  def best(self, metric: str) -> int | None:
    """Step of the checkpoint whose metric is highest; none if no checkpoint has it.

    Args:
      metric: name of a metric given to `save`.

    Returns:
      The step.
    """
    return self._highest(metric, self.steps())

  def _highest(self, metric: str, steps: Iterable[int]) -> int | None:
    for step in set(steps) - self._metrics.keys():
      try:
        record = self._reader.restore(
          self.directory / str(step),
          args=self._ocp.args.Composite(record=self._ocp.args.JsonRestore()),
        ).record
        self._metrics[step] = record.get("metrics") or {}
      except Exception:  # damaged: as good as without metrics
        self._metrics[step] = {}
    scores = {step: self._metrics[step][metric] for step in steps if metric in self._metrics[step]}
    return max(scores, key=scores.get) if scores else None

  def save(
    self,
    step: int,
    state: Tree,
    record: Mapping[str, Any],
    metrics: Mapping[str, float] | None = None,
  ) -> None:
    """Starts to write a checkpoint and returns once the state may be overwritten.

    Args:
      step: updates made.
      state: the learner's state.
      record: JSON kept with it.
      metrics: validation metrics, for the choice of the best.

    Raises:
      FloatingPointError: if the state holds a value that is not finite; nothing is written.
      OSError: if this checkpoint or the one before cannot be written.
    """
    mark, finite = jax.device_get(_fingerprint(state))
    if not finite:
      raise FloatingPointError(f"the state at step {step} is not finite; it was not saved")
    args = self._ocp.args
    self._metrics[step] = {name: float(value) for name, value in (metrics or {}).items()}
    # A copy: it is written in the background, while the caller's clock goes on.
    record = json.loads(json.dumps({**record, "metrics": self._metrics[step]}))
    record["fingerprint"] = _seal(record, mark)
    raw = args.StandardSave(_raw_keys(state))
    with self._writing():
      self._manager.save(
        step, args=args.Composite(state=raw, record=args.JsonSave(record)), force=True
      )

  def restore(
    self, like: Tree, shardings: Sharding | Tree, *, step: int | None = None
  ) -> Restored | None:
    """Reads the latest checkpoint that is whole.

    One that cannot be read, or whose content is not what was written, is skipped with a warning;
    its folder is renamed to ``STEP.damaged``, so that the step can be saved again.

    Args:
      like: a state of the same learner, or its `jax.eval_shape`.
      shardings: where to put it, one for all or a tree of them; any devices, whatever wrote it.
      step: this checkpoint alone; the latest if absent.

    Returns:
      The checkpoint, or nothing if there is none at all.

    Raises:
      ValueError: if there are checkpoints and none can be used.
    """
    # The lead's list: another host may not see the latest yet.
    steps = share(self.steps()) if step is None else [step]
    skipped = []
    for candidate in reversed(steps):
      path = self.directory / str(candidate)
      read, failure = None, None
      try:
        read = self._read(path, like, shardings)
      except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file.
        failure = f"{type(error).__name__}: {_first_line(error)}"
      # A file may be damaged that only one process reads: they skip it together.
      if all(fine := everywhere(failure is None)):
        state, record, seal = read
        # Counted over all processes, and so the same for each.
        if seal != _seal(record, _fingerprint(state)[0]):
          failure = "ValueError: its content is not what was written"
      else:
        failure = failure or f"process {np.argmin(fine)} cannot read it"
      if failure:
        logging.warning("skipped checkpoint %s: %s", path, failure)
        skipped.append(path)
        continue
      # Only now is it known that these were damaged, and not the learner another.
      self._set_aside(skipped)
      return Restored(candidate, _wrap_keys(state, like), record, path)
    if steps:
      raise ValueError(
        f"none of the checkpoints {steps} in {self.directory} fits this learner or is whole; "
        f"check that the flags are those of the run, or choose a new --workdir"
      )
    return None

  def _set_aside(self, paths):
    if self._read_only or not paths:
      return
    if is_lead():
      for path in paths:
        names = (path.with_name(f"{path.name}.damaged{n or ''}") for n in itertools.count())
        aside = path.rename(next(name for name in names if not name.exists()))
        logging.warning("renamed %s to %s; delete it once it is of no use", path, aside)
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices("damaged checkpoints renamed")
    self._manager.reload()

  def _read(self, path, like, shardings):
    """A checkpoint's state with raw keys, its record and its seal, without a word to others."""
    args = self._ocp.args
    abstract = jax.tree.map(
      lambda where, x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
      jax.tree.broadcast(shardings, like),
      jax.eval_shape(_raw_keys, like),
    )
    read = self._reader.restore(
      path,
      args=args.Composite(state=args.StandardRestore(abstract), record=args.JsonRestore()),
    )
    wanted = jax.tree.map(lambda x: (x.shape, x.dtype), abstract)
    if (got := jax.tree.map(lambda x: (x.shape, x.dtype), read.state)) != wanted:
      raise ValueError(f"expected arrays {wanted}, got {got}")
    return read.state, read.record, read.record.pop("fingerprint")

  def wait(self) -> None:
    """Returns when everything begun is on disk.

    Raises:
      OSError: if it cannot be written.
    """
    with self._writing():
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Finishes writing and lets go of the folder.

    Raises:
      OSError: if it cannot be written.
    """
    with self._writing():
      self._manager.close()
    self._reader.close()

  @contextlib.contextmanager
  def _writing(self):
    """Says in one line why a checkpoint cannot be written."""
    try:
      yield
    except jax.errors.JaxRuntimeError:
      raise  # a device, or a process that is gone
    except Exception as error:  # Orbax and TensorStore raise many kinds for a full disk.
      known = re.search("No space left on device|Disk quota exceeded|File too large", str(error))
      raise OSError(
        f"{self.directory} cannot be written ({known[0] if known else _first_line(error)}); "
        f"make room, and the same command goes on from the last checkpoint"
      ) from error


class _Keep(NamedTuple):
  """Orbax's rule for what stays: the latest, and the best if there is one."""

  latest: int
  best: Callable[[list[int]], int | None]

  def should_preserve(self, checkpoints, *, context):
    steps = sorted(info.step for info in checkpoints)
    kept = {*steps[-self.latest :], self.best(steps)}
    return [info.step in kept for info in checkpoints]


def _alone(ocp):
  """Options of an Orbax object that waits for no other process."""
  if jax.process_count() == 1:
    return ocp.options.MultiprocessingOptions()
  own = jax.process_index()
  return ocp.options.MultiprocessingOptions(
    primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
  )


def _first_line(error) -> str:
  return str(error).strip().split("\n")[0][:200]


def _seal(record, mark) -> int:
  return zlib.crc32(json.dumps(record, sort_keys=True).encode(), int(mark))


def _is_key(x) -> bool:
  return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _raw_keys(state):
  return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, state)


def _wrap_keys(state, like):
  return jax.tree.map(lambda x, y: jax.random.wrap_key_data(x) if _is_key(y) else x, state, like)


@jax.jit
def _fingerprint(state):
  """A number that changes with any bit of the state and not with its layout; and is it finite."""
  mark, finite = jnp.zeros((), jnp.uint32), jnp.array(True)
  for x in jax.tree.leaves(_raw_keys(state)):
    if jnp.issubdtype(x.dtype, jnp.inexact):
      finite &= jnp.all(jnp.isfinite(x))
    x = x.astype(jnp.uint8) if x.dtype == bool else x
    width = 8 * min(x.dtype.itemsize, 4)
    bits = lax.bitcast_convert_type(x, jnp.dtype(f"uint{width}"))
    # Places in raster order, from coordinates: flattened, an array would leave its devices.
    place = jnp.zeros(bits.shape, jnp.uint32)
    for axis, size in enumerate(bits.shape):
      place = place * jnp.uint32(size) + lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    # Odd weights make a swap of two entries visible; uint32 sums wrap, so their order is free.
    weights = 2 * place + 1
    mark = mark * jnp.uint32(31) + jnp.sum(bits.astype(jnp.uint32) * weights, dtype=jnp.uint32)
  return mark, finite
