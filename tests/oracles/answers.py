"""Writes what other libraries answer, value and gradient in float64, to compare with in tests."""

import importlib.metadata
import json
import pathlib
from collections.abc import Callable

import numpy as np
import torch


class Answers:
  """Collects answers and writes them beside this file.

  Args:
    name: of the ``.npz`` file.
    *packages: whose versions it records.
  """

  def __init__(self, name: str, *packages: str):
    self.path = pathlib.Path(__file__).with_name(f"{name}.npz")
    versions = {p: importlib.metadata.version(p) for p in ("torch", "numpy", *packages)}
    self.out = {"versions": json.dumps(versions)}

  def add(self, case: str, function: Callable, **arrays: np.ndarray) -> None:
    """Records a function's value and its gradients in every floating array.

    Args:
      case: name of the answer; slashes are for the fields below it.
      function: of tensors by the arrays' names, to a scalar.
      **arrays: its inputs; floating ones as float64.
    """
    tensors = {}
    for name, array in arrays.items():
      array = np.asarray(array)
      floating = np.issubdtype(array.dtype, np.floating)
      tensor = torch.from_numpy(array.astype(np.float64 if floating else array.dtype))
      tensors[name] = tensor.requires_grad_(floating)
    value = function(**tensors)
    value.backward()
    self.out[f"{case}/value"] = value.detach().numpy().reshape(())
    for name, tensor in tensors.items():
      self.out[f"{case}/input/{name}"] = tensor.detach().numpy()
      if tensor.grad is not None:
        self.out[f"{case}/gradient/{name}"] = tensor.grad.numpy()

  def write(self) -> None:
    np.savez_compressed(self.path, **self.out)
    print(f"{self.path.name}: {sum(k.endswith('/value') for k in self.out)} answers")
