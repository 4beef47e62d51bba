"""Which tests of encoders are for every day, and how the rest are compiled."""

import pathlib

import jax
import pytest

HERE = pathlib.Path(__file__).parent
EVERYDAY = {
  f"test_{name}.py"
  for name in (
    "convnet", "depthwise", "flat", "mlp", "predictor", "resnet", "reweighting",
    "training_memory", "vit",
  )
}  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Compiling is what these tests cost: those of single backbones wait for --thorough."""
  for item in items:
    if item.path.parent == HERE and item.path.name not in EVERYDAY:
      item.add_marker(pytest.mark.thorough)


@pytest.fixture(autouse=True)
def unoptimized(request):
  """Programs that run once are worth no optimization."""
  before = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", request.path.name not in EVERYDAY)
  yield
  jax.config.update("jax_disable_most_optimizations", before)
