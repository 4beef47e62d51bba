"""Weights of PyTorch models in our layout, by a list of renames."""

import json
import pathlib
import re
import runpy

import numpy as np

ORACLES = pathlib.Path(__file__).parents[1] / "oracles"
weights = runpy.run_path(str(ORACLES / "encoders.py"))["weights"]


def drawn(shapes: str, weights=weights) -> dict[str, np.ndarray]:
  """The weights that a script in tests/oracles drew, from the shapes that it left."""
  return {name: weights(name, tuple(shape)) for name, shape in json.loads(shapes).items()}


def convert(state: dict[str, np.ndarray], renames: list[tuple[str, str]]) -> dict[str, dict]:
  """Turns a PyTorch state into Flax variables.

  Linear and convolution weights are transposed, scales and running statistics get Flax's names,
  and a parameter of its own, in no layer, loses a leading axis of length 1.

  Args:
    state: arrays by dotted name.
    renames: ``(pattern, ours)`` for `re.sub`, in order, on dotted names. Where ours has a part
      such as ``query|key|value``, the array is cut along its first axis in as many.

  Returns:
    ``{"params": ..., "batch_stats": ...}``, the latter if there are running statistics.
  """
  variables = {"params": {}}
  leaves = {"running_mean": "mean", "running_var": "var", "bias": "bias"}
  for name, value in state.items():
    for pattern, ours in renames:
      name = re.sub(pattern, ours, name)
    *path, leaf = name.split(".")
    if leaf == "weight":
      leaf = "scale" if value.ndim == 1 else "kernel"
    elif leaf not in leaves and np.shape(value)[:1] == (1,):
      value = value[0]
    tree = "batch_stats" if leaf.startswith("running") else "params"
    parts = path[-1].split("|") if path else [None]
    arrays = np.split(value, len(parts)) if parts[1:] else [value]
    for part, array in zip(parts, arrays, strict=True):
      node = variables.setdefault(tree, {})
      for step in [*path[:-1], part] if path else []:
        node = node.setdefault(step, {})
      if leaf == "kernel":
        array = array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
      node[leaves.get(leaf, leaf)] = array
  return variables


def flat_patch(layer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """A convolution whose kernel is its stride, as the dense layer that `patchify` needs."""
  return layer | {"kernel": layer["kernel"].reshape(-1, layer["kernel"].shape[-1])}
