"""How a state lies on a mesh: first-match rules over the paths of its arrays."""

import math
import re
from typing import Any, NamedTuple

import jax
from absl import logging
from jax.sharding import Mesh, NamedSharding

from repjax.train.mesh import FSDP, MODEL

Tree = Any

#: Rules by the names that ``--sharding`` takes. ``tp`` splits each pair of dense layers by columns,
#: then by rows, so that a block adds up twice in the forward pass: Shoeybi et al., 2019
#: (https://arxiv.org/abs/1909.08053), section 3. Vocabularies are split by words.
RULES = {
  "replicated": ".*=whole",
  "fsdp": ".*=fsdp",
  "tp": (
    "(query|key|value|up)/kernel=fsdp,model; (query|key|value|up)/bias=model; "
    "(attention/out|down)/kernel=model,fsdp; embedding=model,fsdp; .*=fsdp"
  ),
}

#: Smaller arrays stay whole under a rule ``fsdp``: biases and norms, whose exchange would cost more
#: than they take.
SMALL = 2**14


class Rule(NamedTuple):
  """One line of a set of rules.

  Attributes:
    pattern: regular expression for the last parts of a path, such as ``(query|key)/kernel``.
    axes: mesh axis of each trailing dimension, or nothing where it stays whole; ``fsdp`` instead
      of a tuple for the largest dimension that the axis divides, ``whole`` for none.
  """

  pattern: str
  axes: tuple[str | None, ...] | str


def read_rules(text: str) -> tuple[Rule, ...]:
  """Reads rules as ``--sharding`` gives them.

  Args:
    text: a key of `RULES`, or ``PATTERN=AXES`` separated by semicolons. AXES is one mesh axis a
      trailing dimension, separated by commas, ``-`` where it stays whole (leading dimensions, such
      as that of stacked blocks, stay whole too); a lone ``fsdp`` for the largest dimension that
      the axis divides; or ``whole``.

  Returns:
    The rules, in order.

  Raises:
    ValueError: if the text cannot be read.
  """
  rules = []
  for part in RULES.get(text, text).split(";"):
    pattern, found, axes = part.strip().rpartition("=")
    try:
      re.compile(pattern)
    except re.error as error:
      raise ValueError(f"--sharding: {pattern!r} is no regular expression ({error})") from None
    named = axes.strip().split(",")
    if not pattern or not found or not all(re.fullmatch(r"-|\w+", name) for name in named):
      raise ValueError(
        f"--sharding={text} is neither {', '.join(RULES)} nor a list of rules; "
        f"write PATTERN=AXES, such as '(up|query)/kernel=-,model; .*=whole'"
      )
    alone = named[0] if len(named) == 1 and named[0] in (FSDP, "whole") else None
    rules.append(Rule(pattern, alone or tuple(None if name == "-" else name for name in named)))
  return tuple(rules)


def default_rules(mesh: Mesh) -> str:
  """What ``--sharding`` is where it is not given: what the axes of the mesh are for.

  Args:
    mesh: from `repjax.train.mesh.make_mesh`.

  Returns:
    A key of `RULES`.
  """
  return next(
    (name for axis, name in ((MODEL, "tp"), (FSDP, "fsdp")) if axis in mesh.shape), "replicated"
  )


def state_shardings(
  state: Tree, mesh: Mesh, rules: str | None = None, *, strict: bool = True
) -> Tree:
  """Lays every array of a state out over a mesh.

  Optimizer moments, teachers and everything else whose path ends like a parameter's lie as it does.

  Args:
    state: arrays or their `jax.eval_shape`.
    mesh: from `repjax.train.mesh.make_mesh`.
    rules: as `read_rules` takes them; the mesh's `default_rules` if absent. The first that matches
      an array's path counts.
    strict: whether an array that no rule matches is an error; it stays whole otherwise.

  Returns:
    A tree of shardings like ``state``.

  Raises:
    ValueError: if no rule matches an array, an axis that a rule names does not divide it, or rules
      name an axis that the mesh has not.
  """
  text = default_rules(mesh) if rules is None else rules
  table = read_rules(text)
  known = text in RULES
  if not known:
    named = {axis for rule in table for axis in _named(rule)}
    if missing := sorted(named - mesh.shape.keys()):
      raise ValueError(
        f"--sharding names axis {missing[0]!r}, --mesh has {', '.join(mesh.shape)}; "
        f"add {missing[0]}:SIZE to --mesh"
      )
  elif text != default_rules(mesh) and text != "replicated":
    axis = {"fsdp": FSDP, "tp": MODEL}[text]
    if axis not in mesh.shape:
      raise ValueError(
        f"--sharding={text} splits over axis {axis}, --mesh has {', '.join(mesh.shape)}; "
        f"write --mesh={axis}:-1"
      )
  kept = []

  def lay(path, x):
    name = _path(path)
    spec = _spec(name, x.shape, table, mesh, strict=strict, partial=known)
    if FSDP in mesh.shape and mesh.shape[FSDP] > 1 and not any(spec) and x.size >= SMALL:
      kept.append((math.prod(x.shape), name, x.shape))
    return NamedSharding(mesh, jax.P(*spec))

  shardings = jax.tree_util.tree_map_with_path(lay, state)
  if kept and text != "replicated":
    total = sum(x.size for x in jax.tree.leaves(state))
    share = sum(size for size, *_ in kept) / total
    if share > 0.01:
      _, name, shape = max(kept)
      logging.warning(
        "%.0f%% of the state stays whole on every device: the %d shards of axis fsdp divide no "
        "dimension of arrays such as %s %s; a smaller fsdp axis splits more",
        *(100 * share, mesh.shape[FSDP], name, shape),
      )
  return shardings


def _named(rule):
  if isinstance(rule.axes, str):
    return {FSDP} if rule.axes == FSDP else set()
  return {axis for axis in rule.axes if axis}


def _path(path) -> str:
  return jax.tree_util.keystr(path, simple=True, separator="/")


def _spec(name, shape, table, mesh, *, strict, partial):
  """Mesh axis of each dimension of one array."""
  rule = next((rule for rule in table if re.search(f"(^|/)({rule.pattern})$", name)), None)
  # Random keys and counters have nothing to split.
  if rule is None and strict and shape:
    raise ValueError(
      f"--sharding has no rule for {name} {shape}; add one, or '.*=whole' at the end"
    )
  spec = [None] * len(shape)
  if rule is None or rule.axes == "whole":
    return spec
  if rule.axes == FSDP:
    shards = mesh.shape.get(FSDP, 1)
    fitting = [i for i, size in enumerate(shape) if size % shards == 0]
    if shards > 1 and fitting and math.prod(shape) >= SMALL:
      spec[max(fitting, key=lambda i: shape[i])] = FSDP
    return spec
  if len(rule.axes) > len(shape):
    raise ValueError(
      f"--sharding gives {name} {shape} {len(rule.axes)} axes by the rule {rule.pattern!r}; "
      f"name at most {len(shape)}"
    )
  for i, axis in enumerate(rule.axes, len(shape) - len(rule.axes)):
    if axis is None or (partial and axis not in mesh.shape):
      continue
    if shape[i] % mesh.shape[axis]:
      raise ValueError(
        f"--mesh axis {axis}:{mesh.shape[axis]} does not divide dimension {i} of {name} {shape}; "
        f"choose a size that divides {shape[i]}, or other rules for it in --sharding"
      )
    spec[i] = axis
  return spec
