"""The plan: what a training step needs on a machine, from the program compiled for it.

  pip install 'repjax[plan]'
  python -m experiments.plan --experiment=simclr --encoder=vit_g14 --scan --remat --dtype=bfloat16 \
    --batch_size=4096 --topology=v5e:16x16 --mesh=data:64,model:4

compiles the step that experiments.simclr would run for 256 TPU chips that nobody has here, and says
whether it fits, what binds and what to try. The other flags are those of the experiment, less those
of its data: --image_size, --channels, --classes and --examples stand for a set that streams.

  python -m experiments.plan ... --topology=v5e:16x16 --sweep   # all layouts of the chips, ranked
  python -m experiments.plan ... --topology='v5e:16x16*2'       # two slices and their network
  python -m experiments.plan ... --topology=cpu:8               # eight simulated devices
  python -m experiments.plan ...                                # the devices here, and measured

Slices of v2, v3, v4, v5e, v5p, v6e and tpu7x are known. Times are predictions of a roofline with
perfect overlap; "Plans" in benchmarks/NOTES.md has some, with the time that compiling takes. Other
programs ask for a plan with `plan`.
"""

import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

from experiments.methods import METHODS
from experiments.setup import Method, build
from repjax.train import launch, make_mesh
from repjax.train.feed import check_divisible, place_batch
from repjax.train.flops import count_flops
from repjax.train.launch import Settings, run_app
from repjax.train.mesh import batch_sharding
from repjax.train.plan import Plan, bytes_per_device, largest_batch, layouts, make_plan, spell
from repjax.train.plan_table import describe, in_a_line, rank, ranking, to_json
from repjax.train.program import Memory
from repjax.train.sharding import state_shardings
from repjax.train.step import compile_update, init_state, shape_of_state
from repjax.train.topology import environment, is_here, machine

flags.DEFINE_string("experiment", "simclr", "Whose step: simclr, simmim, supervised, ...")
flags.DEFINE_string(
  "topology", None, "v5e:16x16, v5p:4x4x4, cpu:8, ...; the devices here if absent."
)
flags.DEFINE_bool("sweep", False, "Try layouts of the devices and rank them.")
flags.DEFINE_string("meshes", None, "What --sweep tries, separated by semicolons; all if absent.")
flags.DEFINE_bool(
  "largest_batch", None, "Search it, by compiling; if absent, of accelerators without --sweep."
)
flags.DEFINE_bool("measure", None, "Run the step beside; if absent, where --topology is.")
flags.DEFINE_string("json", None, "File for all of it.")
flags.DEFINE_integer("channels", 3, "Of the images.", lower_bound=1)
flags.DEFINE_integer("classes", 1000, "Of the labels.", lower_bound=1)
flags.DEFINE_integer("examples", 1281167, "Of the train split; with --epochs.", lower_bound=1)

_INSIDE = "REPJAX_PLAN_TOPOLOGY"  # tells a process started for a topology that it is that process
_SIDE = 224
_RUNS = 5


def plan(**given: Any) -> dict[str, Any]:
  """Makes a plan in a process of its own.

  Args:
    **given: the flags, such as ``experiment="simclr", topology="v4:4x4x8", batch_size=1024``.

  Returns:
    What ``--json`` writes: ``plans``, one or more if ``sweep``, best first.

  Raises:
    ValueError: with the launcher's message, if it makes none.
  """
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "plan.json"
    done = subprocess.run(
      [sys.executable, "-m", "experiments.plan", *_spelt(given | {"json": path})],
      capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
      raise ValueError((done.stderr.strip().splitlines() or ["no plan was made"])[-1])
    return json.loads(path.read_text())


def _spelt(given):
  say = lambda value: ",".join(map(str, value)) if isinstance(value, list | tuple) else value
  return [f"--{name}={say(value)}" for name, value in given.items()]


def main(method: Method, settings: Settings) -> None:
  """Runs the experiment."""
  topology = settings.topology
  if topology and os.environ.get(_INSIDE) != topology:
    # libtpu takes hold of its process, and JAX reads its environment when it starts.
    surroundings = os.environ | environment(topology) | {_INSIDE: topology}
    command = [sys.executable, "-m", "experiments.plan", *sys.argv[1:]]
    raise SystemExit(subprocess.run(command, env=surroundings, check=False).returncode)
  if is_here(topology):  # what is compiled for others can be kept, but not read again
    launch.use_compile_cache(settings)
  if settings.parallel != "pjit":
    raise ValueError(f"--parallel={settings.parallel} cannot be planned; leave it out for pjit")
  if settings.measure and not is_here(topology):
    raise ValueError(f"--measure needs the machine, --topology={topology} is not here; drop one")
  if settings.meshes and not settings.sweep:
    raise ValueError(f"--meshes={settings.meshes} is for --sweep; give that too, or --mesh")
  target = settings.json and Path(settings.json)
  look_further, measure = settings.largest_batch, settings.measure
  # Of a run, whose command line a plan takes as it is; not every launcher has them all.
  for name in (launch.FREE | {"eval_every", "validation"}) & settings.values().keys():
    getattr(settings, name)
  print(
    f"{settings.experiment}: {settings.encoder}, {settings.dtype}, batch {settings.batch_size}"
  )  # fmt: skip
  devices, chip = machine(topology)
  compiles = functools.partial(_plan, method, settings, devices, chip)

  if settings.sweep:
    plans = _sweep(settings, compiles, devices)
    if not plans:
      raise ValueError("--sweep found no layout that the flags allow; try another --batch_size")
    print("\n" + ranking(plans) + "\n")
    best, *_ = plans
  else:
    plans = [best := compiles(settings.mesh, settings.batch_size)]
  if look_further is None:
    look_further = not settings.sweep and devices[0].platform != "cpu"
  largest = None
  if look_further:
    largest = _largest(settings, compiles, best)
  print(describe(best, largest=largest, searched=look_further))
  measured = None
  if measure or (measure is None and topology is None):
    measured = _measure(method, settings, devices, best)
  if target:
    record = {
      "command": launch.command(),
      "commit": launch.commit(),
      "jax": jax.__version__,
      "flags": settings.values(),
      "plans": [to_json(x) for x in plans],
      "largest_batch": largest and to_json(largest),
      "measured_seconds": measured,
    }
    launch.write_whole(target, json.dumps(record, indent=1, default=str))


def _program(method, settings, devices, mesh_spec, batch_size):
  """Everything of a training step but the compiler's part, for data that is not at hand."""
  settings = settings.replace(batch_size=batch_size)
  mesh = make_mesh(mesh_spec, devices=devices)
  check_divisible(batch_size, mesh)
  side = settings.image_size or settings.view_size or _SIDE
  shape = (side, side, settings.channels)
  built = build(
    method,
    settings,
    image_shape=shape,
    classes=tuple(map(str, range(settings.classes))),
    examples=settings.examples,
    statistics=((0.5,) * settings.channels, (0.25,) * settings.channels),
  )
  rows = batch_sharding(mesh)
  batch = {
    "image": jax.ShapeDtypeStruct((batch_size, *shape), jnp.uint8, sharding=rows),
    "label": jax.ShapeDtypeStruct((batch_size,), jnp.int32, sharding=rows),
  }
  like = shape_of_state(built.learner, batch)
  where = state_shardings(like, mesh, settings.sharding)
  update = compile_update(built.learner, mesh, seed=settings.seed, shardings=where)
  place = lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
  return built.learner, mesh, update, jax.tree.map(place, like, where), batch


def _plan(method, settings, devices, chip, mesh_spec, batch_size) -> Plan:
  _, mesh, update, state, batch = _program(method, settings, devices, mesh_spec, batch_size)
  settings.check_all_read()  # before minutes of compiling
  needed = bytes_per_device((state, batch))
  flops = count_flops(update, state, None, batch, 0)
  if needed > chip.memory:  # nothing to compile for
    memory = Memory(needed, 0, 0, 0, 0)
    return Plan(dict(mesh.shape), batch_size, chip, memory, None, flops, {}, 0.0)
  return make_plan(
    update.lower(state, None, batch, 0),
    mesh,
    chip,
    batch_size=batch_size,
    model_flops=flops,
    arguments=(state, batch),
  )


def _sweep(settings, compiles, devices):
  if settings.meshes:
    meshes = settings.meshes.split(";")
  else:
    meshes = [spell(mesh) for mesh in layouts(len(devices), ("data", "fsdp", "model"))]
  plans, left_out = [], {}
  bar = tqdm(meshes, unit="layout", disable=not settings.progress, dynamic_ncols=True)
  for mesh in bar:
    bar.set_postfix_str(mesh)
    try:
      plans.append(compiles(mesh, settings.batch_size))
      tqdm.write(in_a_line(plans[-1]))
    except ValueError as error:  # a batch or an array that does not divide
      if settings.meshes:
        raise
      left_out[mesh] = str(error)
  if left_out:
    mesh, reason = next(iter(left_out.items()))
    print(f"{len(left_out)} layouts do not divide what they split, such as {mesh}: {reason}")
  return rank(plans)


def _largest(settings, compiles, first):
  with tqdm(
    desc="largest batch", unit="compilation", disable=not settings.progress, dynamic_ncols=True
  ) as bar:

    def plan_for(size):
      bar.set_postfix_str(str(size))
      found = compiles(spell(first.mesh), size)
      bar.update()
      return found

    return largest_batch(plan_for, first, multiple=first.shards * settings.accumulate)


def _measure(method, settings, devices, planned):
  """Median seconds of a step, run with random images."""
  size = planned.batch_size
  learner, mesh, update, like, batch = _program(
    method, settings, devices, spell(planned.mesh), size
  )
  rng = np.random.default_rng(settings.seed)
  image = rng.integers(0, 256, batch["image"].shape, dtype=np.uint8)
  images = {"image": image, "label": rng.integers(0, settings.classes, size, dtype=np.int32)}
  where = jax.tree.map(lambda x: x.sharding, like)
  state = init_state(learner, images, seed=settings.seed, mesh=mesh, shardings=where)
  images = place_batch(images, mesh)
  times = []
  bar = tqdm(range(_RUNS + 1), desc="measure", disable=not settings.progress, dynamic_ncols=True)
  for step in bar:
    start = time.perf_counter()
    state, metrics = update(state, None, images, step)
    jax.block_until_ready((state, metrics))
    times.append(time.perf_counter() - start)
  measured = float(np.median(times[1:]))  # the first compiles
  print(
    f"\npredicted {1e3 * planned.seconds:.4g} ms, measured {1e3 * measured:.4g} ms (median of "
    f"{_RUNS}, {1e3 * min(times[1:]):.4g} to {1e3 * max(times[1:]):.4g}): "
    f"{measured / planned.seconds:.2f} times the roofline, "
    f"{planned.share_of_peak * planned.seconds / measured:.1%} of peak"
  )
  return measured


def _experiment(arguments: list[str]) -> Method:
  """The method that ``--experiment`` names; its launcher sets defaults before flags are read."""
  name = "simclr"
  for place, argument in enumerate(arguments):
    flag, _, value = argument.partition("=")
    if flag.lstrip("-") == "experiment":
      name = value or (arguments[place + 1] if place + 1 < len(arguments) else "")
  if name not in METHODS:
    known = ", ".join(sorted(METHODS))
    print(f"error: --experiment={name} is unknown; choose of {known}", file=sys.stderr)
    raise SystemExit(1)
  if launcher := METHODS[name].launcher:
    importlib.import_module(f"experiments.{launcher}")
  return METHODS[name]


if __name__ == "__main__":
  run_app(functools.partial(main, _experiment(sys.argv[1:])))
