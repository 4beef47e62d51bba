"""Every test sees eight CPU devices, and no silent broadcasting between ranks."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
  # Compiling is what tests cost, and emitting fusions by MLIR nearly half of that. With --thorough
  # programs are those of users. From 0.11 on JAX does not know the flag and would not start.
  if not config.getoption("--thorough") and jax.__version_info__ < (0, 11):
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_use_fusion_emitters=false".strip()


def pytest_addoption(parser):
  parser.addoption("--thorough", action="store_true", help="run what takes too long for every day")


def pytest_collection_modifyitems(config, items):
  if config.getoption("--thorough"):
    return
  thorough = [item for item in items if item.get_closest_marker("thorough")]
  items[:] = [item for item in items if not item.get_closest_marker("thorough")]
  config.hook.pytest_deselected(items=thorough)
