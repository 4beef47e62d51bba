"""Which axes of a mesh, and which links of a machine, a collective crosses, and how fast."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from repjax.train.chips import Chip

NETWORK = "network"  # between slices of TPUs, or hosts of GPUs
# The two chiplets of a TPU7x: six times a link of ICI (Google's documentation), of which each
# device is given half. Not published for the cores of v2 and v3.
_CORES = 12


class Road(NamedTuple):
  """What a group of devices is joined by.

  Attributes:
    medium: name of the slowest kind of link.
    bandwidth: bytes/s that each device can send around a ring of the group; nan if unknown.
    hops: links that what one device sends to another keeps busy, on average; one where there is
      no torus.
  """

  medium: str
  bandwidth: float
  hops: float


def read_groups(text: str, size: int) -> np.ndarray:
  """Reads the groups of a collective.

  Args:
    text: what follows ``replica_groups=`` or ``source_target_pairs=`` in a compiled program: lists
      (``{{0,1},{2,3}}``; empty for everybody), a reshaped and transposed count
      (``[2,4]<=[4,2]T(1,0)``) or axes of a mesh (``mesh['a'=2,'b'=4] {'b'}``), whose devices may
      stand in another order (``mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}``).
    size: devices of the program.

  Returns:
    Device numbers ``[groups, members]``, places in the mesh's order.

  Raises:
    ValueError: if the text is of no known form, or its groups differ in size.
  """
  if iota := re.match(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
    shape, reshape, order = (_numbers(part) for part in iota.groups())
    return np.arange(math.prod(shape)).reshape(reshape).transpose(order or None).reshape(shape)
  if named := re.match(r"mesh\[([^\]]*)\](?:, device_ids=\((.*?)\)+)? \{([^}]*)\}", text):
    return _mesh_groups(named[1], named[2], named[3])
  if lists := re.match(r"\{(?:\{[\d,]*\},?)*\}", text):
    groups = [_numbers(group) for group in re.findall(r"\{([\d,]+)\}", lists[0])]
    if len({len(group) for group in groups}) > 1:
      raise ValueError(f"expected groups of one size, got {text[:80]!r}")
    return np.array(groups or [range(size)])
  raise ValueError(f"expected groups of devices, got {text[:80]!r}")


def _mesh_groups(mesh, order, axes):
  """Groups along named axes, or along parts of them: ``'a':(2)4`` is a factor 4 after one of 2."""
  sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
  parts = {name: [] for name in sizes}
  wanted = []
  for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", axes):
    part = (name, int(before or 1), int(size or sizes[name]))
    parts[name].append(part)
    wanted.append(part)
  shape, along = [], {}
  for name, size in sizes.items():
    done = 1
    for part in sorted(parts[name]):
      shape += [part[1] // done] * (part[1] > done) + [part[2]]
      along[part] = len(shape) - 1
      done = part[1] * part[2]
    shape += [size // done] * (size > done or not parts[name])
  last = [along[part] for part in wanted]
  rest = [axis for axis in range(len(shape)) if axis not in last]
  members = math.prod(shape[axis] for axis in last)
  devices = np.arange(math.prod(shape))
  if order:  # the mesh's devices, such as [64,4]T(1,0: counted in one order, listed in another
    iota = re.fullmatch(r"\[([\d,]+)\](?:T\(([\d,]+))?", order)
    if not iota:
      raise ValueError(f"expected the order of a mesh's devices, got {order[:80]!r}")
    devices = devices.reshape(_numbers(iota[1])).transpose(_numbers(iota[2]) or None)
  return devices.reshape(shape).transpose(rest + last).reshape(-1, members)


def _numbers(text):
  return [int(number) for number in text.split(",")] if text else []


def axes_crossed(groups: np.ndarray, mesh: Mesh) -> tuple[str, ...]:
  """The mesh axes along which the members of groups differ.

  Args:
    groups: places in the mesh's order, ``[groups, members]``.
    mesh: the mesh.

  Returns:
    Names, in the mesh's order.
  """
  places = np.stack(np.unravel_index(groups, mesh.devices.shape), axis=-1)
  differ = (places != places[:, :1]).any(axis=(0, 1))
  return tuple(name for name, crossed in zip(mesh.axis_names, differ, strict=True) if crossed)


def road(
  groups: np.ndarray, devices: Sequence[jax.Device], chip: Chip, *, pairs: bool = False
) -> Road:
  """What joins the members of groups, for the group that is worst off.

  On a torus, a group that covers a whole axis which closes into a ring sends both ways; one that
  covers a part sends one way; groups that lie interleaved on an axis share its links. Several axes
  add up. A group over several slices or hosts is as fast as the network cards of its members in
  one of them, or as the links inside, whichever is slower (rings that enter each host once).

  Args:
    groups: places in the mesh's order, ``[groups, members]``.
    devices: the mesh's, in order.
    chip: what each can do.
    pairs: whether the groups are a source and a target each, rather than rings.

  Returns:
    The road.
  """
  places = _slices(devices)
  crossing = (places[groups] != places[groups[:, :1]]).any(axis=1)
  if not crossing.any():
    return _inside(groups, devices, chip, pairs)
  if not chip.network:
    return Road(NETWORK, math.nan, 1.0)
  members = places[groups[crossing][0]]
  cards = 1 if pairs else (members == members[0]).sum()
  inside = chip.link * chip.links if cards > 1 else math.inf
  return Road(NETWORK, float(min(inside, cards * chip.network)), 1.0)


def _slices(devices):
  """The slice of each TPU, the host of each GPU."""
  numbers = [getattr(device, "slice_index", None) for device in devices]
  if devices[0].platform == "gpu":
    hosts = [device.process_index for device in devices]
    numbers = [h if n is None else n for n, h in zip(numbers, hosts, strict=True)]
  return np.array([number or 0 for number in numbers])


def _inside(groups, devices, chip, pairs):
  if not chip.ring:
    return Road(chip.medium, chip.link, 1.0)
  coordinates = np.array([device.coords for device in devices])
  extents = coordinates.max(axis=0) - coordinates.min(axis=0) + 1
  rings = extents % chip.ring == 0
  if pairs:
    apart = np.abs(np.diff(coordinates[groups], axis=1))
    apart = np.where(rings, np.minimum(apart, extents - apart), apart)
    return Road(chip.medium, chip.link, max(float(apart.sum(axis=-1).mean()), 1.0))
  lanes, hops = math.inf, 0.0
  # Axis by axis, so members may be sorted along each by itself.
  for group in np.unique(np.sort(coordinates[groups], axis=1), axis=0):
    group_lanes, group_hops = 0.0, 0.0
    for values, extent, ring in zip(map(np.unique, group.T), extents, rings, strict=True):
      if len(values) > 1:
        stride = (values[-1] - values[0]) / (len(values) - 1)
        group_lanes += (2 if ring and stride * len(values) >= extent else 1) / stride
        group_hops += stride * len(values) / 4
    lanes, hops = min(lanes, group_lanes or _CORES), max(hops, group_hops)
  return Road(chip.medium, lanes * chip.link, max(hops, 1.0))
