"""The launchers as a reader runs them: to the end, through kills, and into one line when wrong."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import evaluate, restored, simclr
from experiments.setup import prepare
from repjax.train import Checkpoints, launch, make_mesh, replicated, train
from repjax.train.launch import Settings
from repjax.train.workdir import open_workdir

ROOT = Path(__file__).resolve().parent.parent
# Quick to compile rather than quick to run, here and in the launchers' processes.
QUICK = "jax_disable_most_optimizations"
ENVIRONMENT = os.environ | {QUICK.upper(): "1"}
SMALL = {
  "encoder": "vit_nano4", "stem": "patch", "scan": True, "batch_size": 32, "log_every": 4,
  "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
  jax.config.update(QUICK, True)
  yield
  jax.config.update(QUICK, False)


def command(experiment, **given):
  flags = [f"--{k}={','.join(v) if isinstance(v, list) else v}" for k, v in given.items()]
  return [sys.executable, "-m", f"experiments.{experiment}", *flags]


@contextlib.contextmanager
def started(experiment, **given):
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
  with subprocess.Popen(
    command(experiment, **given), cwd=ROOT, env=ENVIRONMENT, **pipes
  ) as process:
    try:
      yield process
    finally:
      process.kill()


def finish(experiment, *, code=0, **given):
  with started(experiment, **given) as process:
    out, err = process.communicate(timeout=300)
  assert process.returncode == code, err
  return out, err


def settings(**given):
  return Settings(launch.flag_defaults() | SMALL | {"compile_cache": ""} | given, given)


def lines(workdir):
  path = workdir / "metrics.jsonl"
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table_of(text):
  """Rows of a printed table."""
  rows = re.findall(r"^(raw pixels|untrained|simclr|simmim|supervised) +([\d. ±]+)$", text, re.M)
  return {name: numbers.split() for name, numbers in rows}


def results(workdir):
  return json.loads((workdir / "results.json").read_text())["runs"]


def last_state(workdir):
  """Every array of the last checkpoint, as bytes."""
  ready = prepare(simclr.METHOD, settings(**FLAGS))
  example = {k: v[None].repeat(2, 0) for k, v in ready.dataset.train[0].items()}
  like = jax.eval_shape(ready.learner.init, jax.random.key(0), example)
  checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
  found = checkpoints.restore(like, replicated(make_mesh(devices=jax.devices()[:1])))
  leaves = jax.tree_util.tree_leaves_with_path(found.state)
  return found.step, {jax.tree_util.keystr(path): np.asarray(x).tobytes() for path, x in leaves}


# --- a run, and the same run through a kill and a SIGTERM -----------------------------------------

STEPS = 60
FLAGS = {
  "steps": STEPS, "checkpoint_every": 7, "eval_every": 20, "protocols": ["few_shot", "knn"],
}  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache):
  workdir = tmp_path_factory.mktemp("simclr")
  out, err = finish("simclr", **SMALL, **FLAGS, workdir=workdir, compile_cache=cache)
  return workdir, out, err


def wait_for(process, workdir, step):
  deadline = time.monotonic() + 120
  while max((line["step"] for line in lines(workdir)), default=0) < step:
    assert process.poll() is None, process.communicate()[1]
    assert time.monotonic() < deadline
    time.sleep(0.002)


@pytest.mark.thorough  # half a minute
def test_a_finished_run_scores_again_and_enters_a_results_file_once(finished, cache, tmp_path):
  kept = tmp_path / "kept" / "simclr.json"
  for log_every in (1, 2):  # flags that change nothing that is learned may change
    given = SMALL | FLAGS | {"log_every": log_every, "workdir": finished[0], "results": kept}
    finish("simclr", **given, compile_cache=cache)
  assert json.loads(kept.read_text())["runs"] == results(finished[0])
  assert "workdir" not in json.loads(kept.read_text())["command"]


def test_a_run_ends_with_table_report_and_next_command(finished):
  workdir, out, err = finished
  assert err == ""
  assert set(table_of(out)) == {"raw pixels", "untrained", "simclr"}
  assert f"report: {workdir / 'report.html'}" in out
  assert "next:   python -m experiments.simmim" in out
  assert (workdir / "report.html").stat().st_size > 10_000
  assert [run["method"] for run in results(workdir)] == ["raw_pixels", "untrained", "simclr"]


def test_the_log_has_every_step_once_with_its_speed(finished):
  training = [line for line in lines(finished[0]) if "loss" in line]
  assert [line["step"] for line in training] == list(range(4, STEPS + 1, 4))
  for line in training:
    assert line["images_per_second"] > 0 and line["step_ms"] > 0
    assert line["model_flops_per_second"] > 0 and 0 < line["share_of_peak"] < 1.5


def test_validation_scores_are_logged_and_the_best_checkpoint_stays(finished):
  scores = {line["step"]: line["val/knn_20"] for line in lines(finished[0]) if "loss" not in line}
  assert list(scores) == [20, 40, 60]
  checkpoints = Checkpoints(finished[0] / "checkpoints", read_only=True)
  best = checkpoints.best("val/knn_20")
  assert scores[best] == max(scores[step] for step in checkpoints.steps() if step in scores)
  assert best in (step for step in scores if scores[step] == max(scores.values()))
  assert set(checkpoints.steps()) == {56, 60, best}


@pytest.mark.thorough  # half a minute
def test_kill_9_then_sigterm_then_the_end_give_the_same_bits(finished, tmp_path, cache):
  given = {**SMALL, **FLAGS, "workdir": tmp_path, "compile_cache": cache}
  draw = random.Random(1)
  kill_at, term_at = 4 * draw.randint(1, 6), 4 * draw.randint(8, 11)

  with started("simclr", **given) as process:
    wait_for(process, tmp_path, kill_at)
    with (
      pytest.raises(ValueError, match=f"--workdir={tmp_path} is in use by another run"),
      open_workdir(settings(workdir=str(tmp_path)), "", "simclr"),
    ):
      pass
    process.kill()
    assert process.wait() == -signal.SIGKILL
  assert not (tmp_path / "results.json").exists()

  with started("simclr", **given) as process:
    wait_for(process, tmp_path, term_at)
    process.terminate()
    _, err = process.communicate(timeout=60)
  assert process.returncode == 0, err
  (said,) = re.findall(r"stopped by SIGTERM; saved step (\d+), the same command goes on", err)
  assert term_at <= int(said) < STEPS
  assert (tmp_path / "checkpoints" / said).is_dir()

  compiled = {path.name for path in cache.glob("jit_update-*")}
  out, _ = finish("simclr", **given)
  assert compiled == {path.name for path in cache.glob("jit_update-*")} != set()
  assert last_state(tmp_path) == last_state(finished[0])
  assert last_state(tmp_path)[0] == STEPS
  assert results(tmp_path) == results(finished[0])
  assert table_of(out) == table_of(finished[1])
  for kind in ("loss", "val/knn_20"):
    ours, theirs = (
      [line["step"] for line in lines(workdir) if kind in line]
      for workdir in (tmp_path, finished[0])
    )
    assert ours == theirs


# --- evaluation of a checkpoint -------------------------------------------------------------------


def test_evaluate_prints_the_table_of_the_run(finished, cache):
  out, _ = finish("evaluate", workdir=finished[0], compile_cache=cache)
  assert f"{finished[0] / 'checkpoints' / str(STEPS)}" in out
  assert table_of(out) == table_of(finished[1])


def test_evaluate_counts_every_test_example_once_whatever_the_batch(finished, capsys):
  # 500 test digits in batches of 77 over 8 devices; the run encoded them at once on one.
  given = {"workdir": str(finished[0]), "checkpoint": "60", "protocols": ["knn"]}
  evaluate.main(settings(**given, eval_batch_size=77))
  table = table_of(capsys.readouterr().out)
  for run in results(finished[0]):
    for shown, (name, value) in zip(
      table[run["method"].replace("_", " ")],
      ((k, v) for k, v in run["metrics"].items() if k.startswith("knn")),
      strict=True,
    ):
      assert abs(value * 500 - round(value * 500)) < 1e-3, name
      assert float(shown) == pytest.approx(value, abs=2.1 / 500), name  # ties of float32 sums


def test_evaluate_knows_the_best_checkpoint(finished):
  checkpoints = Checkpoints(finished[0] / "checkpoints", read_only=True)
  step = lambda wanted: restored._step(checkpoints, wanted, finished[0])
  assert step("best") == checkpoints.best("val/knn_20") in (20, 40, 60)
  assert step("56") == 56
  assert step("latest") is None
  for wanted in ("57", "newest", "-1"):
    with pytest.raises(ValueError, match=rf"--checkpoint={wanted} .*\[.*56, 60\]"):
      step(wanted)


def test_evaluate_refuses_what_is_no_run_and_flags_of_training(finished, tmp_path):
  with pytest.raises(ValueError, match="--workdir is not given"):
    evaluate.main(settings())
  with pytest.raises(FileNotFoundError, match=f"--workdir={tmp_path} .* no flags.json"):
    evaluate.main(settings(workdir=str(tmp_path)))
  (tmp_path / "flags.json").write_text((finished[0] / "flags.json").read_text())
  with pytest.raises(FileNotFoundError, match=f"--workdir={tmp_path} has no checkpoint yet"):
    evaluate.main(settings(workdir=str(tmp_path)))
  assert [path.name for path in tmp_path.iterdir()] == ["flags.json"]
  with pytest.raises(ValueError, match="--learning_rate cannot change"):
    evaluate.main(settings(workdir=str(finished[0]), learning_rate=1.0))


# --- the other launchers --------------------------------------------------------------------------


@pytest.mark.thorough  # half a minute
def test_simmim_ends_with_reconstructions_in_its_report(tmp_path, cache):
  given = SMALL | {"steps": 6, "protocols": ["knn"], "workdir": tmp_path, "compile_cache": cache}
  out, _ = finish("simmim", **given)
  assert set(table_of(out)) == {"raw pixels", "untrained", "simmim"}
  assert "econstruction" in (tmp_path / "report.html").read_text()
  assert len(results(tmp_path)) == 3


@pytest.mark.thorough  # what it shares with simmim is tested there every day
def test_supervised_in_parts_ends_with_table_report_and_event_files(tmp_path, cache):
  given = SMALL | {"steps": 6, "protocols": ["knn"], "workdir": tmp_path, "compile_cache": cache}
  out, _ = finish("supervised", **given, accumulate=2, tensorboard=True)
  assert set(table_of(out)) == {"raw pixels", "untrained", "supervised"}
  assert "accuracy" in lines(tmp_path)[-1]
  assert (tmp_path / "report.html").exists() and len(results(tmp_path)) == 3
  assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


# --- ways to train that must agree ----------------------------------------------------------------


def fit(workdir, **given):
  """Trains as a launcher does, on this process's eight devices."""
  given = {"steps": 6, "protocols": ["knn"], **given}
  ours = settings(**given)
  ready = prepare(simclr.METHOD, ours)
  options = {"parallel": ours.parallel, "sharding": ours.sharding, "mesh": ready.mesh}
  options["progress"] = False
  ours.check_all_read()
  return train(ready.learner, ready.feed, ready.schedule, workdir=workdir, **options)


@pytest.fixture(scope="module")
def resident(tmp_path_factory):
  return fit(tmp_path_factory.mktemp("resident"))


@pytest.mark.thorough  # every day, streams and tables are tested each by itself
def test_a_streamed_set_trains_to_the_same_bits_as_a_resident_one(resident, tmp_path):
  pytest.importorskip("grain")
  streamed = fit(tmp_path, device_data_mb=0)
  for a, b in zip(*map(jax.tree.leaves, (resident.state, streamed.state)), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.thorough  # every day, learners and sharding are tested on layouts without a launcher
@pytest.mark.parametrize("given", [{"parallel": "pmap"}, {"mesh": "data:2,fsdp:2,model:2"}])
def test_every_layout_reaches_the_same_loss(resident, tmp_path, given):
  mapped = fit(tmp_path, **given)
  for ours, theirs in zip(mapped.history, resident.history, strict=True):
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)


# --- one line for what is wrong -------------------------------------------------------------------


def test_a_mistake_is_one_line_and_exit_code_1(tmp_path):
  out, err = finish("simclr", code=1, **SMALL | {"batch_size": 4096, "workdir": tmp_path})
  assert err.splitlines() == [
    "error: --batch_size=4096 is larger than the train split of 1297; choose at most 1297"
  ]
  assert out == ""


def test_a_misspelt_flag_is_named_with_the_nearest():
  _, err = finish("simclr", code=1, stpes=3)
  assert "Unknown command line flag 'stpes'" in err and "steps" in err
  assert "Traceback" not in err


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"steps": 4, "epochs": 2.0}, "--steps=4 and --epochs=2.0: give one"),
    ({"momentum": 0.5}, "--momentum=0.5 has no effect"),
    ({"colour": 0.3}, "--colour=0.3 has no effect"),
    ({"encoder": "resnet18", "stem": None, "pool": "cls"}, "--pool=cls.* has no effect"),
    ({"encoder": "vit_nano3"}, "images of 8 pixels .* patch of --encoder=vit_nano3; give --"),
    ({"encoder": "vit_huge4"}, "'vit_huge4' is not vit_SIZEPATCH"),
    ({"shots": ["1", "200"]}, r"class '\d' has 12\d train examples, fewer than --shots=200; lower"),
    ({"shots": ["one"]}, "--shots=one is not a list of"),
    ({"protocols": ["knn", "nkk"]}, "--protocols=knn,nkk is no list .* of few_shot, knn, linear"),
    ({"protocols": []}, "--protocols= is no list of protocols; choose of few_shot, .* retrieval"),
    ({"protocols": ["knn"], "shots": ["2"]}, r"--shots=\['2'\] has no effect"),
    ({"validation": 0.2}, "--validation=0.2 has no effect"),
    ({"eval_every": 2, "validation": 0.0}, "--validation=0.0 leaves --eval_every=2 nothing"),
    ({"batch_size": 1200, "eval_every": 2}, "--batch_size=1200 is larger .* of 11"),
    ({"accumulate": 5}, "--accumulate=5 does not divide --batch_size=32; choose a divisor"),
    ({"workers": 2}, "--workers=2 has no effect"),
    ({"skip_unreadable": True}, "--skip_unreadable=True has no effect"),
    ({"projector": ["64", "a"]}, "--projector=64,a is not a list of numbers above 0"),
    ({"mesh": "data:3"}, "--mesh=data:3 needs 3 devices, 8 are here"),
    ({"sharding": "fsdp"}, "--sharding=fsdp splits over axis fsdp, --mesh has data; write"),
    (
      {"mesh": "model:8", "sharding": "up/kernel=-,model"},
      "--sharding has no rule for .*; add one",
    ),
    ({"mesh": "data=8"}, "--mesh=data=8 is not a list of name:size pairs"),
    ({"data": "digit"}, "--data=digit is not one of digits, npz:PATH"),
    ({"warmup": 1.5}, "--warmup=1.5 is a share"),
    (
      {"batch_size": 36},
      "--batch_size=36 is not divisible by the 8 shards of --mesh; use 32 or 40",
    ),
    (
      {"parallel": "pmap", "mesh": "data:4,model:2"},
      "--parallel=pmap splits batches alone, --mesh",
    ),
  ],
)
def test_flags_that_do_not_fit_are_named_with_both_values(tmp_path, given, message):
  given = {"protocols": ["few_shot", "knn"]} | given
  ours = settings(**given)
  with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
    ready = prepare(simclr.METHOD, ours)
    sharding = ours.sharding
    ours.check_all_read()
    train(
      ready.learner, ready.feed, ready.schedule,
      workdir=tmp_path, mesh=ready.mesh, parallel=ours.parallel, sharding=sharding,
      progress=False,
    )  # fmt: skip
  assert "\n" not in str(error.value)
