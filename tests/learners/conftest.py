"""Which tests of learners are for every day, and what they may ask for."""

import pathlib

import jax
import pytest

HERE = pathlib.Path(__file__).parent
EVERYDAY = {
  f"test_{name}.py"
  for name in ("joint_embedding", "learner", "simclr", "simmim", "supervised", "swav")
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Compiling is what these tests cost: those of single methods wait for --thorough."""
  for item in items:
    if item.path.parent == HERE and item.path.name not in EVERYDAY:
      item.add_marker(pytest.mark.thorough)


@pytest.fixture
def unoptimized():
  """Programs that run once are worth no optimization."""
  before = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", before)
