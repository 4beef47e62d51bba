"""Results files: what anyone can run again, and the numbers of every run."""

import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from absl import flags

from repjax.train import launch
from repjax.train.launch import Settings

flags.DEFINE_string("results", None, "JSON file to add this run's numbers to, for results/.")


def read_record(path: Path, command: str) -> list[dict[str, Any]]:
  """The runs that a results file holds.

  Args:
    path: the file.
    command: what is run now.

  Returns:
    The runs; none if there is no file.

  Raises:
    ValueError: if the file holds runs of another command.
  """
  if not path.exists():
    return []
  before = json.loads(path.read_text())
  if before["command"] != command:
    raise ValueError(
      f"--results={path} holds runs of {before['command']!r}, this is {command!r}; "
      f"choose another file"
    )
  return before["runs"]


def write_record(path: Path, command: str, described: str, runs: list[dict[str, Any]]) -> None:
  """Writes runs as results/README.md describes them.

  Args:
    path: the file.
    command: what anyone can run again.
    described: the data, split sizes and preprocessing.
    runs: all that the file is to hold.
  """
  content = {
    "command": command,
    "commit": launch.commit(),
    "hardware": launch.hardware(),
    "date": time.strftime("%Y-%m-%d"),
    "data": described,
    "runs": runs,
  }
  launch.write_whole(path, json.dumps(content, indent=1) + "\n")


def spelt(
  start: str, settings: Settings, free: Collection[str], *, kept: Collection[str] = ()
) -> str:
  """A command without the flags that do not change what is learned.

  Args:
    start: how the experiment is run.
    settings: the flags.
    free: flags of the experiment that do not, beside those of every experiment.
    kept: flags of every experiment that do.

  Returns:
    What one would type.
  """
  given = settings.changed()
  listed = sorted(given.keys() - launch.FREE - set(free) | set(kept))
  flag = lambda value: ",".join(value) if isinstance(value, list) else value
  return " ".join([start, *(f"--{name}={flag(given[name])}" for name in listed)])
