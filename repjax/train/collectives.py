"""Collectives of a compiled program: what each moves, over which axes and links."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from repjax.train.chips import Chip
from repjax.train.hlo import Computation, Instruction
from repjax.train.links import axes_crossed, read_groups, road

KINDS = (
  "all-gather",
  "all-reduce",
  "all-to-all",
  "collective-broadcast",
  "collective-permute",
  "ragged-all-to-all",
  "reduce-scatter",
)


_GROUPS = re.compile(
  r"(?:replica_groups|source_target_pairs)="
  r"(mesh\[[^\]]*\](?:, device_ids=\(.*?\)+)? \{[^}]*\}|.*?(?=, [a-z_]+=|$))"
)
SLICES = "slices"  # groups of what is sent from slice to slice


class Transfer(NamedTuple):
  """One collective as it stands in a program.

  Attributes:
    kind: of `KINDS`.
    groups: text of its groups or of its pairs of source and target; `SLICES` where each chip
      meets its like in the other slices.
    nbytes: of the operands, on one device.
  """

  kind: str
  groups: str
  nbytes: int


class Collective(NamedTuple):
  """All collectives of one kind over the same axes and links.

  Attributes:
    kind: of `KINDS`.
    axes: of the mesh that they cross.
    medium: the slowest links that they cross.
    count: in one step.
    nbytes: that a device sends in one step, by a ring: ``(n - 1) / n`` of what is gathered,
      scattered or exchanged in a group of n, twice that for an all-reduce, the operand for a
      permutation.
    seconds: that takes at the links' rate, nothing else using them; nan if the rate is unknown.
  """

  kind: str
  axes: tuple[str, ...]
  medium: str
  count: float
  nbytes: float
  seconds: float


def transfer(
  computation: Computation, instruction: Instruction, *, name: str = ""
) -> Transfer | None:
  """Reads a collective.

  Args:
    computation: that it is in.
    instruction: any.
    name: of the computation, if it is a fusion.

  Returns:
    The collective; none if the instruction is not one, or only goes on with one. Inside a fusion,
    TPU compilers write a collective that overlaps with other work once where it starts and again
    in each fusion that it overlaps with, and a reduce-scatter as an all-reduce and a slice. What
    goes from slice to slice they give to the host to send.
  """
  if found := re.search(r'_xla_megascale_transfer_type="(\w+)"', instruction.attributes):
    if instruction.opcode != "send":
      return None
    kind = found[1].lower().replace("_", "-").replace("one-to-one", "collective-permute")
    return Transfer(kind, SLICES, computation.instructions[instruction.operands[0]].nbytes)
  kind = instruction.opcode.removesuffix("-start")
  if kind not in KINDS:
    return None
  if "async_collective_fusion_config" in instruction.attributes and not any(
    "AsyncCollectiveStart" in user.attributes for user in computation.users(instruction.name)
  ):
    return None
  if kind == "all-reduce" and "all-reduce-scatter" in name:
    kind = "reduce-scatter"
  groups = _GROUPS.search(instruction.attributes)
  nbytes = sum(computation.instructions[x].nbytes for x in instruction.operands)
  return Transfer(kind, groups[1] if groups else "{}", nbytes)


def result_bytes(moved: Transfer, size: int) -> int:
  """Bytes of a collective's result on one device.

  Args:
    moved: the collective.
    size: devices of the program.

  Returns:
    The bytes.
  """
  if moved.kind not in ("all-gather", "reduce-scatter"):
    return moved.nbytes
  members = read_groups(moved.groups, size).shape[1]
  return moved.nbytes * members if moved.kind == "all-gather" else moved.nbytes // members


def summarize(transfers: Mapping[Transfer, float], mesh: Mesh, chip: Chip) -> list[Collective]:
  """Adds collectives up that are of one kind and cross the same axes and links.

  Args:
    transfers: collectives and how often each runs in a step.
    mesh: of the program.
    chip: what each device can do.

  Returns:
    The sums, those that take longest first.
  """
  devices = list(mesh.devices.flat)
  # Programs of several slices number the devices of one; slices are the slowest part of a mesh.
  slices = len({getattr(device, "slice_index", None) for device in devices})
  slices = slices if devices[0].platform == "tpu" else 1
  rows = {}
  for moved, count in transfers.items():
    pairs = moved.kind == "collective-permute"
    if moved.groups == SLICES:
      groups = np.arange(len(devices)).reshape(slices, -1).T
      groups = groups[:, :2] if pairs else groups
    else:
      groups = read_groups(moved.groups, len(devices) // slices)
    if pairs:
      groups = groups[groups[:, 0] != groups[:, 1]]
    if not groups.size or groups.shape[1] == 1:
      continue  # nothing leaves a device
    way = road(groups, devices, chip, pairs=pairs)
    members = groups.shape[1]
    sent = moved.nbytes * (members - 1) / members
    seconds = sent / way.bandwidth
    if moved.kind == "all-gather":
      sent, seconds = sent * members, seconds * members
    elif moved.kind == "all-reduce":
      sent, seconds = 2 * sent, 2 * seconds
    elif pairs:
      sent, seconds = moved.nbytes, moved.nbytes * way.hops / way.bandwidth
    elif "all-to-all" in moved.kind:
      seconds *= way.hops  # everything passes through the links in between
    key = (moved.kind, axes_crossed(groups, mesh), way.medium)
    before = rows.get(key, np.zeros(3))
    rows[key] = before + count * np.array([1, sent, seconds])
  rows = [Collective(*key, *map(float, sums)) for key, sums in rows.items()]
  return sorted(rows, key=lambda row: (-row.seconds, row.kind))
