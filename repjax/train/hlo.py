"""Reads the text of a compiled program: computations, instructions, shapes, lengths of loops.

The text is XLA's (`jax.stages.Compiled.as_text`); the forms met are those of jax 0.10 for CPUs and
H200s and of libtpu 0.0.42. What a compiled program costs is `repjax.train.program`'s.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple


class Array(NamedTuple):
  """One array of a shape.

  Attributes:
    dims: its sizes.
    nbytes: its bytes, without the padding of tiles.
    space: memory that it lives in: 0 is the device's main memory, on a TPU 1 is on the chip.
  """

  dims: tuple[int, ...]
  nbytes: int
  space: int


class Instruction(NamedTuple):
  """One line of a computation.

  Attributes:
    name: unique in the module.
    opcode: such as ``fusion``.
    shape: arrays of the result, a tuple's one after the other.
    operands: names.
    argument: text between the parentheses: of a constant its value, of a parameter its number.
    attributes: text after them.
  """

  name: str
  opcode: str
  shape: tuple[Array, ...]
  operands: tuple[str, ...]
  argument: str
  attributes: str

  @property
  def nbytes(self) -> int:
    """Bytes of the result."""
    return sum(array.nbytes for array in self.shape)


class Computation(NamedTuple):
  """A function of the module.

  Attributes:
    instructions: by name, in order.
    root: name of the one whose result is the computation's.
  """

  instructions: dict[str, Instruction]
  root: str

  def parameter(self, number: int) -> Instruction | None:
    """The instruction that stands for an argument, if there is one."""
    for instruction in self.instructions.values():
      if instruction.opcode == "parameter" and int(instruction.argument) == number:
        return instruction
    return None

  def users(self, name: str) -> Iterator[Instruction]:
    """The instructions that take another's result."""
    return (x for x in self.instructions.values() if name in x.operands)


class Module(NamedTuple):
  """A compiled program.

  Attributes:
    computations: by name.
    entry: name of the one that is called.
  """

  computations: dict[str, Computation]
  entry: str


_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,<=]*)\](?:\{([^{}]*)\})?")
_LINE = re.compile(r"^\s+(ROOT )?%?([^\s=]+) = ")
_HEAD = re.compile(r"^(ENTRY )?%?([^\s(]+) \(.*\{$")
_OPCODE = re.compile(r" ?([a-z][a-z0-9-]*)\(")
_NAME = re.compile(r"%([^\s,()]+)")
_PASSES_ON = ("copy", "bitcast", "convert", "reshape")


def parse(text: str) -> Module:
  """Reads a module.

  Args:
    text: from ``compiled.as_text()``.

  Returns:
    The module.

  Raises:
    ValueError: if it has no entry.
  """
  computations, entry, name, body, root = {}, None, None, {}, ""
  for line in text.splitlines():
    if name is None:
      if head := _HEAD.match(line):
        name, body, root = head[2], {}, ""
        entry = name if head[1] else entry
    elif line.startswith("}"):
      computations[name], name = Computation(body, root), None
    elif start := _LINE.match(line):
      instruction = _instruction(start[2], line[start.end() :])
      body[instruction.name] = instruction
      root = instruction.name if start[1] else root
  if entry is None:
    raise ValueError(f"expected the text of a compiled module, got {text[:80]!r}")
  return Module(computations, entry)


def _instruction(name, text):
  shape = _shape_end(text)
  opcode = _OPCODE.match(text, shape)
  end = _closing(text, opcode.end() - 1)
  argument = text[opcode.end() : end]
  operands = () if opcode[1] in ("constant", "parameter") else tuple(_NAME.findall(argument))
  return Instruction(name, opcode[1], arrays(text[:shape]), operands, argument, text[end + 1 :])


def _shape_end(text):
  """Where the shape at the start of a text ends: layouts and tuples hold parentheses too."""
  if text.startswith("("):
    return _closing(text, 0) + 1
  depth = 0
  for index, letter in enumerate(text):
    depth += (letter in "{[(") - (letter in "}])")
    if letter == " " and not depth:
      return index
  raise ValueError(f"expected a shape, got {text[:80]!r}")


def _closing(text, opening):
  depth = 0
  for match in re.compile(r'[()]|"(?:[^"\\]|\\.)*"').finditer(text, opening):
    depth += {"(": 1, ")": -1}.get(match[0], 0)
    if not depth:
      return match.start()
  raise ValueError(f"expected balanced parentheses, got {text[:80]!r}")


def arrays(text: str) -> tuple[Array, ...]:
  """Reads a shape.

  Args:
    text: such as ``(f32[8,128]{1,0:T(8,128)S(1)}, s32[])``.

  Returns:
    Its arrays.
  """
  found = []
  for kind, dims, layout in _ARRAY.findall(text):
    dims = tuple(int(size.strip("<=")) for size in dims.split(",") if size)
    bits = 8 if kind == "pred" else int((re.search(r"\d+", kind) or "0")[0])  # tokens have none
    space = re.search(r"S\((\d+)\)", layout)
    found.append(Array(dims, -(-bits * math.prod(dims) // 8), int(space[1]) if space else 0))
  return tuple(found)


def called(instruction: Instruction, *attributes: str) -> list[str]:
  """Names of the computations that an instruction calls.

  Args:
    instruction: any.
    *attributes: under which they stand, such as ``calls`` or ``body``.

  Returns:
    The names, in order.
  """
  names = []
  for attribute in attributes:
    found = re.search(rf"\b{attribute}=(\{{[^}}]*\}}|%[^\s,]+)", instruction.attributes)
    names += _NAME.findall(found[1].replace("}", " ")) if found else []
  return names


def trip_count(module: Module, computation: Computation, loop: Instruction) -> int | None:
  """How often the body of a ``while`` runs.

  CPU and GPU compilers write the number down. TPU's does not, so it is worked out: the condition
  compares a counter with a bound, the body adds a constant to the counter.

  Args:
    module: the program.
    computation: the one that the loop is in.
    loop: the instruction.

  Returns:
    The number; none if the program does not say.
  """
  if known := re.search(r'known_trip_count\W+"n":"(\d+)"', loop.attributes):
    return int(known[1])
  condition, body = (
    module.computations[called(loop, name)[0]] for name in ("condition", "body")
  )  # fmt: skip
  scope, test = _look(module, (condition, None), condition.root)
  if test.opcode != "compare":
    return None
  sides = [_look(module, scope, name)[1] for name in test.operands]
  direction = re.search(r"direction=(\w+)", test.attributes)[1]
  if sides[0].opcode == "constant":
    sides.reverse()
    direction = {"LT": "GT", "GT": "LT", "LE": "GE", "GE": "LE"}.get(direction, direction)
  counter, bound = sides
  if counter.opcode != "get-tuple-element":
    return None
  index = _index(counter)
  stop = _integer(bound)
  if stop is None and bound.opcode == "get-tuple-element":
    # A bound that the loop hands on unchanged.
    kept = _look(module, (body, None), _element(body, _index(bound)))[1]
    if kept.opcode == "get-tuple-element" and _index(kept) == _index(bound):
      stop = _initial(module, computation, loop, _index(bound))
  start = _initial(module, computation, loop, index)
  scope, update = _look(module, (body, None), _element(body, index))
  if update.opcode not in ("add", "subtract"):
    return None
  steps = [_integer(_look(module, scope, name)[1]) for name in update.operands]
  steps = [step for step in steps if step]
  if stop is None or start is None or len(steps) != 1:
    return None
  step = -steps[0] if update.opcode == "subtract" else steps[0]
  stop += {"LE": 1, "GE": -1}.get(direction, 0)
  forwards = {"LT": True, "LE": True, "GT": False, "GE": False, "NE": step > 0}.get(direction)
  if forwards is None or forwards != (step > 0):
    return None
  return max(0, math.ceil((stop - start) / step))


def _initial(module, computation, loop, index):
  scope, first = _look(module, _called_from(module, computation), loop.operands[0])
  if first.opcode != "tuple":
    return None
  return _integer(_look(module, scope, first.operands[index])[1])


def _called_from(module, computation):
  """The scope of a computation, which knows its operands if one ``call`` alone runs it."""
  calls = [
    (other, instruction)
    for other in module.computations.values()
    for instruction in other.instructions.values()
    if instruction.opcode == "call"
    and module.computations[called(instruction, "to_apply")[0]] is computation
  ]
  if len(calls) != 1:
    return computation, None
  other, call = calls[0]
  return computation, (_called_from(module, other), call.operands)


def _element(computation, index):
  return computation.instructions[computation.root].operands[index]


def _index(instruction):
  return int(re.search(r"index=(\d+)", instruction.attributes)[1])


def _integer(instruction):
  text = instruction.argument
  plain = instruction.opcode == "constant" and re.fullmatch(r"-?\d+", text)
  return int(text) if plain else None


def _look(module, scope, name):
  """Follows a value through copies and into fusions to the instruction that makes it.

  A scope is a computation and, if that is the body of a fusion, the scope and the operands from
  which it is called.
  """
  while True:
    computation, outer = scope
    instruction = computation.instructions[name]
    if instruction.opcode in _PASSES_ON:
      name = instruction.operands[0]
    elif instruction.opcode == "fusion":
      inner = module.computations[called(instruction, "calls")[0]]
      scope, name = (inner, (scope, instruction.operands)), inner.root
    elif instruction.opcode == "parameter" and outer:
      scope, operands = outer
      name = operands[int(instruction.argument)]
    else:
      return scope, instruction
