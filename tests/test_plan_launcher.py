"""The plan's launcher: end to end for simulated CPUs, and for TPUs where their compiler is there.

The TPU tests are skipped without it: pip install -e '.[plan]'.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from experiments import plan
from experiments.setup import Method
from repjax.learners import supervised
from repjax.train import launch
from repjax.train.launch import Settings
from repjax.train.topology import environment, parse

ROOT = Path(__file__).resolve().parent.parent
QUICK = "jax_disable_most_optimizations"
SMALL = {
  "encoder": "vit_nano4", "stem": "patch", "scan": True, "batch_size": 32, "view_size": 8,
  "channels": 1, "classes": 10, "steps": 100, "progress": False, "largest_batch": False,
  "compile_cache": "",
}  # fmt: skip
# No augmentation, so that it compiles in a moment.
TINY = Method(
  "tiny",
  lambda settings, setup: supervised(
    setup.encoder, 10, lambda key, image: image, normalize=setup.normalize
  ),
)
needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="libtpu is missing; pip install -e '.[plan]'"
)


def settings(**given):
  return Settings(launch.flag_defaults() | SMALL | given, SMALL | given)


@pytest.fixture(autouse=True)
def quick_to_compile(monkeypatch):
  monkeypatch.setenv(QUICK.upper(), "1")
  monkeypatch.chdir(ROOT)
  jax.config.update(QUICK, True)
  yield
  jax.config.update(QUICK, False)


def test_simulated_devices_are_planned_from_start_to_json():
  record = plan.plan(**SMALL, experiment="supervised", topology="cpu:4", mesh="data:2,model:2")
  (made,) = record["plans"]
  assert made["mesh"] == {"data": 2, "model": 2} and made["devices"] == 4
  assert made["fits"] and made["memory"]["peak"] < made["chip"]["memory"]
  # Nothing is done twice but what the model axis does not split, nothing is left out.
  share = made["products_per_device"] * 4 / made["model_flops"]
  assert 0.95 < share < 2
  axes = {(row["kind"], *row["axes"]) for row in made["collectives"]}
  assert ("all-reduce", "data") in axes  # gradients
  assert ("all-reduce", "model") in axes  # blocks split over it
  assert {row["medium"] for row in made["collectives"]} == {"host memory"}
  legs = made["legs"]
  assert made["seconds"] == max(legs.values()) == legs[made["binds"]]
  assert legs["memory"] == made["traffic_per_device"] / made["chip"]["bandwidth"]
  assert record["measured_seconds"] is None and record["largest_batch"] is None


@pytest.mark.thorough
def test_the_devices_here_are_planned_and_measured(tmp_path, capsys):
  path = tmp_path / "plan.json"
  plan.main(TINY, settings(mesh="data:8", json=str(path)))
  out = capsys.readouterr().out
  assert "fits" in out and "binds" in out and "times the roofline" in out
  record = json.loads(path.read_text())
  assert record["measured_seconds"] > 0
  assert record["plans"][0]["mesh"] == {"data": 8}


@pytest.mark.thorough
def test_layouts_are_ranked_by_their_time(capsys):
  given = {"sweep": True, "measure": False, "meshes": "data:8;data:2,fsdp:4;data:4,model:2"}
  plan.main(TINY, settings(**given))
  lines = capsys.readouterr().out.splitlines()
  head = next(i for i, line in enumerate(lines) if line.startswith("mesh "))
  rows = [line.split() for line in lines[head + 1 : head + 4]]
  assert {row[0] for row in rows} == set(given["meshes"].split(";"))
  assert [row[2] for row in rows] == ["fits"] * 3
  times = [float(row[3]) for row in rows]
  assert times == sorted(times)


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"topology": "v5x:4x4"}, r"--topology=v5x:4x4 names no machine .* write v5e:16x16"),
    ({"topology": "v5e"}, r"--topology=v5e names no machine"),
    ({"topology": "v5e:4x4x4"}, r"--topology=v5e:4x4x4 has 3 sides, .* have 2; write v5e:AxB"),
    ({"topology": "cpu:2x4"}, r"--topology=cpu:2x4 is no number of simulated devices"),
    ({"mesh": "data:3"}, r"--mesh=data:3 needs 3 devices, 8 are here; choose sizes"),
    ({"batch_size": 30}, r"--batch_size=30 is not divisible by the 8 shards .* use 24 or 32"),
    ({"sharding": "tp"}, r"--sharding=tp splits over axis model, .*; write --mesh=model:-1"),
    ({"accumulate": 3}, r"--accumulate=3 does not divide --batch_size=32; choose a divisor"),
    ({"parallel": "pmap"}, r"--parallel=pmap cannot be planned; leave it out for pjit"),
    ({"meshes": "data:8"}, r"--meshes=data:8 is for --sweep; give that too, or --mesh"),
    ({"data": "digits"}, r"--data=digits has no effect with the other flags given; leave it out"),
  ],
)
def test_flags_that_make_no_plan_say_the_way_out(given, message):
  with pytest.raises(ValueError, match=message) as error:
    plan.main(TINY, settings(**given))
  assert "\n" not in str(error.value)


def test_an_unknown_experiment_is_refused_before_its_flags_are_read():
  done = subprocess.run(
    [sys.executable, "-m", "experiments.plan", "--experiment=simclear"],
    capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == 1
  assert "--experiment=simclear is unknown; choose of" in done.stderr and "simmim" in done.stderr


def test_without_the_tpu_compiler_one_line_says_what_to_install(monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, "find_spec", lambda name: None if name == "libtpu" else find(name)
  )
  with pytest.raises(ImportError, match=r"pip install 'repjax\[plan\]'"):
    environment("v5e:16x16")


def test_a_machine_that_is_not_here_cannot_be_measured(monkeypatch):
  monkeypatch.setenv(plan._INSIDE, "v5e:2x2")
  with pytest.raises(ValueError, match="--measure needs the machine, --topology=v5e:2x2 is not"):
    plan.main(TINY, settings(topology="v5e:2x2", measure=True))


@pytest.mark.parametrize(
  ("topology", "parts"),
  [
    ("v5e:16x16", ("v5e", (16, 16), 1)),
    ("v4:8x8x16", ("v4", (8, 8, 16), 1)),
    ("v5e:16x16*2", ("v5e", (16, 16), 2)),
    ("cpu:8", ("cpu", (8,), 1)),
  ],
)
def test_topologies_are_read(topology, parts):
  assert parse(topology) == parts


@needs_libtpu
def test_a_slice_of_tpus_is_planned():
  record = plan.plan(**SMALL, experiment="supervised", topology="v5e:2x2", mesh="data:2,model:2")
  (made,) = record["plans"]
  assert made["chip"]["name"] == "TPU v5e" and made["fits"]
  assert 0.95 < made["products_per_device"] * 4 / made["model_flops"] < 2
  assert {row["medium"] for row in made["collectives"]} == {"ICI"}
  assert {axis for row in made["collectives"] for axis in row["axes"]} == {"data", "model"}


KNOWN = """
import sys, jax, jax.numpy as jnp
from jax import P, lax
from repjax.train import make_mesh
from repjax.train.program import read_program
from repjax.train.topology import machine

devices, chip = machine(sys.argv[1])
mesh = make_mesh("data:-1,model:2", devices=devices)
both, shards = ("data", "model"), mesh.shape["data"]

def f(x):
  def turn(x, _):
    x = lax.psum(x, "data") * 0.5
    return x + lax.all_gather(x, "model").sum(), None
  x, _ = lax.scan(turn, x, None, length=5)
  x = lax.ppermute(x, "data", [(i, (i + 1) % shards) for i in range(shards)])
  x = lax.psum_scatter(jnp.tile(x, (mesh.size, 1)), both, tiled=True)
  return lax.all_to_all(x, "model", 1, 0, tiled=True)

f = jax.jit(jax.shard_map(f, mesh=mesh, in_specs=P(both), out_specs=P(both), check_vma=False))
sharding = jax.sharding.NamedSharding(mesh, P(both))
x = jax.ShapeDtypeStruct((mesh.size * 1024, 256), jnp.float32, sharding=sharding)
for row in read_program(f.lower(x).compile(), mesh, chip).collectives:
  print(row.kind, "+".join(row.axes), row.medium, row.count, row.nbytes / (4 * 1024 * 256))
"""


@needs_libtpu
def test_collectives_written_by_hand_are_found_in_a_tpu_program():
  done = subprocess.run(
    [sys.executable, "-c", KNOWN, "v5e:2x4"], env=os.environ | environment("v5e:2x4"),
    capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-2000:]
  found = {tuple(line.split()) for line in done.stdout.splitlines()}
  assert found == {
    ("all-reduce", "data", "ICI", "5.0", str(5 * 2 * 3 / 4)),
    ("all-gather", "model", "ICI", "5.0", str(5 * 1.0)),
    ("collective-permute", "data", "ICI", "1.0", "1.0"),
    ("reduce-scatter", "data+model", "ICI", "1.0", str(8 * 7 / 8)),
    ("all-to-all", "model", "ICI", "1.0", "0.5"),
  }
