"""Machines to compile for: slices of TPUs that nobody has here, simulated CPUs, this one."""

import importlib.util
import math
import re
from collections.abc import Sequence

import jax

from repjax.train.chips import CHIPS, Chip, chip_of

# By libtpu's names: how many axes a slice has, and what makes one device of a v4 chip's two cores.
_TPUS = {
  "v2": (2, {}),
  "v3": (2, {}),
  "v4": (3, {"chip_config_name": "megacore"}),
  "v5e": (2, {}),
  "v5p": (3, {}),
  "v6e": (2, {}),
  "tpu7x": (3, {}),
}
_EXAMPLES = "write v5e:16x16, v5p:4x4x4, v5e:16x16*2 for two slices, or cpu:8"


def parse(topology: str) -> tuple[str, tuple[int, ...], int]:
  """Reads a topology.

  Args:
    topology: ``CHIP:AxB`` or ``CHIP:AxBxC`` for a slice of TPUs, with ``*N`` for N of them, or
      ``cpu:N`` for simulated devices.

  Returns:
    The chip's name, the sides of a slice in chips, and the number of slices.

  Raises:
    ValueError: if it cannot be read.
  """
  found = re.fullmatch(r"(\w+):([1-9]\d*(?:x[1-9]\d*)*)(?:\*([1-9]\d*))?", topology.strip())
  name = found and found[1]
  if name != "cpu" and name not in _TPUS:
    raise ValueError(
      f"--topology={topology} names no machine that is known ({', '.join(_TPUS)}, cpu); {_EXAMPLES}"
    )
  sides = tuple(int(side) for side in found[2].split("x"))
  slices = int(found[3] or 1)
  if name == "cpu" and (len(sides) > 1 or slices > 1):
    raise ValueError(f"--topology={topology} is no number of simulated devices; {_EXAMPLES}")
  if name != "cpu" and len(sides) != _TPUS[name][0]:
    axes = "x".join("ABC"[: _TPUS[name][0]])
    raise ValueError(
      f"--topology={topology} has {len(sides)} sides, slices of {name} have {_TPUS[name][0]}; "
      f"write {name}:{axes}"
    )
  return name, sides, slices


def environment(topology: str) -> dict[str, str]:
  """What a process needs around it to compile for a topology.

  JAX reads these when it starts, and libtpu takes hold of the process that loads it; so compile in
  a process started with them.

  Args:
    topology: as `parse` reads it.

  Returns:
    Environment variables.

  Raises:
    ValueError: if the topology cannot be read.
    ImportError: if libtpu is needed and missing.
  """
  name, sides, _ = parse(topology)
  variables = {"JAX_PLATFORMS": "cpu"}
  if name == "cpu":
    return variables | {"JAX_NUM_CPU_DEVICES": str(sides[0])}
  if importlib.util.find_spec("libtpu") is None:
    raise ImportError(
      f"--topology={topology} needs the TPU compiler, libtpu; pip install 'repjax[plan]'"
    )
  return variables | {
    # Do not ask a metadata server that is not there, and leave the lock of the machine's TPUs.
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    # Unset, these are warned of at length; the topology says what is compiled for.
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
  }


def machine(topology: str | None) -> tuple[Sequence[jax.Device], Chip]:
  """The devices of a topology, in a process started with `environment`.

  Args:
    topology: as `parse` reads it; none for the devices that are here.

  Returns:
    The devices, and what each can do.

  Raises:
    ValueError: if there is no slice of these sides.
  """
  if topology is None or parse(topology)[0] == "cpu":
    devices = jax.devices()
    sharing = len(devices) if devices[0].platform == "cpu" else 1
    return devices, chip_of(devices[0], sharing=sharing)
  from jax.experimental import topologies

  name, sides, slices = parse(topology)
  options = dict(_TPUS[name][1])
  if slices > 1:
    options["num_slices"] = slices
  if math.prod(sides) == 1:
    options["chips_per_host_bounds"] = (1, 1, 1)
  try:
    found = topologies.get_topology_desc(
      platform="tpu", topology_name=f"{name}:{'x'.join(map(str, sides))}", **options
    )
  except jax.errors.JaxRuntimeError as error:
    raise ValueError(
      f"--topology={topology} is no slice that can be had ({str(error).splitlines()[0]}); "
      f"sides are even, such as 2, 4, 8 or 16"
    ) from None
  return found.devices, CHIPS[found.devices[0].device_kind]


def is_here(topology: str | None) -> bool:
  """Whether a program compiled for a topology can be run here.

  Args:
    topology: as `parse` reads it.

  Returns:
    Whether it is this machine's, or simulated.
  """
  return topology is None or parse(topology)[0] == "cpu"
