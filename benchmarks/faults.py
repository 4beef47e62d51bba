"""Breaks training again and again, and looks at what it left.

  nice -n 10 python benchmarks/faults.py --trials=120 --pairs=20 --hangs=5

A trial goes on with the run that the trial before broke: its process first restores the latest
checkpoint and tells step and checksum, then trains and saves nearly all the time, until it is
killed at a random instant. With two processes (`--pairs`) one of them is killed, or stopped so that
it hangs (`--hangs`), and the time is taken until the other has ended. At the end the run is made
once more without a break, and every state that was restored must equal, bit for bit, the one that
this run had at that step. A checkpoint "whole" means that the latest folder was the one restored.
The last row fills a small disk (a tmpfs, so it needs root) and makes room again.

Children are forked from this process, which has imported everything and touched no device, so that
a trial takes about a second on two CPU cores. The exit code is 1 if any trial went wrong.
"""

import contextlib
import itertools
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import zlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint  # noqa: F401  (so that no child has to)
from absl import app, flags

from repjax.learners import Learner
from repjax.train import Checkpoints, Feed, Schedule, hosts, make_mesh, train
from repjax.train.mesh import local_rows
from repjax.train.sharding import state_shardings
from repjax.train.step import shape_of_state

FLAGS = flags.FLAGS
flags.DEFINE_integer("trials", 120, "Kills of a run of one process.", lower_bound=0)
flags.DEFINE_integer("pairs", 20, "Kills of one of two processes.", lower_bound=0)
flags.DEFINE_integer("hangs", 5, "Stops of one of two processes.", lower_bound=0)
flags.DEFINE_bool("disk", True, "Fill a disk too, if this is root.")
flags.DEFINE_float("within", 0.5, "A kill comes within these seconds of training.", lower_bound=0)
flags.DEFINE_integer("heartbeat", 3, "--heartbeat_seconds of the runs of two.", lower_bound=1)
flags.DEFINE_integer("draws", 0, "Seed of the instants.")

BATCH, DIM = 4, 20_000
SHARDING = "wide=data,-; .*=whole"  # each process writes a part of the state
PATIENCE = 120  # seconds after which something hangs


# --- the run that is broken: its children ---------------------------------------------------------


def learner():
  """A step that takes next to nothing and a state that takes a while to write."""

  def init(key, batch):
    return {"count": jnp.int32(0), "wide": jax.random.normal(key, (2, DIM))}

  def update(state, batch, key):
    wide = state["wide"] * 0.999 + jax.random.normal(key, (2, DIM)) * batch["x"].mean()
    return {"count": state["count"] + 1, "wide": wide}, {"loss": jnp.mean(wide**2)}

  return Learner(init, update, lambda state, inputs: None)


def feed(mesh, before=lambda step: None):
  own = local_rows(mesh, BATCH)

  def batches(start):
    for step in itertools.count(start):
      before(step)
      yield {"x": np.random.default_rng(step).normal(size=BATCH).astype(np.float32)[own]}

  return Feed(batches, BATCH)


def checksum(state):
  return zlib.crc32(np.ascontiguousarray(hosts.fetch(state["wide"])))


def broken(workdir, mesh, say):
  """Tells what the checkpoint holds that is there, and trains until the end comes."""
  like = shape_of_state(learner(), {"x": np.zeros(BATCH, np.float32)})
  checkpoints = Checkpoints(workdir / "checkpoints")
  restored = checkpoints.restore(like, state_shardings(like, mesh, SHARDING))
  checkpoints.close()
  say("found", *((restored.step, checksum(restored.state)) if restored else (0, 0)))
  drawn = itertools.count()
  # The first batch makes the state, the second the step that compiles.
  tell = lambda step: say("trains") if next(drawn) == 3 else None
  schedule = Schedule(10**9, log_every=10**9, checkpoint_every=2)
  fit(workdir, mesh, schedule, feed(mesh, tell))


def unbroken(workdir, mesh, say, wanted):
  """Tells the checksums that a run without a break has at some steps."""

  def look(state):
    if (step := int(state["count"])) in wanted:
      say("found", step, checksum(state))
    return {}

  schedule = Schedule(max(wanted), log_every=10**9, eval_every=1, checkpoint_every=0)
  fit(workdir, mesh, schedule, feed(mesh), evaluate=look)


def fit(workdir, mesh, schedule, source, **options):
  options |= {"workdir": workdir, "mesh": mesh, "sharding": SHARDING, "progress": False}
  train(learner(), source, schedule, **options)


def speak(work, workdir, log, place, mouth, *arguments):
  """Lives as one process of a run."""
  where, process, count = place
  log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.dup2(log, 1)
  os.dup2(log, 2)
  try:
    jax.config.update("jax_disable_most_optimizations", True)
    if count > 1:
      hosts.initialize(where, process, count, FLAGS.heartbeat)
    say = lambda *words: process or os.write(mouth, (json.dumps(words) + "\n").encode())
    work(workdir, make_mesh(), say, *arguments)
  except BaseException:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)
  os._exit(0)


def start(work, workdir, count, *arguments, log=None):
  """Forks the processes of a run; gives their ids and the pipe on which the lead speaks."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    where = f"127.0.0.1:{free.getsockname()[1]}"
  ear, mouth = os.pipe()
  children = []
  for process in range(count):
    sys.stdout.flush()
    if child := os.fork():
      children.append(child)
      continue
    log = log or workdir.with_suffix(".log")
    try:  # whatever happens, the child goes no further than this
      speak(work, workdir, log, (where, process, count), mouth, *arguments)
    finally:
      os._exit(1)
  os.close(mouth)
  return children, os.fdopen(ear)


def end(children):
  for child in children:
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
      os.kill(child, signal.SIGKILL)
      os.waitpid(child, 0)


# --- trials ---------------------------------------------------------------------------------------


def hear(ear, word):
  """The next line that a run says, which has to be this word."""
  line = ear.readline()
  if not line:
    raise RuntimeError(f"the run ended instead of saying {word!r}")
  said, *numbers = json.loads(line)
  if said != word:
    raise RuntimeError(f"the run said {said!r} instead of {word!r}")
  return numbers


def told(log):
  """The end of what a run printed, for an error that should not have been."""
  return "".join(log.read_text().splitlines(keepends=True)[-12:])


def break_runs(title, folder, trials, count, fault):
  """Breaks one run so many times; gives a row of the table."""
  draw = random.Random(f"{FLAGS.draws} {title}")
  workdir, saves = folder / title.replace(" ", "_").replace(",", ""), 0
  found, whole, slowest, latest = {}, 0, 0.0, 0
  for trial in range(trials + 1):  # one more looks at what the last has left
    children, ear = start(broken, workdir, count)
    try:
      step, mark = hear(ear, "found")
      found[step] = mark
      whole += trial > 0 and step == latest
      if trial == trials:
        break
      hear(ear, "trains")
      time.sleep(draw.uniform(0, FLAGS.within))
      chosen = draw.choice(children)
      os.kill(chosen, fault)
      at = time.monotonic()
      for other in set(children) - {chosen}:
        slowest = max(slowest, ended(other, at))
      end([chosen])
      saves += any((workdir / "checkpoints").glob("*tmp*"))
      latest = max(kept(workdir), default=0)
    except RuntimeError as error:
      raise RuntimeError(f"{error}; it printed\n{told(workdir.with_suffix('.log'))}") from None
    finally:
      end(children)
      ear.close()
  found.pop(0, None)
  equal = compare(folder / f"{workdir.name}_again", found, count) if found else 0
  print(
    f"| {title} | {trials} | {saves} | {whole} | {equal} of {len(found)} | "
    f"{f'{slowest:.1f} s' if count > 1 else ''} |",
    flush=True,
  )
  return whole == trials and equal == len(found)


def kept(workdir):
  """Steps whose checkpoints have their final name."""
  return [int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()]


def ended(child, since, meanwhile=lambda: None):
  """Seconds until a process ends with an error by itself."""
  while time.monotonic() < since + PATIENCE:
    meanwhile()
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
      if status == 0:
        raise RuntimeError("a process ended with 0 although another was dead")
      return time.monotonic() - since
    time.sleep(0.01)
  raise RuntimeError(f"a process hangs {PATIENCE} s after another was dead")


def compare(workdir, found, count):
  """How many states are those of a run without a break."""
  children, ear = start(unbroken, workdir, count, sorted(found))
  try:
    marks = dict(hear(ear, "found") for _ in found)
  finally:
    end(children)
    ear.close()
  return sum(found[step] == marks[step] for step in found)


def fill_disk(folder):
  """Runs out of room while saving, then goes on; gives a row of the table."""
  disk = folder / "disk"
  disk.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]
  if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
    print("| disk full | not run: no small disk can be mounted here |")
    return True
  log, ballast, children = folder / "disk.log", disk / "ballast", []
  try:
    children, ear = start(broken, disk / "run", 1, log=log)
    hear(ear, "found")
    hear(ear, "trains")
    while not kept(disk / "run"):
      time.sleep(0.01)
    ear.close()
    with ballast.open("wb", buffering=0) as file:
      # Again and again, for the run deletes checkpoints that it no longer keeps.
      ended(children[0], time.monotonic(), lambda: fill(file))
    ballast.unlink()
    children, ear = start(broken, disk / "run", 1, log=log)
    step, mark = hear(ear, "found")
    hear(ear, "trains")
    end(children)
    ear.close()
    equal = compare(folder / "disk_again", {step: mark}, 1)
    print(f"| disk full | 1 | 1 | {int(step > 0)} | {equal} of 1 | |", flush=True)
    return equal == 1 and step > 0 and "cannot be written" in log.read_text()
  finally:
    end(children)
    subprocess.run(["umount", disk], check=True)


def fill(file):
  with contextlib.suppress(OSError):
    while True:
      file.write(bytes(4096))


def main(_):
  print(f"jax {jax.__version__}, {os.cpu_count()} CPU cores, heartbeat {FLAGS.heartbeat} s")
  print("| fault | trials | died during a save | latest whole | equal | others ended within |")
  print("|---|---|---|---|---|---|", flush=True)
  began = time.monotonic()
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    rows = [
      ("kill -9", FLAGS.trials, 1, signal.SIGKILL),
      ("kill -9 of one of two", FLAGS.pairs, 2, signal.SIGKILL),
      ("hang of one of two", FLAGS.hangs, 2, signal.SIGSTOP),
    ]
    fine = [break_runs(t, folder, n, count, fault) for t, n, count, fault in rows if n]
    if FLAGS.disk:
      fine.append(fill_disk(folder))
  print(f"{time.monotonic() - began:.0f} s")
  raise SystemExit(0 if all(fine) else 1)


if __name__ == "__main__":
  app.run(main)
