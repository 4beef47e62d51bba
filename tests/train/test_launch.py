"""Launching: flags that are read, a folder for one run alone, and the same run when it goes on."""

import errno
import fcntl
import json
import logging
import os
import subprocess
import sys

import numpy as np
import optax
import pytest

from repjax.train import launch
from repjax.train.launch import Settings
from repjax.train.workdir import open_workdir

FLAGS = {
  "workdir": None, "seed": 0, "steps": 10, "epochs": None, "batch_size": 32, "accumulate": 1,
  "optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-4, "momentum": 0.9, "b2": 0.999,
  "warmup": 0.1, "clip": 0.0, "mesh": "data:-1", "log_every": 50, "eval_every": 0,
  "checkpoint_every": 500, "keep": 2, "override_flags": False, "temperature": 0.2,
}  # fmt: skip


def settings(workdir=None, **given):
  values = FLAGS | {"workdir": str(workdir) if workdir else None} | given
  return Settings(values, given)


def take(workdir, experiment="simclr", **given):
  with open_workdir(settings(workdir, **given), "unused", experiment) as path:
    return path


def begin(workdir, **given):
  """A folder whose run has saved once."""
  (take(workdir, **given) / "checkpoints" / "3").mkdir(parents=True)


# --- flags ----------------------------------------------------------------------------------------


def test_a_given_flag_that_nothing_reads_is_an_error():
  ours = settings(momentum=0.5, learning_rate=0.1)
  launch.make_optimizer(ours, 10)
  with pytest.raises(ValueError, match=r"^--momentum=0.5 has no effect") as error:
    ours.check_all_read()
  assert "learning_rate" not in str(error.value)
  ours = settings(momentum=0.5, optimizer="sgd")
  launch.make_optimizer(ours, 10)
  ours.check_all_read()


@pytest.mark.parametrize(
  ("optimizer", "unread"),
  [("adamw", {"momentum": 0.5}), ("sgd", {"b2": 0.5}), ("lars", {"b2": 0.5})],
)
def test_each_optimizer_refuses_what_only_another_reads(optimizer, unread):
  ours = settings(optimizer=optimizer, **unread)
  launch.make_optimizer(ours, 10)
  (name,) = unread
  with pytest.raises(ValueError, match=f"--{name}=0.5"):
    ours.check_all_read()


def test_a_flag_at_its_default_need_not_be_read():
  settings().check_all_read()


def test_recording_a_flag_is_not_reading_it():
  ours = settings(momentum=0.5)
  assert ours.values()["momentum"] == 0.5 and ours.changed() == {"momentum": 0.5}
  with pytest.raises(ValueError, match="momentum"):
    ours.check_all_read()


def test_an_unknown_flag_is_named():
  with pytest.raises(AttributeError, match="there is no flag --stpes"):
    settings().stpes  # noqa: B018


def test_an_argument_that_is_no_flag_is_refused():
  with pytest.raises(ValueError, match="'steps=3' is not a flag; write --name=value"):
    launch.settings_from_flags(["simclr.py", "steps=3"])


def test_epochs_are_rounded_to_whole_updates():
  assert launch.total_steps(settings(epochs=2.0), 100) == 6  # 200 / 32 = 6.25
  assert launch.total_steps(settings(epochs=0.001), 100) == 1
  assert launch.total_steps(settings(), 100) == 10


def test_steps_and_epochs_together_are_refused():
  with pytest.raises(ValueError, match=r"--steps=5 and --epochs=2.0: give one of them"):
    launch.total_steps(settings(steps=5, epochs=2.0), 100)


def test_the_learning_rate_rises_over_the_warm_up_and_falls_to_zero():
  _, rate = launch.make_optimizer(settings(learning_rate=0.5, warmup=0.2), 100)
  assert rate(0) == 0 and rate(20) == 0.5 and rate(100) == 0
  assert rate(10) == pytest.approx(0.25) and rate(60) == pytest.approx(0.25)


def test_clipping_bounds_the_gradient_that_the_rule_sees():
  flags = {"learning_rate": 1.0, "warmup": 0.0, "momentum": 0.0, "weight_decay": 0.0}
  rule, _ = launch.make_optimizer(settings(optimizer="sgd", clip=0.5, **flags), 100)
  params = {"kernel": np.zeros(4, np.float32)}
  updates, _ = rule.update({"kernel": np.full(4, 30, np.float32)}, rule.init(params), params)
  assert optax.tree.norm(updates) == pytest.approx(0.5)


# --- the folder -----------------------------------------------------------------------------------


def test_the_folder_is_made_and_keeps_the_flags(tmp_path):
  path = take(tmp_path / "a" / "b", learning_rate=0.25)
  record = json.loads((path / "flags.json").read_text())
  assert record["experiment"] == "simclr" and record["learning_rate"] == 0.25


def test_a_folder_below_a_file_is_refused(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(
    OSError, match=r"--workdir=.*/file/run cannot be written \(.+\); choose another"
  ):
    take(tmp_path / "file" / "run")


def test_the_address_of_a_bucket_is_refused_with_the_way_out():
  with pytest.raises(ValueError, match=r"--workdir=gs://bucket/run is an address.* mount it"):
    take("gs://bucket/run")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, caplog, number):
  def refuse(*_):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(fcntl, "flock", refuse)
  with caplog.at_level(logging.WARNING):
    take(tmp_path)
  assert f"--workdir={tmp_path} has no locks ({os.strerror(number)})" in caplog.text


def test_a_file_that_does_not_fit_on_the_disk_leaves_the_one_before(tmp_path, monkeypatch):
  launch.write_whole(tmp_path / "file", "before")

  def fill(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(launch.Path, "write_text", fill)
  with pytest.raises(OSError, match=r"file cannot be written \(No space left on device\)"):
    launch.write_whole(tmp_path / "file", "after")
  assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_second_run_in_a_folder_is_refused_and_nothing_is_lost(tmp_path):
  with open_workdir(settings(tmp_path), "unused", "simclr"):
    before = (tmp_path / "flags.json").read_text()
    with pytest.raises(ValueError, match=f"--workdir={tmp_path} is in use by another run"):
      take(tmp_path, learning_rate=0.5)
    assert (tmp_path / "flags.json").read_text() == before
  take(tmp_path)  # free again


def test_a_run_that_dies_frees_its_folder(tmp_path):
  code = (
    "import os, sys; from repjax.train import launch, workdir;"
    "s = launch.Settings({'workdir': sys.argv[1], 'override_flags': False});"
    "c = workdir.open_workdir(s, '', 'simclr'); c.__enter__(); print('held', flush=True);"
    "sys.stdin.read()"
  )
  held = subprocess.Popen(
    [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
  )
  try:
    assert held.stdout.readline() == b"held\n"
    with pytest.raises(ValueError, match="is in use by another run"):
      take(tmp_path)
  finally:
    held.kill()
    held.communicate()
  take(tmp_path)


@pytest.mark.parametrize("code", [0, 143])
def test_sigterm_before_or_after_training_leaves_with_the_code_asked_for(code):
  program = (
    "import time; from repjax.train import launch;"
    "launch.run_app(lambda settings: (print('in', flush=True), time.sleep(60)))"
  )
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
  command = [sys.executable, "-c", program, f"--sigterm_exit_code={code}"]
  with subprocess.Popen(command, **pipes) as process:
    try:
      assert process.stdout.readline() == b"in\n"
      process.terminate()
      _, err = process.communicate(timeout=30)
    finally:
      process.kill()
  assert process.returncode == code
  assert b"the same command goes on" in err


def test_a_sigterm_that_the_loop_has_saved_for_gives_the_code_asked_for():
  program = (
    "from repjax.train import launch;"
    "launch.run_app(lambda settings: (_ for _ in ()).throw(SystemExit(0)))"
  )
  command = [sys.executable, "-c", program, "--sigterm_exit_code=75"]
  assert subprocess.run(command, check=False).returncode == 75


# --- going on -------------------------------------------------------------------------------------


def test_changed_flags_are_refused_with_each_difference(tmp_path):
  begin(tmp_path, learning_rate=0.5)
  before = (tmp_path / "flags.json").read_text()
  with pytest.raises(ValueError) as error:
    take(tmp_path, learning_rate=0.25, temperature=0.1)
  message = str(error.value)
  assert "--learning_rate: 0.5 -> 0.25; --temperature: 0.2 -> 0.1" in message
  assert "--override_flags" in message and "--workdir" in message and "\n" not in message
  assert (tmp_path / "flags.json").read_text() == before


def test_override_goes_on_and_warns(tmp_path, caplog):
  begin(tmp_path)
  with caplog.at_level(logging.WARNING):
    take(tmp_path, learning_rate=0.25, override_flags=True)
  assert "--learning_rate: 0.001 -> 0.25" in caplog.text
  take(tmp_path, learning_rate=0.25)  # they are the run's now


def test_another_experiment_is_refused(tmp_path):
  begin(tmp_path)
  with pytest.raises(ValueError, match="simclr -> simmim"):
    take(tmp_path, "simmim")


def test_a_flag_that_a_later_version_adds_is_named(tmp_path):
  begin(tmp_path)
  with pytest.raises(ValueError, match="--stem: None -> conv"):
    take(tmp_path, stem="conv")


@pytest.mark.parametrize(
  "free",
  [
    {"mesh": "data:1"}, {"log_every": 1}, {"checkpoint_every": 7}, {"keep": 5},
    {"tensorboard": True}, {"progress": False}, {"parallel": "pmap"}, {"device_data_mb": 0},
    {"protocols": ["knn"]}, {"compile_cache": ""},
  ],
)  # fmt: skip
def test_flags_that_do_not_change_what_is_learned_are_free(tmp_path, free):
  begin(tmp_path)
  take(tmp_path, **free)


def test_flags_that_change_what_is_learned_are_not(tmp_path):
  begin(tmp_path, epochs=1.0, eval_every=0)
  for change in ({"epochs": 2.0}, {"epochs": 1.0, "eval_every": 5}):  # examples are held out
    with pytest.raises(ValueError, match="other flags"):
      take(tmp_path, **change)


def test_how_often_a_run_is_evaluated_is_free_once_examples_are_held_out(tmp_path):
  begin(tmp_path, eval_every=5)
  take(tmp_path, eval_every=10)
  with pytest.raises(ValueError, match="--eval_every: 10 -> 0"):
    take(tmp_path, eval_every=0)


def test_flags_may_change_before_anything_is_saved(tmp_path):
  take(tmp_path, learning_rate=0.5)
  (tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir(parents=True)
  take(tmp_path, learning_rate=0.25)
  assert json.loads((tmp_path / "flags.json").read_text())["learning_rate"] == 0.25
