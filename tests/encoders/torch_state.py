"""Parameters under PyTorch's names and in its layout, as those of a Flax module."""

import re


def convert(state, renames):
  """Nested parameters of a flat state dictionary.

  Args:
    state: ``{"a.b.weight": array}``; kernels out first, as PyTorch keeps them.
    renames: pairs of a regular expression and what takes its place, all applied in order to the
      name before its last part; slashes in the result are levels of the tree.

  Returns:
    Dictionaries: ``weight`` becomes ``kernel``, in first, or of one axis ``scale``; other last
    parts are kept.
  """
  params = {}
  for name, value in state.items():
    path, _, leaf = name.rpartition(".")
    for pattern, to in renames:
      path = re.sub(pattern, to, path)
    if leaf == "weight":
      leaf = "scale" if value.ndim == 1 else "kernel"
      # [out, in, height, width] or [out, in]
      value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
    tree = params
    for part in filter(None, path.split("/")):
      tree = tree.setdefault(part, {})
    tree[leaf] = value
  return params
