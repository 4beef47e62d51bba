"""What accelerators can do: arithmetic, memory and links, by the makers' figures.

Sources, with the figures taken from each:

1. Google, Cloud TPU documentation, docs.cloud.google.com/tpu/docs/v3 to /v6e and /tpu7x, read in
   2025 and 2026: peak, memory and its bandwidth, ICI per chip (both directions together), network
   per pod or chip, shape of the torus. v6e of 2024 says ICI 3200 Gbit/s and NICs of 4 x 200 Gbit/s.
2. Jouppi et al., "TPU v4", ISCA 2023, arxiv.org/abs/2304.01433, table 4: ICI of v3 (4 links of
   70 GB/s) and v4 (6 of 50), seen as quoted by others.
3. Austin et al., "How to Scale Your Model", 2025, jax-ml.github.io/scaling-book/tpus: which axes of
   a slice close into rings, and the network of a v4 host (25 GB/s, four chips).
4. libtpu 0.0.42: memory that its compiler lets a program use, read from what it says when a program
   does not fit. Less than the data sheet's, and what is stored here.
5. NVIDIA, data sheets of A100, H100, H200, L4 and B200 and DGX user guides (2020 to 2024): peak
   without sparsity, memory, bandwidth, NVLink (both directions together), one NIC of 200 (A100) or
   400 Gbit/s for each GPU. H200's and B200's links and NICs agree with the systems described for
   MLPerf inference 4.1 and 6.0; the rest was seen as quoted by others.

Not found on a page of the maker: bandwidth and links of v2 (Norrie et al., "The Design Process for
Google's Training Chips", IEEE Micro 2021, from memory), network of v2 and v3, of L4 and of the PCIe
cards (unknown: `network` is 0). Peaks, memory and bandwidth of v3 to 7x agree within 15% with the
table that JAX ships for its kernels.
"""

import os
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Chip(NamedTuple):
  """What one JAX device can do: a chip, or a core of a chip that shows two.

  Attributes:
    name: for people.
    flops: dense bfloat16 peak, FLOP/s; float32 where it was measured.
    memory: bytes that a program can use.
    bandwidth: bytes/s between chip and memory, reading and writing together.
    link: bytes/s that leave over one link in one direction; of NVLink all links together.
    links: links; two for each axis of a torus, one if there is a switch or a bus.
    network: bytes/s that leave for another slice or host; 0 if unknown.
    ring: axes of a slice close into rings where their length is a multiple of it; 0 for no torus.
    medium: name of the links.
    source: where the figures are from.
  """

  name: str
  flops: float
  memory: float
  bandwidth: float
  link: float
  links: int
  network: float
  ring: int
  medium: str
  source: str = "data sheet, bfloat16"


def _tpu(name, tflops, gib, bandwidth, link, axes, network, ring, cores=1):
  """A TPU from figures of the chip; of the memory, from what the compiler gives a device."""
  share = lambda rate: rate / cores
  return Chip(
    name, share(tflops * 1e12), gib * 2**30, share(bandwidth), share(link), 2 * axes,
    share(network), ring, "ICI",
  )  # fmt: skip


def _gpu(name, tflops, gigabytes, bandwidth, nvlink, network, medium="NVLink"):
  """A GPU; half of what its links carry goes in one direction."""
  return Chip(
    name, tflops * 1e12, gigabytes * 1e9, bandwidth, nvlink / 2, 1, network, 0, medium
  )  # fmt: skip


# By `jax.Device.device_kind`. Columns of TPUs: TFLOP/s, usable GiB of a device, bytes/s to memory,
# bytes/s of a link one way, axes of the torus, bytes/s of network, length of a ring, devices.
_V5P = _tpu("TPU v5p", 459, 95.74, 2765e9, 100e9, 3, 50e9 / 8, 4)
CHIPS = {
  "TPU v2": _tpu("TPU v2", 45, 7.48, 700e9, 62e9, 2, 0, 16, 2),
  "TPU v3": _tpu("TPU v3", 123, 15.48, 900e9, 70e9, 2, 0, 32, 2),
  "TPU v4": _tpu("TPU v4", 275, 30.75, 1200e9, 50e9, 3, 25e9 / 4, 4),
  "TPU v5 lite": _tpu("TPU v5e", 197, 15.75, 819e9, 50e9, 2, 6.4e12 / 8 / 256, 16),
  "TPU v5": _V5P,
  "TPU v5p": _V5P,
  "TPU v6 lite": _tpu("TPU v6e", 918, 31.25, 1638e9, 100e9, 2, 25.6e12 / 8 / 256, 16),
  "TPU7x": _tpu("TPU7x", 2307, 94.75, 7380e9, 100e9, 3, 100e9 / 8, 4, 2),
  "NVIDIA A100-SXM4-40GB": _gpu("A100 SXM 40 GB", 312, 40, 1555e9, 600e9, 25e9),
  "NVIDIA A100-SXM4-80GB": _gpu("A100 SXM 80 GB", 312, 80, 2039e9, 600e9, 25e9),
  "NVIDIA A100-PCIE-40GB": _gpu("A100 PCIe 40 GB", 312, 40, 1555e9, 64e9, 0, "PCIe"),
  "NVIDIA A100 80GB PCIe": _gpu("A100 PCIe 80 GB", 312, 80, 1935e9, 64e9, 0, "PCIe"),
  "NVIDIA H100 80GB HBM3": _gpu("H100 SXM", 989, 80, 3350e9, 900e9, 50e9),
  "NVIDIA H100 PCIe": _gpu("H100 PCIe", 756, 80, 2000e9, 128e9, 0, "PCIe"),
  "NVIDIA H200": _gpu("H200 SXM", 989, 141, 4800e9, 900e9, 50e9),
  "NVIDIA L4": _gpu("L4", 121, 24, 300e9, 64e9, 0, "PCIe"),
  "NVIDIA B200": _gpu("B200", 2250, 180, 8000e9, 1800e9, 50e9),
}


def chip_of(device: jax.Device, *, sharing: int = 1) -> Chip:
  """What a device can do.

  Args:
    device: one that is here; of others, `CHIPS` says it.
    sharing: simulated devices that run on the same machine at once and share what was measured.

  Returns:
    The maker's figures for known chips, with the memory that this process may use; for all else
    what is measured now. Simulated CPU devices talk by copies in memory.
  """
  memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  if device.platform != "cpu":
    memory = device.memory_stats()["bytes_limit"]
  if device.device_kind in CHIPS:
    return CHIPS[device.device_kind]._replace(memory=float(memory))
  bandwidth = measure_bandwidth(device) / sharing
  return Chip(
    device.device_kind,
    measure_flops(device) / sharing,
    memory / sharing,
    bandwidth,
    link=bandwidth / 2,  # what is sent is read and written
    links=1,
    network=0,
    ring=0,
    medium="host memory" if device.platform == "cpu" else "unknown link",
    source="measured here, float32 product and copy",
  )


def measure_flops(device: jax.Device) -> float:
  """Times a float32 matrix product.

  Args:
    device: one that is here.

  Returns:
    FLOP/s of the fastest of five.
  """
  size = 1024 if device.platform == "cpu" else 8192
  x = jax.device_put(jax.random.normal(jax.random.key(0), (size, size)), device)
  product = jax.jit(jnp.matmul)
  return 2 * size**3 / _fastest(lambda: product(x, x).block_until_ready())


def measure_bandwidth(device: jax.Device) -> float:
  """Times a pass over 256 MiB that reads and writes each number once.

  Args:
    device: one that is here.

  Returns:
    Bytes/s read and written together, of the fastest of five.
  """
  x = jax.device_put(jnp.zeros(2**26, jnp.float32), device)
  # In place, since fresh memory costs page faults on a CPU.
  add = jax.jit(lambda x: x + 1, donate_argnums=0)

  def run():
    nonlocal x
    x = add(x).block_until_ready()

  return 2 * x.nbytes / _fastest(run)


def _fastest(run: Callable[[], object]) -> float:
  run()  # compiles
  times = []
  for _ in range(5):
    start = time.perf_counter()
    run()
    times.append(time.perf_counter() - start)
  return min(times)
