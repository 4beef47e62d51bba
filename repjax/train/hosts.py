"""Several processes as one run: how they meet, speak and leave together.

A run on many hosts is one program in a process a host (or a GPU), and every process has to make the
same collective calls in the same order. Where there is one process, nothing here does anything.
"""

import collections
import importlib.util
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding

from repjax.train.mesh import replicated

flags.DEFINE_string(
  "coordinator", None, "HOST:PORT of process 0, where TPU, Slurm or Kubernetes do not tell it."
)
flags.DEFINE_integer(
  "process_id", None, "Number of this process; with --coordinator.", lower_bound=0
)
flags.DEFINE_integer(
  "process_count", None, "Processes of the run, with --coordinator; 1: alone.", lower_bound=1
)
flags.DEFINE_integer(
  "heartbeat_seconds", 100, "A process silent for so long counts as dead.", lower_bound=1
)

# What `jax.distributed.initialize` reads in a step of Slurm, and the step's number and tasks.
_SLURM = {
  "SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID",
  "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS",
}  # fmt: skip
_INTERACTIVE_STEP = 0xFFFFFFFA  # slurm.h; the numbers above are those of other shells and scripts
_KUBERNETES = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"}
_GKE_TPU = {"TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES"}
_A_DAY = 24 * 60 * 60
_LAST_WORDS = 1.0  # seconds in which the others may say what is wrong; the lead's end ends them


def cluster(environment: Mapping[str, str], platforms: str | None) -> dict[str, Any] | None:
  """What the surroundings tell about the other processes of a run.

  Args:
    environment: variables, such as `os.environ`.
    platforms: ``jax.config.jax_platforms``; JAX makes it ``tpu,cpu`` where it finds TPU chips.

  Returns:
    What `jax.distributed.initialize` cannot find by itself, often nothing; None where this process
    is alone.

  Raises:
    ImportError: in a pod of an indexed Job of Kubernetes without the package that JAX asks about
      the others.
  """
  if environment.keys() >= _SLURM:
    # A shell that salloc opens has the numbers of the whole allocation, and is alone.
    shell = int(environment["SLURM_STEP_ID"]) >= _INTERACTIVE_STEP
    tasks = 1 if shell else int(environment["SLURM_STEP_NUM_TASKS"])
    return {"cluster_detection_method": "slurm", "num_processes": tasks} if tasks > 1 else None
  if "tpu" in (platforms or "").split(","):
    told = environment.keys() & _GKE_TPU or "TPU_SKIP_MDS_QUERY" not in environment
    return {} if told else None
  if environment.keys() >= _KUBERNETES:
    if importlib.util.find_spec("kubernetes") is None:
      raise ImportError(
        "this is a pod of an indexed Job: pip install 'jax[k8s]' to meet the others, or "
        "--process_count=1 to run alone"
      )
    return {}
  return None


def initialize(
  coordinator: str | None = None,
  process_id: int | None = None,
  process_count: int | None = None,
  heartbeat_seconds: int = 100,
) -> None:
  """Meets the other processes of the run, if there are any; called before any device is touched.

  By itself in a TPU slice, a step of Slurm and an indexed Job of Kubernetes; elsewhere by the
  arguments, of which all are given or none.

  Args:
    coordinator: ``HOST:PORT`` at which process 0 can be reached.
    process_id: of this process, from 0.
    process_count: of the run; 1 to be alone whatever the surroundings say.
    heartbeat_seconds: a process that is silent for so long counts as dead, and the others end.

  Raises:
    ValueError: if the arguments do not fit together.
    ImportError: if a package is missing that JAX needs here.
  """
  if process_count == 1 and coordinator is None:
    return
  given = {"coordinator": coordinator, "process_id": process_id, "process_count": process_count}
  missing = [name for name, value in given.items() if value is None]
  if not missing:
    if not re.fullmatch(r".+:\d+", coordinator):
      raise ValueError(f"--coordinator={coordinator} is not HOST:PORT; write 10.0.0.1:1234")
    if process_id >= process_count:
      raise ValueError(
        f"--process_id={process_id} is not below --process_count={process_count}; count from 0"
      )
    # All devices of the host are this process's, even in a task of Slurm.
    where = {
      "coordinator_address": coordinator,
      "process_id": process_id,
      "num_processes": process_count,
      "cluster_detection_method": "deactivate",
    }
  elif len(missing) < len(given):
    raise ValueError(
      f"--{' and --'.join(missing)} not given beside "
      f"--{' and --'.join(n for n in given if n not in missing)}; give all three, or none"
    )
  elif (where := cluster(os.environ, jax.config.jax_platforms)) is None:
    return
  handler = signal.getsignal(signal.SIGTERM)
  jax.distributed.initialize(
    **where,
    heartbeat_timeout_seconds=heartbeat_seconds,
    # At the end all wait for the lead, which may evaluate for hours; the dead do not count.
    shutdown_timeout_seconds=_A_DAY,
  )
  # JAX has taken SIGTERM for a notice of its own, which Orbax asks for with steps long past;
  # `Company` carries the notice instead.
  if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, handler)
  jax.process_count()  # devices are counted now, while all processes are here


def is_lead() -> bool:
  """Whether this is the process that writes logs, results and what is printed."""
  return jax.process_index() == 0


def share(value: Any) -> Any:
  """Gives every process what the lead holds.

  Args:
    value: anything that JSON can write; only the lead's counts.

  Returns:
    The lead's value.
  """
  if jax.process_count() == 1:
    return value
  text = np.frombuffer(json.dumps(value if is_lead() else None).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  # A power of two: one program a size is compiled.
  buffer = np.zeros(max(1024, 1 << size.bit_length()), np.uint8)
  if is_lead():
    buffer[:size] = text
  return json.loads(bytes(multihost_utils.broadcast_one_to_all(buffer)[:size]))


def everywhere(value: Any) -> np.ndarray:
  """What every process says.

  Args:
    value: this process's number, of at most 32 bits.

  Returns:
    ``[processes]``, by process.
  """
  return multihost_utils.process_allgather(np.asarray(value)).reshape(-1)


def fetch(tree: Any) -> Any:
  """Brings arrays to the host, whole, wherever they lie.

  Args:
    tree: arrays; all processes pass the same.

  Returns:
    The tree as NumPy arrays, on every process.
  """

  def whole(x):
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
      return multihost_utils.process_allgather(x, tiled=True)
    return np.asarray(x)

  return jax.tree.map(whole, tree)


def by_lead(action: Callable[[], Any]) -> Any:
  """Does something on the lead alone; if it fails, it fails on every process.

  Args:
    action: gives a result that JSON can write.

  Returns:
    Its result, on every process.

  Raises:
    ValueError: on the others, with the lead's message; on the lead, what it raised.
  """
  if jax.process_count() == 1:
    return action()
  done, failure = {}, None
  if is_lead():
    try:
      done["result"] = action()
    except (ValueError, OSError) as error:
      done["error"], failure = str(error), error
  done = share(done)
  if failure is not None:
    raise failure
  if "error" in done:
    raise ValueError(done["error"])
  return done["result"]


class Company:
  """What the processes of a run tell one another at every step, without waiting for one another.

  What is said at a step is heard by all some steps later, and by all at the same step: so they stop
  together.

  Args:
    mesh: the run's.
    lag: steps after which it is heard.
  """

  def __init__(self, mesh: Mesh, *, lag: int = 2):
    self._lag, self._busy = lag, 0.0
    self._said = collections.deque()  # still on the devices
    self._heard = self._before = np.zeros(jax.process_count())
    self._gather = _make_gather(mesh) if jax.process_count() > 1 else None

  def tell(self, stop: bool, busy: float) -> bool:
    """Speaks, and listens to what was said some steps ago.

    Args:
      stop: whether this process was asked to stop.
      busy: seconds that its host took to get the step under way.

    Returns:
      Whether all stop after this step.
    """
    if self._gather is None:
      return stop
    self._busy += busy
    self._said.append(self._gather([stop, self._busy]))
    if len(self._said) <= self._lag:
      return False
    stopped, self._heard = np.asarray(self._said.popleft()).T
    return bool(stopped.any())

  def slowest(self, steps: int) -> dict[str, float]:
    """Which host kept the devices waiting longest since the last call.

    Args:
      steps: made since then.

    Returns:
      Its number and its milliseconds a step; nothing where there is one process.
    """
    if self._gather is None or not steps:
      return {}
    seconds, self._before = self._heard - self._before, self._heard
    slowest = int(np.argmax(seconds))
    return {"slowest_process": slowest, "slowest_process_ms": 1e3 * seconds[slowest] / steps}


def _make_gather(mesh):
  """``[n] numbers of this process -> [processes, n]``, whole on every device, not waited for."""
  spoken = NamedSharding(mesh, jax.P(mesh.axis_names))
  owners = [device.process_index for device in mesh.devices.flat]
  first = np.array([owners.index(process) for process in range(jax.process_count())])
  gathered = jax.jit(lambda x: x[first], out_shardings=replicated(mesh))

  def gather(numbers):
    row = np.asarray(numbers, np.float32)[None]
    shape = mesh.size, row.shape[1]
    return gathered(jax.make_array_from_callback(shape, spoken, lambda index: row))

  return gather


def leave(code: int) -> NoReturn:
  """Ends this process; one of several without waiting for the others, which then end too.

  A regular end would wait for all, while they wait for this one in a collective.

  Args:
    code: exit code.

  Raises:
    SystemExit: if there is one process.
  """
  if not jax.distributed.is_initialized():
    raise SystemExit(code)
  if is_lead():
    time.sleep(_LAST_WORDS)
  for stream in (sys.stdout, sys.stderr):
    stream.flush()
  os._exit(code)
