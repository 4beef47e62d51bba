"""A training step: images per second, share of the machine's peak, what binds it; beside PyTorch.

  pip install -e . && pip install torch timm
  python benchmarks/train_step.py                        # a CPU: float32, small nets, two minutes
  python benchmarks/train_step.py --json=step.json       # a GPU: bfloat16, ViT-B and L, ResNet-50
  python benchmarks/train_step.py --models=vit_b16 --methods=simclr,simmim --torch=false

Ours is the step that launchers run (`repjax.train.step`), its state donated. The rival is timm's
net of the same shape with `torch.compile`, autocast where the dtype is bfloat16, channels last for
a ResNet, and fused AdamW; --torch=compile,eager adds one without compilation. Both augment on the
device, as part of the step, from the same distributions: crop and flip, for SimCLR also colour
jitter, grey and blur. Data does not move: one batch of bytes lies on the device.

That the two do equal work is checked in every run and stops it if not: parameters are as many, and
so are those that decay; from the same weights, three unaugmented steps give the same losses; and
each augmentation, given the same draws, gives the same pixels. Our step also reports the gradient's
norm, theirs does not.

Terms. MFU: the step's matmul FLOPs, counted in the traced program without augmentation (forward
times 3 less the first layer's input gradient; recomputation does not count) over the best rate that
a square product of this dtype reaches here, in this process, under JAX or PyTorch. Floor: FLOPs
over that rate, and the bytes of the compiled program's operands and results, some of which caches
save, over the measured bandwidth; the larger binds. Augmentation: the share of a step that one
without it saves. Sides take turns, so that drift hits both; a ratio is the median over turns, with
least and greatest.

Believe a ratio only on a quiet machine: PyTorch's threads spin, and lose far more than ours to
another program (`NOTES.md`). If one core is free,
`OMP_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false taskset -c 1 python
benchmarks/train_step.py --clock=cpu` compares the two on that one, in processor time.
"""

import json
import os
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

# PyTorch lives in the same process and takes the rest of a GPU's memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from our_side import OBJECTIVES, Case, masks_of_steps, our_side

from repjax.train.chips import CHIPS, measure_bandwidth
from repjax.train.memory import keep_freed_memory
from repjax.train.optimize import kernels

FLAGS = flags.FLAGS
flags.DEFINE_enum("device", None, ["cpu", "gpu", "tpu"], "What to run on; JAX's first choice.")
flags.DEFINE_list("models", None, "ViTs such as vit_s16 and ResNets such as resnet50.")
flags.DEFINE_list("methods", ["supervised"], "Of supervised, simclr and simmim (for ViTs).")
flags.DEFINE_integer("image_size", None, "Side of an image in pixels.", lower_bound=4)
flags.DEFINE_integer("batch_size", None, "Images in a step.", lower_bound=2)
flags.DEFINE_enum("dtype", None, ["float32", "bfloat16"], "Of the computation.")
flags.DEFINE_enum("pool", "mean", ["mean", "cls"], "How a ViT pools; cls adds a class token.")
flags.DEFINE_bool("scan", False, "Compile one block of our ViT and loop; needs --torch=false.")
flags.DEFINE_bool("remat", False, "Recompute our ViT's blocks in the backward pass.")
flags.DEFINE_integer("steps", None, "Steps timed in a turn.", lower_bound=1)
flags.DEFINE_integer("turns", 5, "Turns that each side takes.", lower_bound=1)
flags.DEFINE_enum("clock", "wall", ["wall", "cpu"], "cpu: this process's processor time.")
flags.DEFINE_bool("plain", True, "Time steps without augmentation too.")
flags.DEFINE_list("torch", ["compile"], "Rivals: compile, max-autotune, eager; false for none.")
flags.DEFINE_bool("keep_memory", True, "Keep freed memory on a CPU, as the launchers do.")
flags.DEFINE_string("json", None, "File to write the results to.")


class Defaults(NamedTuple):
  """What a device measures where no flag says otherwise; ``batches`` by model."""

  batches: dict[str, int]
  image_size: int
  dtype: str
  steps: int


LARGE = Defaults({"vit_b16": 256, "vit_l16": 128, "resnet50": 256}, 224, "bfloat16", 10)
DEFAULTS = {"cpu": Defaults({"vit_micro4": 64, "resnet18": 32}, 32, "float32", 3)}
DEFAULTS |= {"gpu": LARGE, "tpu": LARGE}


def clock():
  """Seconds of the wall, or of this process."""
  return time.perf_counter() if FLAGS.clock == "wall" else time.process_time()


def check_equal_work(case, ours, run_theirs, counts):
  """Stops unless the sides have the same parameters, decay the same and lose the same.

  Args:
    case: the row.
    ours: our side, at its first step.
    run_theirs: the rival's ``run(augmented, steps, masks)``, likewise, with our weights.
    counts: the rival's parameters, and those of them that decay.

  Returns:
    Our and their losses of three unaugmented steps.

  Raises:
    ValueError: naming what differs.
  """
  sizes = jax.tree.map(np.size, ours.params)
  decayed = jax.tree.map(lambda size, kernel: size * kernel, sizes, kernels(ours.params))
  expected = tuple(sum(jax.tree.leaves(tree)) for tree in (sizes, decayed))
  if expected != tuple(counts):
    raise ValueError(f"parameters and decayed ones are {expected} on our side, {counts} on theirs")
  masks = masks_of_steps(case, 3) if case.method == "simmim" else None
  a, b = ours.run(False, 3), run_theirs(False, 3, masks)
  # AdamW's first steps follow the signs of gradients, so rounding grows from step to step.
  tolerance = (1e-4, 1e-2, 5e-2) if case.dtype == "float32" else (2e-2, 5e-2, 2e-1)
  if any(abs(x - y) > t * abs(x) for x, y, t in zip(a, b, tolerance, strict=True)):
    raise ValueError(f"unaugmented losses from the same weights are {a} here, {b} under PyTorch")
  return a, b


def matmul_peak(dtype, sizes, repeats):
  """The best rate of a square product under JAX, in FLOP/s."""
  best = 0.0
  for size in sizes:
    x = jax.random.normal(jax.random.key(0), (size, size), jnp.float32) / size**0.5
    chain = jax.jit(lambda x: jax.lax.fori_loop(0, repeats, lambda _, y: y @ x, x))
    x = jax.block_until_ready(chain(x.astype(dtype)))
    for _ in range(6):
      start = clock()
      jax.block_until_ready(chain(x))
      best = max(best, 2 * size**3 * repeats / (clock() - start))
  return best


def machine(device, dtype, rivals):
  """Peak and bandwidth as measured, and the data sheet's peak where it is known."""
  sizes, repeats = ((1024, 2048), 4) if device == "cpu" else ((8192,), 20)
  rates = {"jax": matmul_peak(dtype, sizes, repeats)}
  if rivals:
    import torch_twins

    rates["torch"] = torch_twins.matmul_peak(device, dtype, sizes, repeats, clock)
  first = jax.devices()[0]
  return {
    "device": first.device_kind,
    "cores": os.cpu_count(),
    "load": os.getloadavg()[0],
    "matmul": rates,
    "peak": max(rates.values()),
    "data_sheet": CHIPS[first.device_kind].flops if first.device_kind in CHIPS else None,
    "bandwidth": measure_bandwidth(first),
    "versions": {
      name: metadata.version(name)
      for name in ("jax", "jaxlib", "flax", "optax", *(("torch", "timm") if rivals else ()))
    },
  }


def timed(runs, steps, turns):
  """Seconds per step of each run, ``turns`` of each, in turn."""
  seconds = {name: [] for name in runs}
  for run in runs.values():
    run(2)  # compiles, and warms caches and allocators
  for _ in range(turns):
    for name, run in runs.items():
      start = clock()
      run(steps)
      seconds[name].append((clock() - start) / steps)
  return seconds


def measure(case, hardware, rivals, steps):
  """Builds the sides of a row, checks them and times them."""
  rng = np.random.default_rng(0)
  shape = (case.batch_size, case.image_size, case.image_size, 3)
  image = rng.integers(0, 256, shape, np.uint8)
  label = rng.integers(0, case.classes, case.batch_size).astype(np.int32)
  batch = {"image": image, "label": label}
  ours = our_side(case, batch, (True, False) if FLAGS.plain or rivals else (True,))
  sides, losses, pixels = {"repjax": ours.run}, {}, {}
  for rival in rivals:
    import torch_augment
    import torch_twins

    run, *counts = torch_twins.torch_side(case, batch, ours.params, rival)
    sides[f"torch {rival}"] = run
    if not losses:
      losses["repjax"], losses[rival] = check_equal_work(case, ours, run, counts)
      pixels = torch_augment.largest_difference(image[:4])
      if max(pixels.values()) > 1e-4:
        raise ValueError(f"from the same draws, pixels differ by {pixels}")
  runs = {name: lambda n, run=run: run(True, n) for name, run in sides.items()}
  if FLAGS.plain:
    runs |= {f"{name}, plain": lambda n, run=run: run(False, n) for name, run in sides.items()}
  seconds = timed(runs, steps, FLAGS.turns)

  median = {name: statistics.median(times) for name, times in seconds.items()}
  rate = ours.flops / median["repjax"]
  by_turn = lambda f, a, b: spread([f(*x) for x in zip(seconds[a], seconds[b], strict=True)])
  return case._asdict() | {
    "clock": FLAGS.clock,
    "parameters": sum(map(np.size, jax.tree.leaves(ours.params))),
    "model_flops": ours.flops,
    "traffic": ours.traffic,
    "memory": ours.memory,
    "compile_seconds": ours.compile_seconds,
    "floor_seconds": {
      "matmul": ours.flops / hardware["peak"],
      "memory": ours.traffic / hardware["bandwidth"],
    },
    "seconds": seconds,
    "images_per_second": {name: case.batch_size / t for name, t in median.items()},
    "mfu": {name: ours.flops / t / hardware["peak"] for name, t in median.items()},
    "share_of_data_sheet": hardware["data_sheet"] and rate / hardware["data_sheet"],
    "ratio": {
      name: by_turn(lambda ours, theirs: theirs / ours, "repjax", name)
      for name in sides
      if name != "repjax"
    },
    "augmentation": {
      name: by_turn(lambda full, plain: 1 - plain / full, name, f"{name}, plain")
      for name in sides
      if FLAGS.plain
    },
    "equal_losses": losses,
    "equal_pixels": pixels,
  }


def spread(values):
  """Median, least and greatest."""
  return [statistics.median(values), min(values), max(values)]


def show(row):
  """Prints a row."""
  print(
    f"\n{row['method']}, {row['encoder']}, {row['image_size']} pixels, batch {row['batch_size']}, "
    f"{row['dtype']}, {row['parameters']:,} parameters, {row['model_flops'] / 1e9:,.0f} GFLOP, "
    f"{row['memory'] / 2**30:.2f} GiB, compiled in {row['compile_seconds']:.0f} s"
  )
  for name, times in row["seconds"].items():
    low, high = (row["batch_size"] / t for t in (max(times), min(times)))
    print(
      f"  {name:21} {row['images_per_second'][name]:9,.1f} img/s ({low:,.1f} to {high:,.1f}), "
      f"{1e3 * statistics.median(times):8.1f} ms a step, MFU {row['mfu'][name]:.1%}"
    )
  if row["share_of_data_sheet"]:
    print(f"  repjax: {row['share_of_data_sheet']:.1%} of the data sheet's peak")
  least = row["floor_seconds"]
  parts = ", ".join(f"{name} {1e3 * t:.1f} ms" for name, t in least.items())
  print(f"  floor: {parts}; {max(least, key=least.get)} binds")
  for name, ratio in row["ratio"].items():
    print("  repjax over {}: {:.2f} (turns {:.2f} to {:.2f})".format(name, *ratio))
  for name, share in row["augmentation"].items():
    print("  augmentation's share, {}: {:.2f} (turns {:.2f} to {:.2f})".format(name, *share))
  if row["equal_losses"]:
    texts = [", ".join(f"{x:.5f}" for x in side) for side in row["equal_losses"].values()]
    print(f"  equal work: losses {' and '.join(texts)}; pixels within {row['equal_pixels']}")


def main(_):
  if FLAGS.device:
    jax.config.update("jax_platforms", {"gpu": "cuda"}.get(FLAGS.device, FLAGS.device))
  if FLAGS.keep_memory:
    keep_freed_memory()
  device = jax.default_backend()
  defaults = DEFAULTS[device]
  rivals = [] if FLAGS.torch == ["false"] else FLAGS.torch
  if rivals and (device == "tpu" or FLAGS.scan):
    raise ValueError("no rival runs on a TPU or takes stacked blocks; give --torch=false")
  models = FLAGS.models or list(defaults.batches)
  for method in FLAGS.methods:
    if method not in OBJECTIVES:
      raise ValueError(f"--methods={method} is unknown; choose of {', '.join(OBJECTIVES)}")
    if method == "simmim" and any(model.startswith("resnet") for model in models):
      raise ValueError(
        f"--methods=simmim hides patches and --models={','.join(models)} has a ResNet"
      )
  dtype = FLAGS.dtype or defaults.dtype
  hardware = machine(device, dtype, rivals)
  rates = ", ".join(f"{name} {rate / 1e12:.3f}" for name, rate in hardware["matmul"].items())
  sheet = hardware["data_sheet"]
  print(
    f"{hardware['device']}, {hardware['cores']} cores, load {hardware['load']:.1f}; {dtype} "
    f"products in TFLOP/s: {rates}, data sheet {f'{sheet / 1e12:.0f}' if sheet else 'unknown'}; "
    f"memory {hardware['bandwidth'] / 1e9:.1f} GB/s",
    flush=True,
  )
  rows = []
  for model in models:
    for method in FLAGS.methods:
      case = Case(
        device,
        method,
        model,
        FLAGS.image_size or defaults.image_size,
        FLAGS.batch_size or defaults.batches.get(model, 64),
        dtype,
        FLAGS.pool,
        FLAGS.scan,
        FLAGS.remat,
      )
      rows.append(measure(case, hardware, rivals, FLAGS.steps or defaults.steps))
      show(rows[-1])
      if FLAGS.json:  # after every row, so that a run cut short leaves what it has
        Path(FLAGS.json).write_text(json.dumps({"hardware": hardware, "rows": rows}, indent=1))


if __name__ == "__main__":
  app.run(main)
