"""What a training step will cost on a machine, worked out from the program compiled for it.

A prediction, not a measurement: times are those of a roofline in which arithmetic, memory and links
each run at the rate of the data sheet and overlap perfectly. The real step is slower.
"""

import itertools
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from repjax.arrays import BATCH_AXES
from repjax.train.chips import Chip
from repjax.train.links import NETWORK
from repjax.train.program import Memory, Program, read_program

COMPUTE, MEMORY = "compute", "memory"
_CLOSE = 0.02  # of the largest batch
_GUESSES = 5  # compilations after which halving is surer


class Plan(NamedTuple):
  """What one step of one layout will cost.

  Attributes:
    mesh: sizes of the axes by name.
    batch_size: examples of a step, over all devices.
    chip: what each device can do.
    memory: bytes on a device; of a program that the compiler refuses, arguments and temporaries.
    program: the costs; none if the compiler refuses.
    model_flops: operations of a step over all devices, counted from the model.
    legs: seconds that arithmetic, memory and each kind of link need, each by itself.
    compile_seconds: how long the compiler took.
  """

  mesh: Mapping[str, int]
  batch_size: int
  chip: Chip
  memory: Memory
  program: Program | None
  model_flops: float
  legs: Mapping[str, float]
  compile_seconds: float

  @property
  def devices(self) -> int:
    """Devices of the mesh."""
    return math.prod(self.mesh.values())

  @property
  def shards(self) -> int:
    """Parts that a batch is split into."""
    return math.prod(self.mesh.get(name, 1) for name in BATCH_AXES)

  @property
  def fits(self) -> bool:
    """Whether a device's memory holds what the program needs."""
    return self.program is not None and self.memory.peak <= self.chip.memory

  @property
  def binds(self) -> str:
    """The leg that takes longest."""
    known = {name: seconds for name, seconds in self.legs.items() if not math.isnan(seconds)}
    return max(known, key=known.get) if known else ""

  @property
  def seconds(self) -> float:
    """The step's time: that of the longest leg; nan if the program is not known."""
    return self.legs[self.binds] if self.binds else math.nan

  @property
  def share_of_peak(self) -> float:
    """The model's arithmetic in that time, as a share of what the devices could do."""
    return self.model_flops / (self.seconds * self.devices * self.chip.flops)


def make_plan(
  lowered: jax.stages.Lowered,
  mesh: Mesh,
  chip: Chip,
  *,
  batch_size: int,
  model_flops: float,
  arguments: Any,
) -> Plan:
  """Compiles a step and works out what it will cost.

  Args:
    lowered: from ``jax.jit(step).lower(...)``.
    mesh: that it is lowered for.
    chip: what each of the mesh's devices can do.
    batch_size: examples of a step.
    model_flops: from `repjax.train.flops.count_flops`.
    arguments: tree of what the step takes, arrays or shapes with their shardings.

  Returns:
    The plan.
  """
  start = time.perf_counter()
  compiled, refused = _compile(lowered)
  seconds = time.perf_counter() - start
  plan = Plan(
    dict(mesh.shape), batch_size, chip, Memory(bytes_per_device(arguments), 0, 0, refused, 0),
    None, model_flops, {}, seconds,
  )  # fmt: skip
  if compiled is None:
    return plan
  program = read_program(compiled, mesh, chip)
  legs = {
    # Whichever is more: libraries hide products, and compilers drop some.
    COMPUTE: max(program.products, model_flops / mesh.size) / chip.flops,
    MEMORY: program.traffic / chip.bandwidth,
  }
  for row in program.collectives:
    legs[row.medium] = legs.get(row.medium, 0) + row.seconds
  return plan._replace(memory=program.memory, program=program, legs=legs)


def _compile(lowered):
  """The program, or the bytes of temporaries for which the compiler refuses it."""
  try:
    return lowered.compile(), 0
  except jax.errors.JaxRuntimeError as error:
    # TPU compilers say what a program that cannot fit would need, and stop.
    needed = re.search(
      r"RESOURCE_EXHAUSTED.*?(?:temporaries \(|Used )([\d.]+)([KMGT]?)", str(error), re.DOTALL
    )
    if not needed:
      raise
    return None, int(float(needed[1]) * 1024 ** (" KMGT".index(needed[2] or " ")))


def bytes_per_device(tree: Any) -> int:
  """Bytes of a tree of arrays on one device.

  Args:
    tree: of arrays or shapes with shardings; numbers count nothing.

  Returns:
    The bytes.
  """
  leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "sharding")]
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves
  )  # fmt: skip


def largest_batch(plan_for: Callable[[int], Plan], first: Plan, *, multiple: int) -> Plan | None:
  """Searches the largest batch that fits, by compiling.

  Memory is close to affine in the batch, so a line through two known sizes guesses the next; the
  answer is one that was compiled. It is within 2% or one ``multiple`` of the largest.

  Args:
    plan_for: batch size to plan.
    first: a plan already made.
    multiple: what the batch must be a multiple of.

  Returns:
    The plan of the largest batch; none if not even the smallest fits.
  """
  known = {first.batch_size: first}

  def try_size(size):
    known[size] = plan_for(size)

  try_size(max(multiple, first.batch_size // 2 // multiple * multiple) if not first.fits
           else 2 * first.batch_size)  # fmt: skip
  while True:
    fit = max((size for size, plan in known.items() if plan.fits), default=0)
    over = min((size for size, plan in known.items() if not plan.fits), default=math.inf)
    if over <= multiple:
      return None
    if over - fit <= max(multiple, _CLOSE * fit):
      return known[fit]
    guess = _crossing(known, fit, over, first.chip.memory)
    if len(known) > _GUESSES and over < math.inf:
      guess = (fit + over) // 2  # the line leads nowhere
    guess = guess // multiple * multiple
    least = fit + multiple
    most = over - multiple if over < math.inf else 8 * max(fit, multiple)
    try_size(int(min(max(guess, least), most)))


def _crossing(known, fit, over, memory):
  """Where the line through the two sizes nearest to the border crosses it."""
  near = sorted(known, key=lambda size: abs(size - (fit or over)))[:2]
  one, two = sorted(near)
  low, high = (known[size].memory.peak for size in (one, two))
  if high <= low:
    return 2 * two
  return int(one + (memory - low) * (two - one) / (high - low))


def layouts(devices: int, axes: Sequence[str]) -> list[dict[str, int]]:
  """All ways to lay devices out over axes.

  Args:
    devices: how many.
    axes: names, in order.

  Returns:
    Sizes by name whose product is the number of devices; axes of size 1 are left out but for the
    first.
  """
  divisors = [size for size in range(1, devices + 1) if devices % size == 0]
  found = []
  for sizes in itertools.product(divisors, repeat=len(axes) - 1):
    rest, left = divmod(devices, math.prod(sizes))
    if rest and not left:
      named = zip(axes, (rest, *sizes), strict=True)
      found.append({name: size for name, size in named if size > 1 or name == axes[0]})
  return found


def spell(mesh: Mapping[str, int]) -> str:
  """A mesh as the flag is written.

  Args:
    mesh: sizes by name.

  Returns:
    Such as ``data:64,model:4``.
  """
  return ",".join(f"{name}:{size}" for name, size in mesh.items())


def hint(plan: Plan) -> str:
  """What to try next.

  Args:
    plan: any.

  Returns:
    A sentence.
  """
  if not plan.fits:
    if plan.memory.arguments > plan.chip.memory / 2:
      return "parameters and optimizer fill the memory: more of fsdp or model in --mesh"
    return "activations fill the memory: --remat, --accumulate, a smaller batch or more chips"
  program, binds = plan.program, plan.binds
  if binds == COMPUTE:
    extra = program.products * plan.devices / plan.model_flops
    if extra > 1.2:
      return (
        f"each chip does {extra:.2f} times its part of the model's arithmetic: without --remat, if "
        f"activations fit, or less of an axis over which work is repeated rather than split"
      )
    return "compute binds, as it should: a larger batch changes little"
  if binds == MEMORY:
    return (
      f"memory binds at {plan.batch_size / plan.shards:g} examples a shard: --dtype=bfloat16, "
      f"--remat, or a larger batch for each pass over the parameters"
    )
  worst = max((row for row in program.collectives if row.medium == binds), key=_seconds)
  over = "+".join(worst.axes)
  if "model" in worst.axes:
    return f"{worst.kind} over {over} binds: less of model and more of fsdp or data in --mesh"
  if binds == NETWORK:
    return f"{worst.kind} over {over} crosses the network: a larger batch, or --accumulate"
  return f"{worst.kind} over {over} binds: a larger batch a chip, or fewer chips"


def _seconds(row):
  return -math.inf if math.isnan(row.seconds) else row.seconds
