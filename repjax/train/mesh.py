"""Device meshes: made here and nowhere else."""

import math
import re
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding

from repjax.arrays import BATCH_AXES, batch_axes

DATA, FSDP = BATCH_AXES
MODEL = "model"


def make_mesh(spec: str = "data:-1", *, devices: Sequence[jax.Device] | None = None) -> Mesh:
  """Lays devices out as a mesh with Auto axes.

  Auto, because on Explicit axes (the default of `jax.make_mesh`) a product such as ``z @ z.T`` over
  a sharded batch raises.

  Args:
    spec: ``name:size`` pairs in order, such as ``data:-1,fsdp:8,model:4``; one size may be -1 and
      takes the devices that are left. A batch is split over ``data`` and ``fsdp``; what lies on
      ``fsdp`` and ``model`` besides, `repjax.train.sharding` says. A ``data`` axis is added where
      none is named.
    devices: what to lay out; all devices of all processes if absent.

  Returns:
    The mesh.

  Raises:
    ValueError: if the spec cannot be read or does not fit the devices, or the first axis does not
      fit the slices of TPUs that they are in.
  """
  devices = jax.devices() if devices is None else list(devices)
  parts = [re.fullmatch(r"(\w+):(-1|[1-9]\d*)", part.strip()) for part in spec.split(",")]
  if not all(parts):
    raise ValueError(f"--mesh={spec} is not a list of name:size pairs; write data:-1,model:4")
  axes = {part[1]: int(part[2]) for part in parts}
  if DATA not in axes:
    axes = {DATA: 1} | axes
  sizes = list(axes.values())
  if len(axes) < len(parts) or sizes.count(-1) > 1:
    raise ValueError(f"--mesh={spec} repeats an axis or has more than one -1; give each axis once")
  if -1 in sizes:
    sizes[sizes.index(-1)] = max(1, len(devices) // -math.prod(sizes))
  if math.prod(sizes) != len(devices):
    raise ValueError(
      f"--mesh={spec} needs {math.prod(sizes)} devices, {len(devices)} are here; "
      f"choose sizes whose product is {len(devices)}"
    )
  return Mesh(_lay_out(spec, sizes, devices), tuple(axes), axis_types=(AxisType.Auto,) * len(sizes))


def _lay_out(spec, sizes, devices):
  """Devices as an array whose neighbours are near; `jax.make_mesh` refuses some of these shapes."""
  options = {"devices": devices, "allow_split_physical_axes": True}
  slices = len({getattr(device, "slice_index", None) for device in devices})
  if devices[0].platform != "tpu" or slices == 1:
    return mesh_utils.create_device_mesh(tuple(sizes), **options)
  # Slices are joined by the network alone, so the outermost axis runs over them.
  if sizes[0] % slices:
    raise ValueError(
      f"--mesh={spec} lays {slices} slices out along its first axis, of {sizes[0]}; "
      f"choose a multiple of {slices}"
    )
  inside = (sizes[0] // slices, *sizes[1:])
  across = (slices, *[1] * len(sizes[1:]))
  return mesh_utils.create_hybrid_device_mesh(inside, across, **options)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Splits the leading axis of a batch over the mesh's batch axes.

  Args:
    mesh: from `make_mesh`.

  Returns:
    The sharding of ``[batch, ...]`` arrays.
  """
  return NamedSharding(mesh, jax.P(batch_axes(mesh)))


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
  """The rows of a batch that this process holds.

  Processes along the other axes of a mesh hold the same rows.

  Args:
    mesh: from `make_mesh`.
    batch_size: rows over all processes, a multiple of `repjax.arrays.batch_shards`.

  Returns:
    ``[rows]`` int64, ascending; all of them if there is one process.
  """
  parts = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
  held = {part.indices(batch_size)[:2] for (part,) in parts}
  return np.concatenate([np.arange(*bounds) for bounds in sorted(held)])


def replicated(mesh: Mesh) -> NamedSharding:
  """Puts a whole copy on every device.

  Args:
    mesh: from `make_mesh`.

  Returns:
    The sharding.
  """
  return NamedSharding(mesh, jax.P())
