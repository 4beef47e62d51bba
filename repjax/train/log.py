"""Metrics of a run on disk: JSON lines always, TensorBoard if asked."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path


class MetricLog:
  """Appends to ``metrics.jsonl`` in a run's folder.

  Args:
    workdir: the run's folder.
    step: where the run goes on; lines of later steps, left by a run that was cut off, are dropped.
    tensorboard: whether to write event files too, under ``tensorboard/``.
    write: whether this process writes at all.

  Raises:
    ImportError: if TensorBoard is asked for and not installed.
    OSError: if the file cannot be written.
  """

  def __init__(
    self, workdir: Path, *, step: int = 0, tensorboard: bool = False, write: bool = True
  ):
    path = Path(workdir) / "metrics.jsonl"
    self.history = [line for line in _read_lines(path) if line["step"] <= step]
    self._file = self._board = None
    if not write:
      return
    rest = path.with_suffix(".tmp")
    with _writing(path):
      rest.write_text("".join(json.dumps(line) + "\n" for line in self.history))
      rest.replace(path)
      self._file = path.open("a")
    if tensorboard:
      try:
        from tensorboard.summary import Writer
      except ImportError as error:
        raise ImportError("--tensorboard needs pip install 'repjax[plots]'") from error
      self._board = Writer(str(Path(workdir) / "tensorboard"))

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Adds a line.

    Args:
      step: updates made.
      metrics: numbers by name.

    Raises:
      OSError: if the file cannot be written.
    """
    line = {"step": step, **{name: float(value) for name, value in metrics.items()}}
    self.history.append(line)
    if self._file is not None:
      with _writing(self._file.name):
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
    if self._board is not None:
      for name, value in line.items():
        if name != "step":
          self._board.add_scalar(name, value, step)
      self._board.flush()

  def close(self) -> None:
    """Closes the files."""
    for file in (self._file, self._board):
      if file is not None:
        with contextlib.suppress(OSError):  # of a line that `write` has complained about
          file.close()


@contextlib.contextmanager
def _writing(path):
  try:
    yield
  except OSError as error:
    raise OSError(
      f"{path} cannot be written ({error.strerror}); make room, and the same command goes on"
    ) from None


def _read_lines(path: Path) -> list[dict]:
  """Whole lines of a file that may end in half of one."""
  lines = []
  # A line cut within a character is no line either.
  for text in path.read_text(errors="replace").splitlines() if path.exists() else ():
    try:
      lines.append(json.loads(text))
    except json.JSONDecodeError:
      break
  return lines
