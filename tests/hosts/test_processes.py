"""Several processes are one run: the same numbers as one process, and the same end when one fails.

Processes meet on the loopback, where gloo carries their collectives.
"""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
import worker

from experiments import evaluate as evaluate_again
from repjax.train import launch, make_mesh

pytestmark = pytest.mark.thorough  # a minute and more of starting processes

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORKER = [str(pathlib.Path(worker.__file__))]
PATIENCE = 240  # seconds after which a process counts as hanging
SOON = 5  # heartbeat_seconds where a process is to be found dead


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


def start(count, devices, command, **options):
  """Starts processes of one run; gives exit code and output of each."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": str(devices),
    "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
  }
  given = [f"--{name}={value}" for name, value in options.items()]
  where = [f"--coordinator=127.0.0.1:{port}", f"--process_count={count}"]
  processes = [
    subprocess.Popen(
      [sys.executable, *command, *given, *where, f"--process_id={process}"],
      cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    for process in range(count)
  ]  # fmt: skip
  stopped = options.get("who") if options.get("fault") == "SIGSTOP" else None
  try:
    outputs = {
      i: p.communicate(timeout=PATIENCE)[0] for i, p in enumerate(processes) if i != stopped
    }
  finally:
    for process in processes:
      process.kill()
      process.wait()
      process.stdout.close()
  return [process.returncode for process in processes], outputs


def seen(folder, scenario, process):
  """What a process has written down: numbers and words, then the states by name."""
  path = folder / f"{scenario}.{process}"
  arrays = np.load(f"{path}.npz")
  states = {}
  for key in arrays.files:
    name, *rest = re.findall(r"'(\w+)'", key)
    states.setdefault(name, {})["/".join(rest)] = arrays[key]
  return json.loads(pathlib.Path(f"{path}.json").read_text()), states


def plain(state):
  """A state of this process in the form of `seen`."""
  return {name: np.asarray(leaf) for name, leaf in worker.plain(state).items()}


def check_same_bits(*states):
  for state in states[1:]:
    assert state.keys() == states[0].keys()
    for name, leaf in state.items():
      assert leaf.tobytes() == states[0][name].tobytes(), name


def check_close(ours, theirs):
  assert ours.keys() == theirs.keys()
  for name, leaf in ours.items():
    scale = np.abs(theirs[name]).max()
    np.testing.assert_allclose(leaf, theirs[name], rtol=1e-5, atol=1e-6 * scale, err_msg=name)


def lines(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def saved_steps(workdir):
  return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def one(folder):
  """The run of one process with the same global batch."""
  return plain(worker.run(folder / "one", make_mesh(devices=jax.devices()[:4])).state)


@pytest.fixture(scope="module")
def two(folder):
  """What two processes of two devices each have seen."""
  codes, outputs = start(2, 2, WORKER, scenario="together", folder=folder, who=1)
  assert codes == [0, 0], outputs
  return [seen(folder, "together", process) for process in range(2)]


# --- the same numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["streamed", "resident", "crossing"])
def test_two_processes_end_in_the_state_of_one(one, two, way):
  (_, states), (_, others) = two
  check_same_bits(states[way], others[way])
  check_close(states[way], one)


def test_each_process_reads_its_own_rows_and_all_of_them_where_the_batch_is_not_split(two):
  (first, _), (second, _) = two
  assert sorted(first["rows"] + second["rows"]) == list(range(worker.BATCH))
  assert first["crossing_rows"] == second["crossing_rows"] == list(range(worker.BATCH))


def test_evaluation_counts_each_example_once_and_in_order_on_every_process(two):
  image = np.arange(21 * 12, dtype=np.uint8).reshape(21, -1)
  for _, states in two:
    np.testing.assert_array_equal(states["features"][""], image * np.float32(0.5))
    np.testing.assert_array_equal(states["label"][""], np.arange(21))


def test_the_lead_alone_writes_the_log_and_names_the_slow_host(two, folder):
  log = lines(folder / "resident")
  assert [line["step"] for line in log] == [4, 8, 12]
  assert log[-1]["slowest_process"] == 1
  assert log[-1]["slowest_process_ms"] > 40  # the feed of process 1 sleeps for 50 ms


def test_what_the_lead_says_and_where_it_fails_all_know(two):
  for numbers, _ in two:
    assert numbers["shared"] == {"from": 0, "long": "é" * 400}
    assert numbers["lead"] == 0
    assert numbers["failed"] == "the lead's disk"


def test_what_does_not_fit_together_is_refused_by_all(two, folder):
  for numbers, _ in two:
    assert "--parallel=pmap is for one process, 2 are here; use pjit" in numbers["pmap"]
    assert "process 1 holds other data than process 0" in numbers["other_data"]
    assert numbers["folders"]["same"] is None
    assert "of process 1 not as on process 0" in numbers["folders"]["flags"]
    assert "of process 1 is not the folder of process 0" in numbers["folders"]["elsewhere"]
  assert "--seed=1 of process 1" in two[1][0]["folders"]["flags"]
  assert not (folder / "own1" / "flags.json").exists()


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_checkpoint_that_one_process_cannot_read_is_skipped_by_all(two):
  # Files of process 1 were cut short in the last of [9, 12].
  assert [numbers["after_damage"] for numbers, _ in two] == [9, 9]


@pytest.fixture(scope="module")
def four(two, folder):
  codes, outputs = start(4, 1, WORKER, scenario="again", folder=folder)
  assert codes == [0] * 4, outputs
  return [seen(folder, "again", process) for process in range(4)]


def test_what_two_processes_saved_one_and_four_restore_to_the_last_bit(two, four, folder):
  shutil.copytree(folder / "streamed", folder / "copy")
  for step in saved_steps(folder / "copy"):
    if step != 9:
      shutil.rmtree(folder / "copy" / "checkpoints" / str(step))
  restored = [states["restored"] for _, states in four]
  for devices in (1, 4):
    mesh = make_mesh(devices=jax.devices()[:devices])
    restored.append(plain(worker.restore(folder / "copy", mesh).state))
  assert [numbers["step"] for numbers, _ in four] == [9] * 4
  check_same_bits(*restored)


def test_four_processes_go_on_to_the_state_of_one(one, four):
  check_same_bits(*(states["streamed"] for _, states in four))
  check_close(four[0][1]["streamed"], one)


# --- faults ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broken(folder):
  """A run that is broken in every way, and then goes on to its end."""
  workdir, happened = folder / "broken", {}
  for fault, who, at, heartbeat in (
    ("SIGTERM", 1, 4, 100), ("SIGKILL", 1, 8, SOON), ("error", 0, 8, SOON), ("SIGSTOP", 0, 9, SOON),
    ("none", 0, 100, 100),
  ):  # fmt: skip
    options = {"workdir": workdir, "fault": fault, "who": who, "at": at}
    codes, outputs = start(
      2, 2, WORKER, scenario="interrupted", folder=folder, heartbeat_seconds=heartbeat, **options
    )
    happened[fault] = codes, outputs, saved_steps(workdir)
  return happened


def test_sigterm_to_one_process_makes_all_save_one_step_and_leave_with_0(broken):
  codes, outputs, steps = broken["SIGTERM"]
  assert codes == [0, 0], outputs
  told = {re.search(r"saved step (\d+)", outputs[process])[1] for process in range(2)}
  assert told == {str(steps[-1])}
  assert steps[-1] % 3  # no step at which it would have saved anyway


@pytest.mark.parametrize("fault", ["SIGKILL", "SIGSTOP", "error"])
def test_no_process_outlives_another_that_fails(broken, fault):
  codes, _, _ = broken[fault]
  assert all(codes)


def test_a_mistake_on_one_process_is_told_in_one_line_there(broken):
  codes, outputs, _ = broken["error"]
  assert codes[0] == 1
  assert outputs[0].splitlines()[-1] == "error: a file of process 0 is no image"


def test_a_run_that_broke_in_every_way_ends_in_the_bits_of_one_that_did_not(broken, two, folder):
  codes, outputs, steps = broken["none"]
  assert codes == [0, 0], outputs
  assert steps[-1] == worker.STEPS
  ends = [seen(folder, "interrupted", process)[1]["state"] for process in range(2)]
  check_same_bits(two[0][1]["streamed"], *ends)
  assert [line["step"] for line in lines(folder / "broken")] == [4, 8, 12]


# --- launchers ------------------------------------------------------------------------------------


def test_a_launcher_in_two_processes_gives_one_table_and_one_report(folder, capsys):
  rng = np.random.default_rng(0)
  pixels = lambda n: rng.integers(0, 256, (n, 8, 8), np.uint8)
  np.savez(
    folder / "tiny.npz",
    x_train=pixels(60), y_train=np.arange(60) % 3, x_test=pixels(21), y_test=np.arange(21) % 3,
  )  # fmt: skip
  options = {
    "data": f"npz:{folder / 'tiny.npz'}", "workdir": folder / "launched", "encoder": "vit_nano4",
    "scan": True, "steps": 4, "batch_size": 16, "eval_every": 2, "validation": 0.2, "log_every": 2,
    "protocols": "knn", "eval_batch_size": 15, "compile_cache": "", "progress": False,
  }  # fmt: skip
  codes, outputs = start(2, 1, ["-m", "experiments.simmim"], **options)
  assert codes == [0, 0], outputs
  assert "report:" in outputs[0] and "knn" not in outputs[1]
  assert (folder / "launched" / "report.html").exists()
  assert [line["step"] for line in lines(folder / "launched") if "loss" in line] == [2, 4]
  assert [line["step"] for line in lines(folder / "launched") if "val/knn_1" in line] == [2, 4]
  runs = json.loads((folder / "launched" / "results.json").read_text())["runs"]
  given = {"workdir": str(folder / "launched"), "compile_cache": "", "progress": False}
  evaluate_again.main(launch.Settings(launch.flag_defaults() | given, given))
  table = capsys.readouterr().out
  for run in runs:
    row = re.search(rf"^{run['method'].replace('_', ' ')} +(.+)$", table, re.M)[1].split()
    assert row == [f"{run['metrics'][f'knn_{k}']:.3f}" for k in (1, 5, 20)]


# --- death during a save --------------------------------------------------------------------------


def test_killed_at_any_instant_a_run_leaves_a_whole_checkpoint():
  command = [sys.executable, "benchmarks/faults.py", "--trials=5", "--pairs=0", "--hangs=0"]
  done = subprocess.run(
    command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    timeout=PATIENCE, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stdout + done.stderr
  assert "| kill -9 | 5 |" in done.stdout
