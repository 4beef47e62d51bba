"""One process of a run: does what --scenario says and writes down what it saw."""

import json
import os
import signal
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from repjax.arrays import split_batch
from repjax.encoders import Features
from repjax.evaluate import embed
from repjax.learners.learner import Learner
from repjax.train import Checkpoints, Feed, Schedule, hosts, make_mesh, train
from repjax.train import workdir as folder_of_a_run
from repjax.train.launch import Settings, run_app
from repjax.train.mesh import local_rows
from repjax.train.sharding import state_shardings
from repjax.train.step import shape_of_state

STEPS, BATCH, SIZE = 12, 16, 64
DIM = 200  # wide enough for each process to write files of its own
SPLIT = "wide=data,-; .*=whole"  # each process writes and reads its own part of ``wide``
SCHEDULE = Schedule(STEPS, log_every=4, checkpoint_every=3)

flags.DEFINE_string("scenario", None, "What to do.")
flags.DEFINE_string("folder", None, "Where to write down what was seen.")
flags.DEFINE_integer("at", 0, "Step before which something happens.")
flags.DEFINE_integer("who", 1, "Process that it happens to.")


def linear():
  """Least squares with noise on its inputs, whose first state depends on the data."""

  def init(key, batch):
    return {
      "count": jnp.int32(0),
      "key": jax.random.key(5),
      "w": jax.random.normal(key, (DIM,)) + batch["x"].mean(0),
      "wide": jax.random.normal(key, (8, DIM)),
    }

  def update(state, batch, key):
    noise = jax.random.normal(key, (DIM,))
    batch = jax.tree.map(split_batch, batch)
    loss = lambda w: jnp.mean((batch["x"] @ w + noise @ w - batch["y"]) ** 2)
    value, grad = jax.value_and_grad(loss)(state["w"])
    new = {
      "count": state["count"] + 1,
      "key": jax.random.fold_in(state["key"], state["count"]),
      "w": state["w"] - 0.005 * grad,
      "wide": state["wide"] * 0.9 + grad[None],
    }
    return new, {"loss": value, "grad_norm": jnp.linalg.norm(grad)}

  return Learner(init, update, lambda state, inputs: None)


def data():
  rng = np.random.default_rng(0)
  return {
    "x": rng.normal(size=(SIZE, DIM)).astype(np.float32),
    "y": rng.normal(size=SIZE).astype(np.float32),
  }


def feed(mesh, *, table=False, before=lambda step: None):
  """This process's rows of every batch, streamed or as rows of a table."""
  own, whole = local_rows(mesh, BATCH), data()

  def batches(start):
    for step in range(start, STEPS + 1):
      before(step)
      rows = np.random.default_rng(step).permutation(SIZE)[:BATCH].astype(np.int32)[own]
      yield rows if table else jax.tree.map(lambda x: x[rows], whole)

  return Feed(batches, BATCH, whole if table else None)


def run(workdir, mesh, *, source=None, **options):
  return train(
    linear(), source or feed(mesh), SCHEDULE, workdir=workdir, mesh=mesh, progress=False, **options
  )


def plain(state):
  """The state as NumPy arrays, on every process."""
  raw = jax.tree.map(
    lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, state
  )
  return hosts.fetch(raw)


def restore(folder, mesh, sharding=SPLIT):
  """The latest whole checkpoint of a run."""
  like = shape_of_state(linear(), data())
  checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
  try:
    return checkpoints.restore(like, state_shardings(like, mesh, sharding))
  finally:
    checkpoints.close()


# --- scenarios ------------------------------------------------------------------------------------


def together(settings: Settings, folder: Path, seen: dict):
  """What needs no process to fail, one thing after the other."""
  mesh = make_mesh()
  seen["rows"] = local_rows(mesh, BATCH).tolist()
  seen["streamed"] = run(folder / "streamed", mesh, sharding=SPLIT).state
  slow = lambda step: time.sleep(0.05 * (jax.process_index() == settings.who))
  seen["resident"] = run(
    folder / "resident", mesh, source=feed(mesh, table=True, before=slow)
  ).state
  crossing = make_mesh("model:-1")
  seen["crossing_rows"] = local_rows(crossing, BATCH).tolist()
  seen["crossing"] = run(folder / "crossing", crossing, sharding="wide=model,-; .*=whole").state
  seen["features"], seen["label"] = encode(mesh)
  seen["pmap"] = refusal(lambda: run(folder / "pmap", mesh, parallel="pmap"))
  other = lambda: feed(mesh, table=True)._replace(
    table={"x": np.full((SIZE, DIM), jax.process_index(), np.float32), "y": data()["y"]}
  )
  seen["other_data"] = refusal(lambda: run(folder / "other", mesh, source=other()))
  seen["folders"] = folders(settings, folder)
  seen["shared"] = hosts.share({"from": jax.process_index(), "long": "é" * 400})
  seen["lead"] = hosts.by_lead(lambda: jax.process_index())

  def fail():
    raise OSError("the lead's disk")

  seen["failed"] = refusal(lambda: hosts.by_lead(fail))
  damage(folder / "streamed" / "checkpoints" / str(STEPS))
  seen["after_damage"] = restore(folder / "streamed", mesh).step


def encode(mesh):
  """Features of 21 examples in batches of 8, of which each process reads its own rows."""
  image = np.arange(21 * 12, dtype=np.uint8).reshape(21, 2, 2, 3)
  label = np.arange(21, dtype=np.int32)
  rows = local_rows(mesh, 8)
  parts = (np.arange(first, min(first + 8, 21)) for first in range(0, 21, 8))
  own = [part[rows[rows < len(part)]] for part in parts]
  batches = [{"image": image[part], "label": label[part]} for part in own]
  pooled = lambda state, x: Features(x.reshape(len(x), -1) * state, None, None)
  return embed(pooled, jnp.float32(0.5), batches, batch_size=8, mesh=mesh, rows=rows)


def folders(settings: Settings, folder: Path):
  """What processes are told that differ in flags or see other folders."""
  given = lambda **values: Settings({"override_flags": False, "seed": 0} | values)

  def take(**values):
    with folder_of_a_run.open_workdir(given(**values), "", "worker"):
      pass

  own = str(folder / f"own{jax.process_index()}")
  folder_of_a_run._SHARED_WITHIN = 0.5
  return {
    "same": refusal(lambda: take(workdir=str(folder / "same"))),
    "flags": refusal(lambda: take(workdir=str(folder / "same"), seed=jax.process_index())),
    "elsewhere": refusal(lambda: take(workdir=own)),
  }


def refusal(action):
  """What an action raises."""
  try:
    action()
  except (ValueError, OSError) as error:
    return str(error)
  return None


def damage(path):
  """Cuts the files short that this process alone has written."""
  own = [p for p in path.rglob(f"ocdbt.process_{jax.process_index()}/d/*") if p.is_file()]
  if jax.process_index() == 1:
    for file in own:
      file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  hosts.everywhere(len(own))


def again(settings: Settings, folder: Path, seen: dict):
  """Goes on with a run that other processes began."""
  mesh = make_mesh()
  restored = restore(folder / "streamed", mesh)
  seen["step"], seen["restored"] = restored.step, restored.state
  seen["streamed"] = run(folder / "streamed", mesh, sharding=SPLIT).state


def interrupted(settings: Settings, folder: Path, seen: dict):
  """A run in which one process dies, hangs, fails or is told to stop before a step."""
  drawn = []

  def before(step):
    # The first batch that is drawn is the one that the state is made from.
    drawn.append(step)
    if len(drawn) > 1 and step == settings.at and jax.process_index() == settings.who:
      if settings.fault == "error":
        raise ValueError(f"a file of process {settings.who} is no image")
      os.kill(os.getpid(), signal.Signals[settings.fault])

  mesh = make_mesh()
  options = {"source": feed(mesh, before=before), "sharding": SPLIT}
  seen["state"] = run(Path(settings.workdir), mesh, **options).state


flags.DEFINE_string("fault", None, "A signal, or error.")
SCENARIOS = {f.__name__: f for f in (together, again, interrupted)}


def main(settings: Settings) -> None:
  """Runs the scenario; numbers go to a JSON file, states to NumPy's."""
  folder, seen = Path(settings.folder), {}
  SCENARIOS[settings.scenario](settings, folder, seen)
  arrays = {}
  for name in [n for n, value in seen.items() if not isinstance(value, str | int | list | None)]:
    if not isinstance(seen[name], dict) or "wide" in seen[name]:
      arrays[name] = plain(seen.pop(name))
  path = folder / f"{settings.scenario}.{jax.process_index()}"
  flat = {jax.tree_util.keystr(k): v for k, v in jax.tree_util.tree_leaves_with_path(arrays)}
  np.savez(path.with_suffix(path.suffix + ".npz"), **flat)
  path.with_suffix(path.suffix + ".json").write_text(json.dumps(seen))


if __name__ == "__main__":
  run_app(main)
