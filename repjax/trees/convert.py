"""Parameters of other libraries as ours, and back: rules over the names of tensors."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

Tree = Any


class Form(NamedTuple):
  """How the numbers of one tensor lie in the other library and in ours.

  Attributes:
    read: theirs to ours.
    write: ours to theirs; undoes ``read``.
  """

  read: Callable[[np.ndarray], np.ndarray]
  write: Callable[[np.ndarray], np.ndarray]


#: As it is.
SAME = Form(lambda x: x, lambda x: x)
#: A matrix ``[out, in]`` as ``[in, out]``.
MATRIX = Form(np.transpose, np.transpose)
#: A convolution ``[out, in, height, width]`` as ``[height, width, in, out]``.
CONVOLUTION = Form(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
#: A leading axis of one less.
FIRST = Form(lambda x: x[0], lambda x: x[None])
#: A leading axis of one more.
ROW = Form(lambda x: x[None], lambda x: x[0])


def patches(size: tuple[int, int]) -> Form:
  """A convolution as large as its stride ``[out, in, *size]`` as the matrix of `patchify`."""
  read = lambda x: x.transpose(2, 3, 1, 0).reshape(-1, len(x))
  write = lambda x: x.reshape(*size, -1, x.shape[-1]).transpose(3, 2, 0, 1)
  return Form(read, write)


class Rule(NamedTuple):
  """One tensor of theirs and the parameters that it holds.

  Attributes:
    theirs: its name; absent for parameters that are zero there.
    ours: paths of parameters, joined by ``/``; several share the tensor's first axis equally.
    form: of each, or one for each.
  """

  theirs: str | None
  ours: tuple[str, ...]
  form: Form | tuple[Form, ...] = SAME

  def forms(self) -> tuple[Form, ...]:
    """One for each parameter."""
    return (self.form,) * len(self.ours) if isinstance(self.form, Form) else self.form


def dense_rules(theirs: str, *ours: str, bias: bool = True) -> list[Rule]:
  """A dense layer, or several that were stored as one.

  Args:
    theirs: name of the layer, ``weight`` and ``bias`` below it; or a prefix of theirs that ends
      with an underscore.
    *ours: paths of the layers, ``kernel`` and ``bias`` below them.
    bias: whether to take a bias.

  Returns:
    Its rules.
  """
  dot = "" if theirs.endswith("_") else "."
  rules = [Rule(f"{theirs}{dot}weight", tuple(f"{x}/kernel" for x in ours), MATRIX)]
  bias_rule = Rule(f"{theirs}{dot}bias", tuple(f"{x}/bias" for x in ours))
  return [*rules, bias_rule] if bias else rules


def joined_rules(theirs: Sequence[str], ours: Sequence[str], *, bias: bool = True) -> list[Rule]:
  """Dense layers, some of which were stored as one.

  Args:
    theirs: names of layers; each holds one of ours, the last all that are left.
    ours: paths of the layers, in their order there.
    bias: whether to take biases.

  Returns:
    Their rules.
  """
  *single, last = theirs
  shares = [[path] for path in ours[: len(single)]] + [ours[len(single) :]]
  pairs = zip((*single, last), shares, strict=True)
  return [rule for name, share in pairs for rule in dense_rules(name, *share, bias=bias)]


def norm_rules(theirs: str, ours: str) -> list[Rule]:
  """A layer norm: ``weight`` and ``bias`` as ``scale`` and ``bias``."""
  return [Rule(f"{theirs}.weight", (f"{ours}/scale",)), Rule(f"{theirs}.bias", (f"{ours}/bias",))]


def find_names(
  rules: Iterable[Rule], names: Collection[str], prefixes: Sequence[str]
) -> list[Rule]:
  """Rules for a file in which other parts may stand around the model.

  Args:
    rules: with the model's own names.
    names: the file's.
    prefixes: what may stand before a name there.

  Returns:
    The rules, each with the first prefix that makes its name one of the file's; as it is if none
    does.
  """
  found = []
  for rule in rules:
    candidates = [] if rule.theirs is None else [p + rule.theirs for p in ("", *prefixes)]
    there = [name for name in candidates if name in names]
    found.append(rule._replace(theirs=there[0]) if there else rule)
  return found


def convert(
  state: Mapping[str, np.ndarray],
  rules: Iterable[Rule],
  like: Tree,
  *,
  unused: Sequence[str] = (),
  name: str = "weights",
) -> Tree:
  """Brings a state dictionary into the shape of a module's variables.

  Args:
    state: tensors by name.
    rules: where each belongs.
    like: the module's variables or their shapes, such as `jax.eval_shape` of ``init`` gives.
    unused: patterns of names (`re.fullmatch`) that may be there and are not asked for.
    name: of the weights, for messages.

  Returns:
    A tree like ``like``, of NumPy arrays in its dtypes.

  Raises:
    ValueError: naming what is missing, surplus, of another shape or not finite.
  """
  rules = list(rules)
  wanted = _flat(like)
  known = {rule.theirs for rule in rules}
  missing = sorted(x for x in known - state.keys() if x is not None)
  surplus = sorted(
    x for x in state.keys() - known if not any(re.fullmatch(pattern, x) for pattern in unused)
  )
  problems = _listed("missing", missing) + _listed("surplus", surplus)
  if problems:
    raise ValueError(
      f"{name} does not fit: {'; '.join(problems)}; check that it is of this model and not of "
      f"another size or family"
    )
  found, misfits, endless = {}, [], []
  for rule in rules:
    if rule.theirs is None:
      found |= {path: np.zeros(wanted[path].shape, wanted[path].dtype) for path in rule.ours}
      continue
    value = np.asarray(state[rule.theirs])
    if len(rule.ours) > 1 and len(value) % len(rule.ours):
      misfits.append(f"{rule.theirs} {value.shape} is not {len(rule.ours)} of one size")
      continue
    parts = np.split(value, len(rule.ours)) if len(rule.ours) > 1 else [value]
    for path, form, part in zip(rule.ours, rule.forms(), parts, strict=True):
      if path not in wanted:
        raise KeyError(f"a rule for {rule.theirs} gives {path}, which the module does not have")
      try:
        ours = form.read(part)
      except ValueError:  # of another rank
        misfits.append(f"{rule.theirs} has shape {value.shape}")
        continue
      if ours.shape != wanted[path].shape:
        misfits.append(f"{rule.theirs} {value.shape} gives {ours.shape}, not {wanted[path].shape}")
      found[path] = ours.astype(wanted[path].dtype)
      if not np.all(np.isfinite(found[path])):
        endless.append(rule.theirs)
  if misfits:
    raise ValueError(
      f"{name} does not fit: {'; '.join(_listed('other shapes', misfits))}; check width, patch "
      "and image size"
    )
  if endless:
    raise ValueError(
      f"{name} holds numbers that are not finite: {'; '.join(_listed('tensors', endless))}; "
      "save it in float32 or bfloat16 rather than float16, or download it again"
    )
  if left := sorted(wanted.keys() - found.keys()):
    raise KeyError(f"no rule gives {', '.join(left)}")
  ours = traverse_util.unflatten_dict(found, sep="/")
  return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(ours))


def revert(variables: Tree, rules: Iterable[Rule]) -> dict[str, np.ndarray]:
  """Brings a module's variables back into a state dictionary; undoes `convert`.

  Args:
    variables: the module's.
    rules: those that it was converted by.

  Returns:
    Tensors by name.
  """
  ours = _flat(variables)
  state = {}
  for rule in rules:
    if rule.theirs is not None:
      pairs = zip(rule.ours, rule.forms(), strict=True)
      parts = [form.write(np.asarray(ours[path])) for path, form in pairs]
      state[rule.theirs] = np.ascontiguousarray(np.concatenate(parts) if parts[1:] else parts[0])
  return state


def _flat(tree: Tree) -> dict[str, Any]:
  return traverse_util.flatten_dict(dict(tree), sep="/")


def _listed(kind: str, names: Sequence[str], most: int = 12) -> list[str]:
  """``missing a, b (2)``, or nothing."""
  if not names:
    return []
  rest = f", and {len(names) - most} more" if len(names) > most else ""
  return [f"{kind} {', '.join(names[:most])}{rest}"]
