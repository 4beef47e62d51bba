"""What tests of learners may ask for."""

import jax
import pytest


@pytest.fixture
def unoptimized():
  """Programs that run once are worth no optimization."""
  before = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", before)
