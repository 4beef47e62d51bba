"""What one step of a compiled program costs a device: memory, arithmetic, traffic, collectives."""

import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from repjax.train.chips import Chip
from repjax.train.collectives import Collective, Transfer, result_bytes, summarize, transfer
from repjax.train.hlo import Computation, Instruction, Module, called, parse, trip_count

# Instructions that move nothing: they name a value, or end what another began.
_FREE = {
  "add-dependency", "after-all", "bitcast", "constant", "domain", "get-tuple-element",
  "opt-barrier", "parameter", "partition-id", "replica-id", "tuple",
}  # fmt: skip
_FREE_CALLS = (
  "AllocateBuffer", "AsyncCollectiveDone", "AsyncCollectiveStart", "ConcatBitcast",
  "PrepareAsyncCallDone", "PrepareAsyncCallStart", "SliceId",
)  # fmt: skip
_PLAIN_CALLS = ("ZeroCrop",)  # a TPU's, without arithmetic
_WHOLE = ("convolution", "custom-call", "dot", "reduce-window", "scatter", "sort")
_SLICES = ("dynamic-slice", "slice", "gather")  # read as much as they give


class Memory(NamedTuple):
  """Bytes on one device while a program runs.

  Attributes:
    arguments: what it is given.
    outputs: what it gives back.
    aliased: part of the outputs that takes the place of donated arguments.
    temporaries: what it needs in between.
    code: the program itself.
    live: most that the compiler finds in use at once, reserves included.
  """

  arguments: int
  outputs: int
  aliased: int
  temporaries: int
  code: int
  live: int = 0

  @property
  def peak(self) -> int:
    """What must fit at once."""
    parts = self.arguments + self.outputs - self.aliased + self.temporaries + self.code
    return max(parts, self.live)


class Program(NamedTuple):
  """What one step costs one device.

  Attributes:
    memory: bytes.
    products: operations of matrix products and convolutions, a multiply-add being two; those of
      loops as often as they run, those done again by rematerialisation or on every device too.
    traffic: bytes between chip and memory, of each instruction's operands and result; a fusion is
      one instruction, and a slice of an array counts for the slice alone.
    collectives: by kind, axes and link.
    unknown_loops: loops whose length the program does not say; they count once.
    opaque: calls into other code, whose products are not counted.
  """

  memory: Memory
  products: float
  traffic: float
  collectives: list[Collective]
  unknown_loops: list[str]
  opaque: list[str]


def read_program(compiled: jax.stages.Compiled, mesh: Mesh, chip: Chip) -> Program:
  """Reads what a program costs from what the compiler made of it.

  The compiler's own `cost_analysis` counts the body of a loop once; here each counts as often as
  it runs. Of the branches of a condition, the one with most traffic counts.

  Args:
    compiled: from ``jax.jit(f).lower(...).compile()``.
    mesh: whose devices it is compiled for.
    chip: what each of them can do.

  Returns:
    The costs.
  """
  stats = compiled.memory_analysis()
  memory = Memory(
    stats.argument_size_in_bytes,
    stats.output_size_in_bytes,
    stats.alias_size_in_bytes,
    stats.temp_size_in_bytes,
    stats.generated_code_size_in_bytes,
    stats.peak_memory_in_bytes,
  )
  module = parse(compiled.as_text())
  # On a TPU other spaces are on the chip, or on the host; a GPU's are all in its memory.
  on_chip = mesh.devices.flat[0].platform == "tpu"
  cost = count(module, size=mesh.size, main=lambda space: not (on_chip and space))
  return Program(
    memory,
    cost.products,
    cost.traffic,
    summarize(cost.transfers, mesh, chip),
    sorted(cost.loops),
    sorted(cost.opaque),
  )


class Cost(NamedTuple):
  """What a computation costs when it runs once.

  Attributes:
    products: operations.
    traffic: bytes.
    transfers: collectives and how often they run.
    loops: names of loops of unknown length.
    opaque: names of calls into other code.
  """

  products: float = 0.0
  traffic: float = 0.0
  transfers: Mapping[Transfer, float] = MappingProxyType({})
  loops: frozenset[str] = frozenset()
  opaque: frozenset[str] = frozenset()

  def plus(self, other: "Cost", times: float = 1) -> "Cost":
    """This and another that runs a number of times."""
    transfers = Counter(self.transfers)
    for moved, number in other.transfers.items():
      transfers[moved] += times * number
    return Cost(
      self.products + times * other.products,
      self.traffic + times * other.traffic,
      transfers,
      self.loops | other.loops,
      self.opaque | other.opaque,
    )


def count(module: Module, *, size: int, main: Callable[[int], bool]) -> Cost:
  """Counts what a module costs one device.

  Args:
    module: the program.
    size: devices that it runs on.
    main: whether a memory space lies in the device's main memory.

  Returns:
    The cost.
  """

  def nbytes(instruction):
    return sum(array.nbytes for array in instruction.shape if main(array.space))

  @functools.cache
  def whole(name):
    """A computation whose instructions run one after the other."""
    computation = module.computations[name]
    cost = Cost()
    for instruction in computation.instructions.values():
      cost = cost.plus(one(computation, instruction))
    return cost

  def one(computation, instruction):
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith(("-done", "-update")):
      return Cost()
    operands = [computation.instructions[name] for name in instruction.operands]
    if moved := transfer(computation, instruction):
      traffic = sum(map(nbytes, operands))
      if opcode != "send":  # what is received is written by another instruction
        traffic += _result(instruction, moved, size, main)
      return Cost(traffic=traffic, transfers={moved: 1})
    if opcode == "while":
      times = trip_count(module, computation, instruction)
      body, condition = called(instruction, "body", "condition")
      loops = frozenset({instruction.name} if times is None else ())
      times = 1 if times is None else times
      return Cost(loops=loops).plus(whole(body), times).plus(whole(condition), times + 1)
    if opcode == "conditional":
      names = called(instruction, "branch_computations", "true_computation", "false_computation")
      return max(map(whole, names), key=lambda cost: cost.traffic)
    if opcode in ("call", "call-start", "async-start"):
      return whole(called(instruction, "to_apply", "calls", "called_computations")[0])
    if opcode == "fusion":
      return fused(instruction, operands)
    if opcode == "custom-call":
      return foreign(instruction, operands)
    return Cost(
      _products(instruction, operands), _traffic(instruction, operands, nbytes, main)
    )  # fmt: skip

  def fused(instruction, operands):
    name = called(instruction, "calls")[0]
    inner = module.computations[name]
    cost = inside(name)
    fraction = _fractions(module, inner)
    traffic = sum(
      nbytes(operand) * fraction(place.name)
      for number, operand in enumerate(operands)
      if (place := inner.parameter(number)) is not None
    )
    root = inner.instructions[inner.root]
    roots = [inner.instructions[x] for x in root.operands] if root.opcode == "tuple" else [root]
    return cost.plus(Cost(traffic=traffic + sum(_written(inner, x, nbytes, main) for x in roots)))

  @functools.cache
  def inside(name):
    """Products and collectives in a fusion, and in fusions inside it."""
    computation = module.computations[name]
    cost = Cost()
    for instruction in computation.instructions.values():
      operands = [computation.instructions[x] for x in instruction.operands]
      if moved := transfer(computation, instruction, name=name):
        traffic = sum(map(nbytes, operands))
        if moved.kind != "reduce-scatter":  # of which the fusion writes a slice
          traffic += _result(instruction, moved, size, main)
        cost = cost.plus(Cost(traffic=traffic, transfers={moved: 1}))
      elif instruction.opcode == "fusion":
        cost = cost.plus(inside(called(instruction, "calls")[0]))
      else:
        cost = cost.plus(Cost(products=_products(instruction, operands)))
    return cost

  def foreign(instruction, operands):
    target = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
    target = target[1] if target else "unknown"
    if target in _FREE_CALLS:
      return Cost()
    traffic = sum(map(nbytes, operands)) + nbytes(instruction)
    products = _library_product(instruction, operands)
    opaque = frozenset() if products or target in _PLAIN_CALLS else frozenset({target})
    return Cost(products, traffic, opaque=opaque)

  return whole(module.entry)


def _result(instruction, moved, size, main):
  """Bytes that a collective writes; where it starts, its shape holds operands and flags too."""
  operands = len(instruction.operands)
  started = instruction.opcode.endswith("-start") and len(instruction.shape) > operands
  result = instruction.shape[operands if started else 0]
  return result_bytes(moved, size) if main(result.space) else 0


def _traffic(instruction, operands, nbytes, main):
  opcode = instruction.opcode
  if opcode in _SLICES:
    return nbytes(instruction) * (1 + main(operands[0].shape[0].space))
  if opcode == "dynamic-update-slice":
    return 2 * nbytes(operands[1])  # in place
  if opcode == "copy-start":  # shape: where to, where from, a flag
    to = instruction.shape[0]
    return sum(map(nbytes, operands)) + (to.nbytes if main(to.space) else 0)
  if opcode in ("slice-start", "dynamic-slice-start"):  # shape: where from, where to, a flag
    whence, to = instruction.shape[-3:-1]
    return to.nbytes * (main(whence.space) + main(to.space))
  return sum(map(nbytes, operands)) + nbytes(instruction)


def _fractions(module: Module, computation: Computation):
  """A function: which part of a value that a fusion is given or makes, its result needs.

  A fusion reads of an array what its instructions ask for: of one that is sliced, the slice; of
  one that is updated in place or handed on, nothing.
  """

  @functools.cache
  def needed(name):
    value = computation.instructions[name]
    elements = sum(math.prod(array.dims) for array in value.shape) or 1
    total = 1.0 if name == computation.root else 0.0
    for user in computation.users(name):
      first = user.operands[0] == name
      if (
        (user.opcode == "dynamic-update-slice" and first)
        or (user.opcode == "tuple" and value.opcode == "parameter")
        or _counted_elsewhere(computation, user)
      ):
        continue
      if user.opcode in _SLICES and first:
        total += math.prod(user.shape[0].dims) / elements * needed(user.name)
      elif user.opcode == "fusion":
        inner = module.computations[called(user, "calls")[0]]
        for number, operand in enumerate(user.operands):
          if operand == name and (place := inner.parameter(number)) is not None:
            total += _fractions(module, inner)(place.name)
      elif user.opcode in _WHOLE or math.prod(user.shape[0].dims) != elements:
        total += 1.0
      else:  # number by number
        total += needed(user.name)
    return min(total, 1.0)

  return needed


def _written(computation, value, nbytes, main):
  """Bytes that a fusion writes of one result."""
  while value.opcode == "bitcast":
    value = computation.instructions[value.operands[0]]
  if value.opcode == "dynamic-update-slice":
    update = computation.instructions[value.operands[1]]
    return sum(array.nbytes for array in update.shape) if main(value.shape[0].space) else 0
  if value.opcode in ("parameter", "get-tuple-element"):
    return 0  # handed on
  return 0 if _counted_elsewhere(computation, value) else nbytes(value)


def _counted_elsewhere(computation, instruction):
  """Whether it is a collective, which counts by itself, or marks where one starts or ends."""
  marks = instruction.opcode == "custom-call" and any(
    name in instruction.attributes for name in _FREE_CALLS
  )
  return marks or transfer(computation, instruction._replace(attributes="")) is not None


def _products(instruction: Instruction, operands: list[Instruction]) -> float:
  """Operations of a product or convolution; 0 for all else."""
  if instruction.opcode == "dot":
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)[1]
    left = operands[0].shape[0].dims
    depth = math.prod(left[int(axis)] for axis in contracted.split(",") if axis)
    return 2.0 * depth * math.prod(instruction.shape[0].dims)
  if instruction.opcode == "convolution":
    return _convolution(instruction, *(x.shape[0].dims for x in operands[:2]))
  return 0.0


def _convolution(instruction, image, kernel):
  """Multiply-adds that meet a number rather than padding or a hole between spread-out numbers.

  TPU compilers write all products as convolutions, batches of them with windows whose elements
  meet padding but once; so windows are counted element by element.
  """
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
  image_labels, kernel_labels, out_labels = labels.groups()
  out = instruction.shape[0].dims
  total = 2.0 * out[out_labels.index("b")] * out[out_labels.index("f")]
  total *= kernel[kernel_labels.index("i")]
  window = re.search(r"window=\{([^}]*)\}", instruction.attributes)
  window = dict(part.split("=") for part in window[1].split()) if window else {}
  for position, label in enumerate(sorted(set(image_labels) - {"b", "f"}, key=int)):
    read = lambda key, default: window.get(key, "x".join([default] * 9)).split("x")[position]
    before = int(read("pad", "0_0").split("_")[0])
    stride, spread, apart = (int(read(x, "1")) for x in ("stride", "lhs_dilate", "rhs_dilate"))
    inputs = image[image_labels.index(label)]
    outs = np.arange(out[out_labels.index(label)]) * stride - before
    meets = 0
    for tap in range(kernel[kernel_labels.index(label)]):
      at = outs + tap * apart
      meets += int(((at >= 0) & (at <= (inputs - 1) * spread) & (at % spread == 0)).sum())
    total *= meets
  return total


def _library_product(instruction, operands):
  """Operations of a product that XLA's GPU compiler hands to cuBLAS."""
  contracted = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', instruction.attributes)
  if "__cublas$" not in instruction.attributes or not contracted:
    return 0.0
  left = operands[0].shape[0].dims
  depth = math.prod(left[int(axis)] for axis in re.findall(r"\d+", contracted[1]))
  return 2.0 * depth * math.prod(instruction.shape[0].dims)
