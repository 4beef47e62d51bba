"""Every test sees eight CPU devices, and no silent broadcasting between ranks.

Compiling is what most tests cost. Those of shared parts run every day, those of single things wait
for --thorough; and where a program runs once, it is compiled without optimizations.
"""

import os
import pathlib

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

HERE = pathlib.Path(__file__).parent
#: Of these rooms, the files that are for every day.
EVERYDAY = {
  "codes": ("lengths",),
  "encoders": (
    "convnet", "convolution", "flat", "mlp", "predictor", "resnet", "reweighting",
    "training_memory", "vit",
  ),
  "evaluate": (
    "clusterings", "dimensions", "embed", "protocols", "report", "retrieval", "table",
  ),
  "heads": ("discriminant", "heads_knn", "latent_shift", "logistic", "moments", "neighbors"),
  "learners": ("joint_embedding", "learner", "simclr", "simmim", "supervised", "swav"),
  "measure": ("alignment", "bounds", "compatibility", "procrustes", "spectrum"),
  "pretrained": ("load", "pretrained_vit", "towers"),
  "select": (),
  "trees": ("convert", "state"),
}  # fmt: skip
#: Rooms whose programs run once, save for files in which memory or speed of training counts.
UNOPTIMIZED = {
  "encoders": EVERYDAY["encoders"],
  "evaluate": (),
  "heads": ("nearest_keys",),
  "measure": (),
  "pretrained": (),
  "select": (),
}


def pytest_addoption(parser):
  parser.addoption("--thorough", action="store_true", help="run what takes too long for every day")


def room_and_name(path: pathlib.Path) -> tuple[str, str]:
  """Of a test file: the room that it tests, and what of it."""
  room = path.parent.name if path.parent.parent == HERE else ""
  return room, path.stem.removeprefix("test_")


def pytest_collection_modifyitems(config, items):
  for item in items:
    room, name = room_and_name(item.path)
    if room in EVERYDAY and name not in EVERYDAY[room]:
      item.add_marker(pytest.mark.thorough)
  if config.getoption("--thorough"):
    return
  thorough = [item for item in items if item.get_closest_marker("thorough")]
  items[:] = [item for item in items if not item.get_closest_marker("thorough")]
  config.hook.pytest_deselected(items=thorough)


@pytest.fixture
def unoptimized():
  """Programs that run once are worth no optimization."""
  before = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(autouse=True)
def compiled_for_one_run(request):
  """Leaves optimizations out in rooms that do not need them."""
  room, name = room_and_name(request.path)
  if room in UNOPTIMIZED and name not in UNOPTIMIZED[room]:
    request.getfixturevalue("unoptimized")
