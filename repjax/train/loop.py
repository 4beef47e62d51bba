"""The training loop: draw, update, watch, save."""

import collections
import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from tqdm import tqdm

from repjax.learners.learner import Learner
from repjax.train import hosts
from repjax.train.checkpoint import Checkpoints
from repjax.train.collapse import CollapseWatch
from repjax.train.feed import Feed, check_divisible, first_batch, place_batch, place_table
from repjax.train.flops import count_flops, peak_flops
from repjax.train.log import MetricLog
from repjax.train.sharding import default_rules, state_shardings
from repjax.train.step import compile_update, init_state, shape_of_state

Tree = Any
_MEMORY = 5  # steps whose metrics are shown when a run stops on a value that is not finite
_IN_FLIGHT = 2  # steps that the host runs ahead of the devices
_WAITS = 0.03  # share of waiting for input from which the progress bar speaks of it
_CALM = "lower --learning_rate or set --clip, with --override_flags to go on from there"


class Schedule(NamedTuple):
  """What happens when.

  Attributes:
    steps: updates of the whole run.
    log_every: updates between two lines of the log.
    eval_every: updates between two evaluations; 0 for none.
    checkpoint_every: updates between two checkpoints; 0 for the end of the run alone.
    keep: latest checkpoints that stay.
    best: validation metric whose best checkpoint stays too, if any.
  """

  steps: int
  log_every: int = 50
  eval_every: int = 0
  checkpoint_every: int = 500
  keep: int = 2
  best: str | None = None


class Result(NamedTuple):
  """What a run leaves.

  Attributes:
    state: the learner's last state.
    history: one dictionary of numbers per line of the log, those of earlier parts included.
    speed: the run's clock and its last rates. Of these ``input_wait`` is the share of the time, in
      [0, 1], that the host spent waiting for batches: near 0 where the input keeps up with the
      devices, near 1 where it sets the pace, even if they are busy for most of that time.
  """

  state: Tree
  history: list[dict[str, float]]
  speed: dict[str, float | str]


def train(
  learner: Learner,
  feed: Feed,
  schedule: Schedule,
  *,
  workdir: Path,
  mesh: Mesh,
  seed: int = 0,
  parallel: str = "pjit",
  sharding: str | None = None,
  evaluate: Callable[[Tree], Mapping[str, float]] | None = None,
  watch: Callable[[int], Mapping[str, Any]] | None = None,
  record: Mapping[str, Any] | None = None,
  tensorboard: bool = False,
  progress: bool = True,
) -> Result:
  """Runs a learner to the end of its schedule, from its latest checkpoint if there is one.

  Killed at any moment and started again, it ends in the same state to the last bit: parameters,
  order of the data and random draws are functions of ``(seed, step)``. On SIGTERM it saves and
  leaves with exit code 0; if it reaches one of several processes, all save the same step and leave.

  Args:
    learner: what to train; it knows the axis ``data`` if ``parallel`` is ``pmap``.
    feed: its batches.
    schedule: what happens when.
    workdir: folder of the run, the same for all processes; ``checkpoints/`` and ``metrics.jsonl``
      go there.
    mesh: from `make_mesh`.
    seed: of parameters, augmentations and masks.
    parallel: ``pjit`` or ``pmap``.
    sharding: rules of `repjax.train.sharding`; what the axes of the mesh are for if absent.
    evaluate: ``state -> numbers`` on validation data, logged under ``val/``; called by every
      process, and what the first finds counts.
    watch: ``step -> numbers`` for the log, such as the learning rate.
    record: JSON saved with every checkpoint.
    tensorboard: write event files too.
    progress: show a progress bar.

  Returns:
    The last state, the log and the speed.

  Raises:
    ValueError: if batch, rules and mesh do not fit, or no checkpoint in ``workdir`` can be used.
    FloatingPointError: if a loss, gradient or parameter is not finite.
  """
  check_divisible(feed.batch_size, mesh)
  example = first_batch(feed)
  like = shape_of_state(learner, example)
  where = state_shardings(like, mesh, sharding)
  update = compile_update(learner, mesh, seed=seed, parallel=parallel, shardings=where)
  checkpoints = Checkpoints(workdir / "checkpoints", keep=schedule.keep, best=schedule.best)
  lead = hosts.is_lead()

  # Own checkpoint first, then a fresh start.
  layout = {
    "mesh": dict(mesh.shape),
    "sharding": sharding or default_rules(mesh),
    "processes": jax.process_count(),
  }
  clock = {"seconds": 0.0, "examples": 0}
  restored = checkpoints.restore(like, where)
  if restored is None:
    first, state = 0, init_state(learner, example, seed=seed, mesh=mesh, shardings=where)
  else:
    first, state, clock = restored.step, restored.state, dict(restored.record["clock"])
    logging.info("resumed from %s", restored.path)
    if restored.record["layout"] != layout:
      logging.warning(
        "%s was written on %s and goes on on %s: equal to float tolerance, not to the last bit",
        restored.path, restored.record["layout"], layout,
      )  # fmt: skip
  log = MetricLog(workdir, step=first, tensorboard=tensorboard, write=lead)

  table = place_table(feed.table, mesh)
  batches = feed.batches(first)
  pending = collections.deque()  # (step, metrics still on the device)
  window = []  # metrics since the last line of the log
  recent = collections.deque(maxlen=_MEMORY)
  collapse, company = CollapseWatch(), hosts.Company(mesh)
  flops, speed, saved = None, {}, first
  mark = None  # when the current stretch of the clock began, and at which step
  waited = 0.0  # seconds of the stretch in which the host had to wait for batches
  bar = tqdm(
    total=schedule.steps, initial=first, disable=not (progress and lead), unit="step",
    dynamic_ncols=True, desc="train",
  )  # fmt: skip

  def drain():
    """Brings metrics to the host; stops the run if any is not finite."""
    for at, metrics in pending:
      metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
      window.append(metrics)
      recent.append(f"step {at}: {_show(metrics)}")
      if not all(map(math.isfinite, metrics.values())):
        raise FloatingPointError(
          f"not finite at step {at} ({'; '.join(recent)}); {_last_good(checkpoints)}; {_CALM}"
        )
    pending.clear()

  def save(step, metrics=None):
    nonlocal saved
    if step == saved:
      return
    drain()
    try:
      checkpoints.save(
        step,
        state,
        {**(record or {}), "clock": clock, "layout": layout, "seed": seed, "position": step},
        metrics,
      )
    except FloatingPointError as error:
      raise FloatingPointError(
        f"{error} ({'; '.join(recent)}); {_last_good(checkpoints)}; {_CALM}"
      ) from None
    saved = step

  with contextlib.ExitStack() as stack:
    stack.push(lambda kind, *_: _close(checkpoints, kind))
    stack.callback(log.close)
    stack.callback(bar.close)
    stack.callback(getattr(batches, "close", lambda: None))
    terminated = stack.enter_context(_sigterm())

    for step in range(first + 1, schedule.steps + 1):
      start = time.perf_counter()
      batch = next(batches)
      waited += time.perf_counter() - start
      batch = place_batch(batch, mesh)
      if flops is None:
        flops = count_flops(update, state, table, batch, step - 1)
        peak, peak_source = _peak(mesh)
      state, metrics = update(state, table, batch, step - 1)
      # The first step compiles, which makes no host slow.
      stop = company.tell(terminated.is_set(), time.perf_counter() - start if mark else 0.0)
      pending.append((step, metrics))
      if mark is None:
        # The clock starts after the first step, which compiles.
        jax.block_until_ready(metrics)
        mark, waited = (time.perf_counter(), step), 0.0
      elif len(pending) > _IN_FLIGHT:
        jax.block_until_ready(pending[-1 - _IN_FLIGHT][1])
      bar.update()
      clock["examples"] += feed.batch_size

      last = step == schedule.steps
      if step % schedule.log_every == 0 or last:
        drain()
        now = time.perf_counter()
        seconds, steps = now - mark[0], step - mark[1]
        clock["seconds"] += seconds
        mark = (now, step)
        if steps:  # none if this is the step that compiled
          speed = {
            "images_per_second": feed.batch_size * steps / seconds,
            "step_ms": 1e3 * seconds / steps,
            "model_flops_per_second": flops * steps / seconds,
            "share_of_peak": flops * steps / seconds / peak,
            "input_wait": waited / seconds,
          }
        waited = 0.0
        means = {k: float(np.mean([m[k] for m in window])) for k in window[-1]}
        window.clear()
        speed |= company.slowest(steps)
        if lead:
          collapse.look(step, means)
        log.write(step, {**means, **(watch(step) if watch else {}), **speed})
        first_metric = next(iter(sorted(means, key=lambda name: name != "loss")))
        note = f"{first_metric} {means[first_metric]:.3f}"
        if speed:
          note += (
            f", {speed['images_per_second']:.0f} img/s, "
            f"{speed['model_flops_per_second'] / 1e9:.0f} GFLOP/s "
            f"({speed['share_of_peak']:.0%} of peak)"
          )
          if speed["input_wait"] > _WAITS:
            note += f", {speed['input_wait']:.0%} waiting for input"
        bar.set_postfix_str(note)

      scores = None
      if evaluate is not None and schedule.eval_every and step % schedule.eval_every == 0:
        paused = time.perf_counter()
        scores = {f"val/{name}": value for name, value in hosts.share(evaluate(state)).items()}
        log.write(step, scores)
        mark = (mark[0] + time.perf_counter() - paused, mark[1])  # evaluation is not training time

      due = schedule.checkpoint_every and step % schedule.checkpoint_every == 0
      if due or last or scores or stop:
        paused = time.perf_counter()
        save(step, scores)
        mark = (mark[0] + time.perf_counter() - paused, mark[1])
      if stop:
        checkpoints.wait()
        logging.warning("stopped by SIGTERM; saved step %d, the same command goes on", step)
        raise SystemExit(0)

    checkpoints.wait()
  total = {"training_seconds": clock["seconds"], "images_seen": clock["examples"]}
  if speed:
    total |= {**speed, "peak_flops_per_second": peak, "peak_source": peak_source}
  return Result(state, log.history, total)


def _peak(mesh: Mesh) -> tuple[float, str]:
  """Peak of all devices together; simulated CPU devices share one machine."""
  peak, source = peak_flops(mesh.devices.flat[0])
  return (peak if mesh.devices.flat[0].platform == "cpu" else peak * mesh.size), source


def _close(checkpoints: Checkpoints, kind: type[BaseException] | None) -> None:
  """Finishes writing; not if one of several processes fails, for the others do not come along."""
  if jax.process_count() == 1 or kind is None or issubclass(kind, SystemExit):
    checkpoints.close()


def _show(metrics: Mapping[str, float]) -> str:
  return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def _last_good(checkpoints: Checkpoints) -> str:
  checkpoints.wait()
  steps = checkpoints.steps()
  if not steps:
    return "there is no checkpoint yet"
  return f"last good checkpoint: {checkpoints.directory / str(steps[-1])}"


@contextlib.contextmanager
def _sigterm():
  """An event that SIGTERM sets, for as long as the context lasts."""
  event = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield event  # signals reach the main thread alone
    return
  before = signal.signal(signal.SIGTERM, lambda *_: event.set())
  try:
    yield event
  finally:
    signal.signal(signal.SIGTERM, before)
