"""The log: whole lines, each step once, readable by TensorBoard."""

import json

import numpy as np
import pytest

from repjax.train.log import MetricLog


def lines(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def write(workdir, steps, **options):
  log = MetricLog(workdir, **options)
  for step in steps:
    log.write(step, {"loss": np.float32(step) / 4})
  log.close()
  return log.history


def test_a_line_is_on_disk_as_soon_as_it_is_written(tmp_path):
  log = MetricLog(tmp_path)
  log.write(1, {"loss": 0.5})
  assert lines(tmp_path) == log.history == [{"step": 1, "loss": 0.5}]
  log.close()


@pytest.mark.parametrize("rest", ['{"step": 9, "lo', '{"step": 9', "{", "\x00\x00\x00"])
def test_half_a_last_line_is_dropped(tmp_path, rest):
  write(tmp_path, [1, 2])
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write(rest)
  assert write(tmp_path, [3], step=2) == lines(tmp_path)
  assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]


def test_a_line_cut_within_a_character_is_dropped(tmp_path):
  write(tmp_path, [1])
  with (tmp_path / "metrics.jsonl").open("ab") as file:
    file.write('{"step": 2, "é'.encode()[:-1])
  write(tmp_path, [2], step=1)
  assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_lines_after_the_step_that_a_run_goes_on_from_are_dropped(tmp_path):
  write(tmp_path, [1, 2, 3, 4, 5])
  write(tmp_path, [4], step=3)
  assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]


def test_a_process_that_does_not_write_leaves_the_file_alone(tmp_path):
  write(tmp_path, [1, 2])
  assert write(tmp_path, [3], step=2, write=False)[-1]["step"] == 3
  assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_tensorboard_reads_what_was_logged(tmp_path):
  loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
  write(tmp_path, [1, 2, 3], tensorboard=True)
  write(tmp_path, [3, 4], step=2, tensorboard=True)  # a second part, from step 2
  found = []
  for path in sorted((tmp_path / "tensorboard").iterdir()):
    for event in loader.EventFileLoader(str(path)).Load():
      for value in event.summary.value:
        found.append((event.step, value.tag, value.tensor.float_val[0]))
  assert set(found) == {(step, "loss", step / 4) for step in (1, 2, 3, 4)}
