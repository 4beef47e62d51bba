"""Weights for tests, drawn in NumPy: to compile a module's own initialisation takes seconds."""

import jax
import numpy as np


def of_module(module, *args, **kwargs):
  """Variables of a module, kernels at the scale of their fan-in, none at a special value."""
  rng = np.random.default_rng(0)

  def draw(path, x):
    name, noise = path[-1].key, rng.normal(size=x.shape)
    if x.ndim > 1:
      return (noise * np.prod(x.shape[:-1]) ** -0.5).astype(x.dtype)
    return ((name in ("scale", "var", "layer_scale")) + 0.1 * np.abs(noise)).astype(x.dtype)

  return jax.tree_util.tree_map_with_path(draw, shapes(module, *args, **kwargs))


def shapes(module, *args, **kwargs):
  """Variables of a module by their shapes."""
  return jax.eval_shape(module.init, jax.random.key(0), *args, **kwargs)
