"""Files of weights: safetensors, and PyTorch's where PyTorch is installed. Neither runs code."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

PYTORCH = (".bin", ".pt", ".pth", ".tar", ".ckpt")


def read_state(path: str | os.PathLike, *, key: str | None = None) -> dict[str, np.ndarray]:
  """Reads a state dictionary.

  Args:
    path: a ``.safetensors`` file, an index of several (``.safetensors.index.json``), a file of
      PyTorch's (``.bin``, ``.pt``, ``.pth``, ``.tar``, ``.ckpt``), or a folder with
      ``model.safetensors`` or ``pytorch_model.bin``.
    key: which of several dictionaries in a file of PyTorch's, such as ``teacher``; needed if
      there is more than one.

  Returns:
    Tensors by name, as they are stored; bfloat16 as `ml_dtypes` has it.

  Raises:
    FileNotFoundError: if there is no such file.
    ImportError: naming the package that is missing.
    ValueError: if the file is damaged or of another kind, or ``key`` is needed or unknown.
  """
  path = Path(path).expanduser()
  if path.is_dir():
    names = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    found = [path / name for name in names if (path / name).exists()]
    if not found:
      raise FileNotFoundError(f"{path} has none of {', '.join(names)}")
    path = found[0]
  if not path.exists():
    raise FileNotFoundError(f"no file {path}")
  if path.name.endswith(".safetensors.index.json"):
    parts = sorted(set(json.loads(path.read_text())["weight_map"].values()))
    return {k: v for part in parts for k, v in read_state(path.parent / part).items()}
  if path.suffix == ".safetensors":
    return _read_safetensors(path)
  if path.suffix in PYTORCH:
    return _read_pytorch(path, key)
  raise ValueError(f"{path} is neither .safetensors nor {', '.join(PYTORCH)}; rename or save it so")


def write_state(path: str | os.PathLike, state: Mapping[str, np.ndarray]) -> None:
  """Writes a state dictionary as safetensors, which PyTorch's users read too.

  Args:
    path: the file.
    state: tensors by name.

  Raises:
    ImportError: if safetensors is not installed.
  """
  _safetensors().numpy.save_file(dict(state), path)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
  library = _safetensors()
  try:
    return library.numpy.load_file(path)
  except library.SafetensorError as error:
    raise ValueError(f"{path} is not a whole safetensors file ({error}); copy it again") from None


def _safetensors() -> Any:
  try:
    import safetensors.numpy
  except ImportError:
    raise ImportError(
      "weights in safetensors need the package safetensors; pip install 'repjax[pretrained]'"
    ) from None
  return safetensors


def _read_pytorch(path: Path, key: str | None) -> dict[str, np.ndarray]:
  try:
    import torch
  except ImportError:
    raise ImportError(
      f"{path.name} is PyTorch's; pip install torch to read it, or save it as .safetensors"
    ) from None
  try:
    content = torch.load(path, map_location="cpu", weights_only=True)
  except Exception as error:  # the kinds that torch raises for damaged files are many
    reason = str(error).splitlines()[0]
    raise ValueError(
      f"{path} is no file of tensors alone ({reason}); copy it again, or save its state_dict"
    ) from None
  tensors = lambda x: {k: v for k, v in x.items() if isinstance(v, torch.Tensor)}
  if not tensors(content):
    inside = [k for k, v in content.items() if isinstance(v, Mapping) and tensors(v)]
    if key is None and len(inside) == 1:
      key = inside[0]
    if key not in inside:
      raise ValueError(f"{path} holds {', '.join(map(repr, inside))}, not {key!r}; choose by key=")
    content = content[key]
  return {k: _as_numpy(v) for k, v in tensors(content).items()}


def _as_numpy(tensor: Any) -> np.ndarray:
  import torch

  if tensor.dtype == torch.bfloat16:  # NumPy has none of its own
    import ml_dtypes

    return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
  return tensor.numpy()
