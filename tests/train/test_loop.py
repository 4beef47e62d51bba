"""The training loop: a run that is cut off anywhere ends where the uninterrupted one does."""

import json
import logging
import os
import signal
import threading
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from repjax.learners.learner import Learner
from repjax.train import Checkpoints, Feed, Schedule, loop, make_mesh, replicated, train

STEPS, BATCH, SIZE, DIM = 12, 16, 64, 5
RATES = ("images_per_second", "step_ms", "model_flops_per_second", "share_of_peak")


def linear(*, poison=None, at=0, axis_name=None, compiling=0.0):
  """Least squares with noise on its inputs; ``poison`` makes a value NaN at one step."""

  def init(key, batch):
    return {
      "count": jnp.int32(0),
      "key": jax.random.key(5),
      "w": jax.random.normal(key, batch["x"].shape[1:]),
      "unused": jnp.zeros(()),
    }

  def update(state, batch, key):
    time.sleep(compiling)
    noise = jax.random.normal(key, (DIM,))
    loss = lambda w: jnp.mean((batch["x"] @ w + noise @ w - batch["y"]) ** 2)
    value, grad = jax.value_and_grad(loss)(state["w"])
    if axis_name is not None:
      value, grad = lax.pmean((value, grad), axis_name)
    bad = jnp.where(state["count"] == at - 1, jnp.nan, 0)
    plus = {"loss": 0.0, "gradient": 0.0, "state": 0.0} | ({poison: bad} if poison else {})
    new = {
      "count": state["count"] + 1,
      "key": jax.random.fold_in(state["key"], state["count"]),
      "w": state["w"] - 0.05 * grad,
      "unused": state["unused"] + plus["state"],
    }
    norm = jnp.linalg.norm(grad) + plus["gradient"]
    return new, {"loss": value + plus["loss"], "grad_norm": norm}

  return Learner(init, update, lambda state, inputs: None)


class Cut(Exception):
  """The feed's way to end a run."""


def feed(*, cut=None, before=lambda step: None, table=True):
  rng = np.random.default_rng(0)
  data = {
    "x": rng.normal(size=(SIZE, DIM)).astype(np.float32),
    "y": rng.normal(size=SIZE).astype(np.float32),
  }

  def batches(start):
    for step in range(start, STEPS + 1):
      before(step)
      if step == cut:
        raise Cut
      rows = np.random.default_rng(step).permutation(SIZE)[:BATCH].astype(np.int32)
      yield rows if table else jax.tree.map(lambda x: x[rows], data)

  return Feed(batches, BATCH, data if table else None)


SCHEDULE = Schedule(STEPS, log_every=4, checkpoint_every=3)


def run(workdir, *, learner=None, source=None, schedule=SCHEDULE, devices=1, **options):
  return train(
    learner or linear(),
    source or feed(),
    schedule,
    workdir=workdir,
    mesh=make_mesh(devices=jax.devices()[:devices]),
    progress=False,
    **options,
  )


def bits(state):
  plain = lambda x: jax.random.key_data(x) if x.dtype == jax.random.key(0).dtype else x
  return [np.asarray(plain(leaf)).tobytes() for leaf in jax.tree.leaves(state)]


def lines(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def saved_steps(workdir):
  checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
  steps = checkpoints.steps()
  checkpoints.close()
  return steps


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  return run(tmp_path_factory.mktemp("whole"))


# --- going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 3, 4, 8, 11])
def test_a_run_that_breaks_off_ends_in_the_same_bits(tmp_path, whole, cut):
  schedule = SCHEDULE._replace(log_every=1)
  with pytest.raises(Cut):
    run(tmp_path, source=feed(cut=cut), schedule=schedule)
  result = run(tmp_path, schedule=schedule)
  assert bits(result.state) == bits(whole.state)
  assert [line["step"] for line in lines(tmp_path)] == list(range(1, STEPS + 1))
  assert result.history == lines(tmp_path)
  assert result.speed["images_seen"] == STEPS * BATCH


def test_a_run_may_break_off_again_and_again(tmp_path, whole):
  for cut in (2, 4, 4, 7, 10):
    with pytest.raises(Cut):
      run(tmp_path, source=feed(cut=cut))
  assert bits(run(tmp_path).state) == bits(whole.state)


def test_every_line_of_the_log_is_there_wherever_a_run_went_on(tmp_path):
  # Going on at 3, the first step falls on a line of the log.
  with pytest.raises(Cut):
    run(tmp_path, source=feed(cut=3))
  run(tmp_path)
  assert [line["step"] for line in lines(tmp_path)] == [4, 8, 12]


def test_a_finished_run_gives_its_state_again(tmp_path, whole):
  first = run(tmp_path)
  again = run(tmp_path)
  assert bits(again.state) == bits(first.state) == bits(whole.state)
  assert again.history == first.history
  assert again.speed["training_seconds"] == first.speed["training_seconds"]


def test_a_streamed_set_trains_to_the_same_bits_as_a_resident_one(tmp_path, whole):
  assert bits(run(tmp_path, source=feed(table=False)).state) == bits(whole.state)


@pytest.mark.parametrize("devices", [(1, 8), (8, 1)])
def test_a_run_goes_on_on_another_number_of_devices_and_says_so(tmp_path, whole, devices, caplog):
  before, after = devices
  with pytest.raises(Cut):
    run(tmp_path, source=feed(cut=7), devices=before)
  with caplog.at_level(logging.WARNING):
    result = run(tmp_path, devices=after)
  assert f"{{'data': {before}}}" in caplog.text
  assert f"{{'data': {after}}}" in caplog.text
  np.testing.assert_allclose(result.state["w"], whole.state["w"], rtol=1e-5, atol=1e-6)
  assert bits(result.state["key"]) == bits(whole.state["key"])


def test_pmap_and_jit_end_in_the_same_state_and_each_goes_on_from_the_other(tmp_path, whole):
  mapped = linear(axis_name="data")
  result = run(tmp_path / "pmap", learner=mapped, devices=8, parallel="pmap")
  np.testing.assert_allclose(result.state["w"], whole.state["w"], rtol=1e-5, atol=1e-6)
  with pytest.raises(Cut):
    run(tmp_path / "both", learner=mapped, source=feed(cut=5), devices=8, parallel="pmap")
  result = run(tmp_path / "both", devices=8)
  np.testing.assert_allclose(result.state["w"], whole.state["w"], rtol=1e-5, atol=1e-6)


# --- a damaged checkpoint -------------------------------------------------------------------------


def test_training_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path, whole, caplog):
  with pytest.raises(Cut):
    run(tmp_path, source=feed(cut=7))
  assert saved_steps(tmp_path) == [3, 6]
  files = [path for path in (tmp_path / "checkpoints" / "6" / "state").rglob("*") if path.is_file()]
  for path in files:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with caplog.at_level(logging.WARNING):
    result = run(tmp_path)  # saves step 6 anew
  assert f"skipped checkpoint {tmp_path / 'checkpoints' / '6'}" in caplog.text
  assert bits(result.state) == bits(whole.state)
  assert [line["step"] for line in lines(tmp_path)] == [4, 8, 12]
  assert saved_steps(tmp_path) == [9, 12]


# --- SIGTERM --------------------------------------------------------------------------------------


@pytest.mark.skipif(
  threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread"
)
@pytest.mark.parametrize("at", [0, 7, STEPS - 1])
def test_sigterm_saves_and_leaves_with_0(tmp_path, whole, at, caplog):
  before = signal.getsignal(signal.SIGTERM)

  drawn = []

  def terminate(step):
    # The first batch that is drawn is the one that the state is made from.
    drawn.append(step)
    if len(drawn) == at + 2:
      os.kill(os.getpid(), signal.SIGTERM)

  with caplog.at_level(logging.WARNING), pytest.raises(SystemExit) as left:
    run(tmp_path, source=feed(before=terminate))
  assert left.value.code == 0
  assert "the same command goes on" in caplog.text
  assert saved_steps(tmp_path)[-1] == at + 1
  assert signal.getsignal(signal.SIGTERM) == before
  assert bits(run(tmp_path).state) == bits(whole.state)


# --- values that are not finite -------------------------------------------------------------------


@pytest.mark.parametrize("poison", ["loss", "gradient", "state"])
@pytest.mark.parametrize("at", [2, 6, 11])
def test_a_value_that_is_not_finite_stops_the_run_before_it_is_saved(tmp_path, poison, at):
  with pytest.raises(FloatingPointError) as stopped:
    run(tmp_path, learner=linear(poison=poison, at=at))
  message = str(stopped.value)
  assert "\n" not in message
  seen = at if poison != "state" else -(-at // 3) * 3  # a value outside the metrics: at the save
  assert f"at step {seen} " in message
  assert all(f"step {step}: grad_norm " in message for step in range(max(1, seen - 4), seen + 1))
  good = (at - 1) // 3 * 3
  last = f"last good checkpoint: {tmp_path / 'checkpoints' / str(good)};"
  assert (last if good else "there is no checkpoint yet") in message
  assert "--learning_rate" in message
  checkpoints = Checkpoints(tmp_path / "checkpoints", read_only=True)
  assert max(checkpoints.steps(), default=0) == good
  like = jax.eval_shape(linear().init, jax.random.key(0), {"x": jnp.zeros((2, DIM))})
  for step in checkpoints.steps():
    state = checkpoints.restore(like, replicated(make_mesh()), step=step).state
    assert all(np.isfinite(state[name]).all() for name in ("w", "unused"))


# --- evaluation -----------------------------------------------------------------------------------


def test_validation_is_logged_and_its_best_checkpoint_stays(tmp_path):
  scores = {2: 0.1, 4: 0.9, 6: 0.3, 8: 0.4, 10: 0.5, 12: 0.6}
  schedule = Schedule(
    STEPS, log_every=4, eval_every=2, checkpoint_every=3, keep=2, best="val/accuracy"
  )
  evaluate = lambda state: {"accuracy": scores[int(state["count"])]}
  run(tmp_path, schedule=schedule, evaluate=evaluate)
  logged = {line["step"]: line["val/accuracy"] for line in lines(tmp_path) if len(line) == 2}
  assert logged == scores
  assert saved_steps(tmp_path) == [4, 10, 12]
  checkpoints = Checkpoints(tmp_path / "checkpoints", read_only=True)
  assert checkpoints.best("val/accuracy") == 4


# --- speed ----------------------------------------------------------------------------------------


def test_compilation_is_left_out_of_the_speed(tmp_path):
  result = run(tmp_path, learner=linear(compiling=0.5), schedule=SCHEDULE._replace(log_every=STEPS))
  (line,) = result.history
  assert all(np.isfinite(line[name]) and line[name] > 0 for name in RATES)
  assert line["step_ms"] < 1e3 * 0.5 / STEPS
  np.testing.assert_allclose(line["images_per_second"], 1e3 * BATCH / line["step_ms"], rtol=1e-6)
  assert result.speed["training_seconds"] < 0.5


def test_evaluation_is_left_out_of_the_speed(tmp_path):
  schedule = Schedule(STEPS, log_every=STEPS, eval_every=3, checkpoint_every=3)
  evaluate = lambda state: time.sleep(0.2) or {"accuracy": 0.0}
  result = run(tmp_path, schedule=schedule, evaluate=evaluate)
  assert result.speed["training_seconds"] < 0.5


@pytest.mark.parametrize(("log_every", "waits"), [(1, [0.75] * 11), (4, [1.0, 12 / 13, 12 / 13])])
def test_input_wait_is_the_share_of_time_in_which_batches_are_awaited(
  tmp_path, monkeypatch, log_every, waits
):
  clock = SimpleNamespace(now=0.0)

  def passes(seconds):
    clock.now += seconds
    return {}

  monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock.now))
  result = run(
    tmp_path,
    source=feed(before=lambda step: passes(3.0)),
    schedule=SCHEDULE._replace(log_every=log_every, eval_every=2),
    watch=lambda step: passes(1.0),  # Beside the input, once a line of the log.
    evaluate=lambda state: passes(100.0),  # Not training time.
  )
  found = [line["input_wait"] for line in result.history if "input_wait" in line]
  np.testing.assert_allclose(found, waits)
  assert result.speed["input_wait"] == found[-1]


def test_flops_are_those_of_the_two_products(tmp_path):
  result = run(tmp_path)
  line = result.history[-1]
  per_step = round(line["model_flops_per_second"] * line["step_ms"] / 1e3)
  # x @ w and its gradient over w, noise @ w and its own.
  forward = 2 * BATCH * DIM + 2 * DIM
  assert forward <= per_step <= 2 * forward


# --- what does not fit ----------------------------------------------------------------------------


def test_a_batch_that_does_not_divide_over_the_devices_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"--batch_size=16 .* 3 shards of --mesh; use 15 or 18"):
    run(tmp_path, devices=3)
  assert not (tmp_path / "metrics.jsonl").exists()
