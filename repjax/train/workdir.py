"""A run's folder: one run at a time, and the same run when it goes on."""

import contextlib
import errno
import fcntl
import json
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from absl import logging

from repjax.train import hosts
from repjax.train.launch import FREE, OWN, Settings, write_whole

_SHARED_WITHIN = 60  # seconds that a network file system may take to show a file to other hosts


def workdir_of(settings: Settings, default: str = "") -> Path:
  """The folder that ``--workdir`` names.

  Args:
    settings: the flags.
    default: used if ``--workdir`` is not given.

  Returns:
    Its absolute path.

  Raises:
    ValueError: if it is the address of a bucket.
  """
  named = settings.workdir or default
  if re.match(r"\w+://", named):
    raise ValueError(
      f"--workdir={named} is an address and no folder; mount it (a bucket by Cloud Storage FUSE) "
      f"and give the folder"
    )
  return Path(named).expanduser().absolute()


@contextlib.contextmanager
def open_workdir(settings: Settings, default: str, experiment: str) -> Iterator[Path]:
  """Takes a run's folder for this run alone, and checks that it is the same run.

  Of several processes the lead takes it, and the others check that they see the same folder and
  were started with the same flags.

  Args:
    settings: the flags; ``flags.json`` in the folder holds those of an earlier part.
    default: folder used if ``--workdir`` is not given.
    experiment: name of the launcher.

  Yields:
    The folder.

  Raises:
    ValueError: if another run holds the folder, flags have changed, or processes differ.
    OSError: if it cannot be written.
  """
  workdir = workdir_of(settings, default)
  now = {"experiment": experiment, **settings.values()}
  with contextlib.ExitStack() as held:
    token = hosts.by_lead(lambda: _take(workdir, now, settings.override_flags, held))
    if jax.process_count() > 1:
      _check_as_lead(workdir, now, token)
    yield workdir


def _take(workdir, now, override, held) -> str:
  """Locks the folder, records the flags, and leaves a mark there that only this run knows."""
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    lock = held.enter_context((workdir / ".lock").open("a+"))
  except OSError as error:
    raise OSError(
      f"--workdir={workdir} cannot be written ({error.strerror}); choose another"
    ) from None
  try:
    # Held by the open file, so that it ends with the process however that ends.
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
      logging.warning(
        "the file system of --workdir=%s has no locks (%s); see to it that no second run uses it",
        workdir, error.strerror,
      )  # fmt: skip
    else:
      raise ValueError(
        f"--workdir={workdir} is in use by another run; wait for it or choose another"
      ) from None
  record = workdir / "flags.json"
  begun = any(path.name.isdigit() for path in workdir.glob("checkpoints/*"))
  if begun and record.exists():
    _check_unchanged(json.loads(record.read_text()), now, workdir, override)
  write_whole(record, json.dumps(now, indent=1))
  token = secrets.token_hex(8)
  lock.truncate(0)
  lock.write(token)
  lock.flush()
  return token


def _check_as_lead(workdir, now, token):
  """Raises on every process if one has other flags than the lead, or does not see its folder."""
  theirs = hosts.share(now)
  own = json.loads(json.dumps(now))
  changed = [f"--{n}={own.get(n)}" for n in sorted(own.keys() - OWN) if own[n] != theirs.get(n)]
  if any(different := hosts.everywhere(bool(changed))):
    raise ValueError(
      f"{', '.join(changed) or 'flags'} of process {np.argmax(different)} not as on process 0; "
      f"start every process with the same command"
    )
  until = time.monotonic() + _SHARED_WITHIN
  while not (seen := _reads(workdir / ".lock", token)) and time.monotonic() < until:
    time.sleep(0.2)
  if not all(seeing := hosts.everywhere(seen)):
    raise ValueError(
      f"--workdir={workdir} of process {np.argmin(seeing)} is not the folder of process 0; "
      f"choose one on a file system that all hosts share"
    )


def _reads(path, text) -> bool:
  return path.exists() and path.read_text() == text


def _check_unchanged(before, now, workdir, override):
  names = {n for n in before.keys() | now.keys() if before.get(n) != now.get(n)} - FREE
  if before.get("eval_every") and now.get("eval_every"):
    names -= {"eval_every"}  # from or to 0 it moves the examples held out into or out of training
  changed = [f"--{n}: {before.get(n)} -> {now.get(n)}" for n in sorted(names)]
  if not changed:
    return
  if not override:
    raise ValueError(
      f"--workdir={workdir} holds a run with other flags ({'; '.join(changed)}); "
      f"choose another --workdir, or --override_flags to go on all the same"
    )
  logging.warning("resuming with changed flags: %s", "; ".join(changed))
