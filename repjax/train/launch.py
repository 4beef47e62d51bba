"""What every launcher does before and around training: flags, folder, lock, resume rules."""

import os
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import optax
from absl import flags, logging

from repjax.train import hosts, optimize
from repjax.train.loop import Schedule
from repjax.train.memory import keep_freed_memory

# --- flags of the training loop; a launcher adds those of its method ----------------------------
flags.DEFINE_string("workdir", None, "Folder of the run; runs/EXPERIMENT_DATA if absent.")
flags.DEFINE_integer(
  "seed", 0, "Of parameters, data order, augmentations and evaluation draws.", lower_bound=0
)
flags.DEFINE_integer("steps", None, "Updates of the whole run; or give --epochs.", lower_bound=1)
flags.DEFINE_float("epochs", None, "Passes over the train split; or give --steps.", lower_bound=0)
flags.DEFINE_integer("batch_size", 256, "Examples of an update, over all devices.", lower_bound=1)
flags.DEFINE_integer("accumulate", 1, "Parts that a batch is worked through in.", lower_bound=1)
flags.DEFINE_enum("optimizer", "adamw", ["adamw", "sgd", "lars"], "Update rule.")
flags.DEFINE_float("learning_rate", 1e-3, "Highest learning rate.", lower_bound=0)
flags.DEFINE_float("weight_decay", 1e-4, "Decay of kernels.", lower_bound=0)
flags.DEFINE_float("momentum", 0.9, "Of sgd and lars.", lower_bound=0, upper_bound=1)
flags.DEFINE_float("b2", 0.999, "Memory of adamw's second moment.", lower_bound=0, upper_bound=1)
flags.DEFINE_float("warmup", 0.1, "Share of the run in which the learning rate rises.")
flags.DEFINE_float("clip", 0.0, "Largest global norm of a gradient; 0 for none.", lower_bound=0)
flags.DEFINE_string(
  "mesh",
  "data:-1",
  "Devices as name:size pairs, such as data:-1,fsdp:8,model:4; -1 takes what is left.",
)
flags.DEFINE_string(
  "sharding",
  None,
  "How the state lies on the mesh: replicated, fsdp, tp, or rules such as "
  "'(up|query)/kernel=-,model; .*=whole'; what the mesh's axes are for if absent.",
)
flags.DEFINE_enum("parallel", "pjit", ["pjit", "pmap"], "How a step is spread over the devices.")
flags.DEFINE_integer("log_every", 50, "Updates between two lines of the log.", lower_bound=1)
flags.DEFINE_integer("eval_every", 0, "Updates between two evaluations; 0: none.", lower_bound=0)
flags.DEFINE_integer(
  "checkpoint_every", 500, "Updates between two checkpoints; 0: at the end.", lower_bound=0
)
flags.DEFINE_integer("keep", 2, "Latest checkpoints that stay.", lower_bound=1)
flags.DEFINE_bool("tensorboard", False, "Write TensorBoard event files beside metrics.jsonl.")
flags.DEFINE_bool("progress", True, "Show a progress bar.")
flags.DEFINE_bool("override_flags", False, "Resume although flags have changed.")
flags.DEFINE_integer(
  "sigterm_exit_code",
  0,
  "Exit code after SIGTERM; Kubernetes starts a pod again unless it is 0.",
  lower_bound=0,
  upper_bound=255,
)
flags.DEFINE_string("compile_cache", "~/.cache/repjax", "Folder for compiled programs; '': none.")

#: Flags of a process: those in which the processes of a run may differ.
OWN = {"workdir", "coordinator", "process_id", "compile_cache"}
#: Flags that may change when a run resumes, because they do not change what is learned.
FREE = OWN | {
  "mesh", "sharding", "parallel", "log_every", "checkpoint_every", "keep", "tensorboard",
  "progress", "override_flags", "device_data_mb", "workers", "protocols", "shots",
  "eval_batch_size", "results", "process_count", "heartbeat_seconds", "sigterm_exit_code",
}  # fmt: skip


class Settings:
  """Resolved flags that know whether they were read.

  A flag that was given and is never read would be a wish silently ignored, so it is an error:
  call `check_all_read` once everything is set up.

  Args:
    values: every flag by name.
    given: the flags that the user set.
  """

  def __init__(self, values: Mapping[str, Any], given: Iterable[str] = ()):
    self._values, self._given, self._read = dict(values), set(given), set()

  def __getattr__(self, name: str) -> Any:
    if name.startswith("_") or name not in self._values:
      raise AttributeError(f"there is no flag --{name}")
    self._read.add(name)
    return self._values[name]

  def given(self, name: str) -> bool:
    """Whether the user set a flag."""
    return name in self._given

  def replace(self, **values: Any) -> "Settings":
    """The same flags with other values; what is read of them counts as read here."""
    other = Settings(self._values | values, self._given)
    other._read = self._read
    return other

  def values(self) -> dict[str, Any]:
    """All flags, for the record."""
    return dict(self._values)

  def changed(self) -> dict[str, Any]:
    """The flags that the user set."""
    return {name: value for name, value in self._values.items() if name in self._given}

  def unread(self) -> list[str]:
    """The flags that the user set and nothing has read."""
    return sorted(self._given - self._read)

  def check_all_read(self) -> None:
    """Raises if a flag was given that nothing has read.

    Raises:
      ValueError: naming the flags.
    """
    if unread := self.unread():
      listed = ", ".join(f"--{name}={self._values[name]}" for name in unread)
      raise ValueError(f"{listed} has no effect with the other flags given; leave it out")


def settings_from_flags(argv: list[str], positional: Sequence[str] = ()) -> Settings:
  """The flags that repjax and its launchers define.

  Args:
    argv: what absl left of the command line.
    positional: flags that arguments without a name are taken for, in order.

  Returns:
    Their values.

  Raises:
    ValueError: if an argument is left that is no flag.
  """
  named = dict(zip(positional, argv[1:], strict=False))
  if len(argv) > 1 + len(named):
    raise ValueError(f"{argv[1 + len(named)]!r} is not a flag; write --name=value, and see --help")
  for name, value in named.items():
    flags.FLAGS[name].parse(value)
  return Settings(
    {flag.name: flag.value for flag in _our_flags()},
    [flag.name for flag in _our_flags() if flag.present],
  )


def flag_defaults() -> dict[str, Any]:
  """Values of repjax's and the launchers' flags where none is given."""
  return {flag.name: flag.default for flag in _our_flags()}


def _our_flags():
  return [
    flag
    for module, listed in flags.FLAGS.flags_by_module_dict().items()
    if module.split(".")[0] in ("repjax", "experiments") or module == sys.argv[0]
    for flag in listed
  ]


def run_app(main: Any, *, positional: Sequence[str] = ()) -> None:
  """Runs a launcher's ``main`` under absl, as one of several processes where there are several.

  A user's mistake ends it with one line and exit code 1; ``--verbosity=1`` shows the traceback.

  Args:
    main: ``Settings -> None``.
    positional: flags that arguments without a name are taken for, in order.
  """
  from absl import app

  keep_freed_memory()
  logging.get_absl_handler().addFilter(_worth_reading)
  app.run(lambda argv: _guarded(main, argv, positional))


def _guarded(main, argv, positional):
  stopped = 0

  def leave(*_):
    logging.warning("stopped by SIGTERM; the same command goes on")
    hosts.leave(stopped)

  signal.signal(signal.SIGTERM, leave)  # while training, the loop saves first
  try:
    settings = settings_from_flags(argv, positional)
    stopped = settings.sigterm_exit_code
    hosts.initialize(
      settings.coordinator,
      settings.process_id,
      settings.process_count,
      settings.heartbeat_seconds,
    )
    main(settings)
  except SystemExit as end:
    # The loop has saved, on every process; all leave together.
    raise SystemExit(stopped if end.code == 0 else end.code) from None
  except (ValueError, OSError, FloatingPointError, ImportError) as error:
    if logging.level_debug():
      traceback.print_exc()
    print(f"error: {error}", file=sys.stderr)
    hosts.leave(1)
  except jax.errors.JaxRuntimeError as error:
    if not jax.distributed.is_initialized() or logging.level_debug():
      traceback.print_exc()
    reason = str(error).strip().split("\n")[0]
    gone = "; if another process is gone, its own output says why"
    gone = gone if jax.distributed.is_initialized() else ""
    print(f"error: {reason}{gone}; the same command goes on", file=sys.stderr)
    hosts.leave(1)
  except BaseException:
    if not jax.distributed.is_initialized():
      raise
    traceback.print_exc()
    hosts.leave(1)


def _worth_reading(line) -> bool:
  """JAX and optax tell of what is not so; what goes wrong in Orbax, `Checkpoints` says."""
  levels = logging.converter
  if "orbax" in line.pathname:
    return line.levelno > levels.STANDARD_ERROR
  return line.levelno >= levels.STANDARD_WARNING or "site-packages" not in line.pathname


def total_steps(settings: Settings, size: int) -> int:
  """Length of a run from ``--steps`` or ``--epochs``.

  Args:
    settings: the flags.
    size: examples of the train split.

  Returns:
    Updates.

  Raises:
    ValueError: if both are given.
  """
  if settings.given("steps") and settings.given("epochs"):
    raise ValueError(f"--steps={settings.steps} and --epochs={settings.epochs}: give one of them")
  if settings.epochs is not None:
    return max(1, round(settings.epochs * size / settings.batch_size))
  return settings.steps


def make_optimizer(
  settings: Settings, steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """The optimizer that the flags ask for.

  Args:
    settings: the flags.
    steps: length of the run.

  Returns:
    The optimizer and its learning rate by step.
  """
  rate = optimize.warmup_cosine(settings.learning_rate, steps, warmup=settings.warmup)
  shared = {"weight_decay": settings.weight_decay, "clip": settings.clip}
  if settings.optimizer == "adamw":
    return optimize.adamw(rate, b2=settings.b2, **shared), rate
  rule = {"sgd": optimize.sgd, "lars": optimize.lars}[settings.optimizer]
  return rule(rate, momentum=settings.momentum, **shared), rate


def make_schedule(settings: Settings, steps: int, *, best: str | None = None) -> Schedule:
  """What happens when, from the flags.

  Args:
    settings: the flags.
    steps: length of the run.
    best: validation metric whose best checkpoint stays; used with ``--eval_every``.

  Returns:
    The schedule.
  """
  return Schedule(
    steps=steps,
    log_every=settings.log_every,
    eval_every=settings.eval_every,
    checkpoint_every=settings.checkpoint_every,
    keep=settings.keep,
    best=best if settings.eval_every else None,
  )


def use_compile_cache(settings: Settings) -> None:
  """Keeps compiled programs on disk between runs, if the flags say where.

  Args:
    settings: the flags.
  """
  if settings.compile_cache:
    path = Path(settings.compile_cache).expanduser()
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def write_whole(path: Path, text: str) -> None:
  """Writes a small file so that it is whole or absent at any moment.

  Args:
    path: the file; its folder is made if absent.
    text: what goes in.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  fresh = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    fresh.write_text(text)
    fresh.replace(path)
  except OSError as error:
    fresh.unlink(missing_ok=True)
    raise OSError(f"{path} cannot be written ({error.strerror})") from None


def commit() -> str:
  """The checked-out commit, marked if code has changed since; ``unknown`` outside a checkout."""
  root = Path(__file__).parents[2]
  run = lambda *args: subprocess.run(
    ["git", "-C", root, *args], capture_output=True, text=True, check=True
  ).stdout.strip()
  try:
    # Results are what runs leave, not what they are run from.
    changed = run("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
    return run("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
  except (OSError, subprocess.CalledProcessError):
    return "unknown"


def hardware() -> str:
  """The machine in words: its devices, or its processor and cores."""
  device, count = jax.devices()[0], jax.device_count()
  several = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
  if device.platform != "cpu":
    return f"{count} x {device.device_kind}{several}"
  names = [
    line.split(":")[1].strip()
    for line in (Path("/proc/cpuinfo").read_text().splitlines() if _has_cpuinfo() else ())
    if line.startswith("model name")
  ]
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  return f"{cores} cores of {names[0] if names else 'CPU'}{several}"


def _has_cpuinfo() -> bool:
  return Path("/proc/cpuinfo").exists()


def command() -> str:
  """The command line that started this process, as one would type it."""
  spec = getattr(sys.modules["__main__"], "__spec__", None)
  start = f"python -m {spec.name}" if spec and spec.name else f"python {sys.argv[0]}"
  return shlex.join([*start.split(), *sys.argv[1:]])
