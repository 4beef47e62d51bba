"""Every test sees eight CPU devices, and no silent broadcasting between ranks."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_addoption(parser):
  parser.addoption("--thorough", action="store_true", help="run what takes too long for every day")


def pytest_collection_modifyitems(config, items):
  if config.getoption("--thorough"):
    return
  thorough = [item for item in items if item.get_closest_marker("thorough")]
  items[:] = [item for item in items if not item.get_closest_marker("thorough")]
  config.hook.pytest_deselected(items=thorough)
