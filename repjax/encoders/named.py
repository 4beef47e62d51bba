"""Encoders by name: the row of a table that a name stands for."""

from collections.abc import Mapping
from typing import Any


def size_by_name(name: str, sizes: Mapping[str, Any], kind: str) -> dict[str, Any]:
  """Fields of a named size.

  Args:
    name: a key of ``sizes``.
    sizes: named tuples by name.
    kind: what a name of the table is, for the message, such as ``a ResNet``.

  Returns:
    The fields by name.

  Raises:
    ValueError: if there is none of this name; all are listed.
  """
  if name not in sizes:
    raise ValueError(f"{name!r} is not {kind}; choose one of {', '.join(sizes)}")
  return sizes[name]._asdict()
