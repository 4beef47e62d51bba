"""A training step: images per second, share of the machine's peak, what binds it; beside PyTorch.

  pip install -e . && pip install torch timm
  python benchmarks/train_step.py                        # a CPU: float32, small nets, two minutes
  python benchmarks/train_step.py --json=step.json       # a GPU: bfloat16, ViT-B and L, ResNet-50
  python benchmarks/train_step.py --models=vit_b16 --methods=simclr,simmim --torch=false

Ours is a learner's update under `jax.jit` with its state donated, as launchers run it. The rival is
timm's net of the same shape with `torch.compile`, autocast where the dtype is bfloat16, channels
last for a ResNet, and fused AdamW. Both augment on the device, inside of the step, from the same
distributions: crop and flip, for SimCLR also colour jitter, grey and blur. Data does not move: one
batch of bytes lies on the device.

That the two do equal work is checked in every run and stops it if not: parameters are as many, and
so are those that decay; from the same weights, three unaugmented steps give the same losses; and
each augmentation, given the same draws, gives the same pixels. Our step also reports the gradient's
norm, theirs does not.

Terms. MFU: the step's matmul FLOPs, counted in the traced program without augmentation (forward
times 3 less the first layer's input gradient; recomputation does not count) over the best rate that
a square product of this dtype reaches here, in this process, under JAX or PyTorch. Floor: the
larger of FLOPs over that rate and bytes over the measured bandwidth; the bytes are the compiled
program's operands and results, which caches may save and which leave out what loops repeat.
Augmentation: what the step is longer by than one without. Sides take turns, so that drift hits
both; a ratio is the median over turns, with least and greatest.

Believe a ratio only on a quiet machine: PyTorch's threads spin, and lose far more than ours to
another program (`NOTES.md`). If one core is free,
`OMP_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false taskset -c 1 python
benchmarks/train_step.py --clock=cpu` compares the two on that one, in processor time.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# PyTorch lives in the same process and takes the rest of a GPU's memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from repjax.augment import crop_flip, normalize, random_mask, simclr_augment
from repjax.encoders import MLP, resnet, vit
from repjax.learners import by_gradient, simclr, simmim, supervised
from repjax.learners.learner import example_keys
from repjax.train.flops import count_flops, peak_flops
from repjax.train.memory import keep_freed_memory
from repjax.train.optimize import adamw, kernels

FLAGS = flags.FLAGS
flags.DEFINE_enum("device", None, ["cpu", "gpu", "tpu"], "What to run on; JAX's first choice.")
flags.DEFINE_list("models", None, "ViTs such as vit_s16 and ResNets such as resnet50.")
flags.DEFINE_list("methods", ["supervised"], "Of supervised, simclr and simmim (for ViTs).")
flags.DEFINE_integer("image_size", None, "Side of an image in pixels.", lower_bound=4)
flags.DEFINE_integer("batch_size", None, "Images in a step.", lower_bound=2)
flags.DEFINE_enum("dtype", None, ["float32", "bfloat16"], "Of the computation.")
flags.DEFINE_enum("pool", "mean", ["mean", "cls"], "How a ViT pools; cls adds a class token.")
flags.DEFINE_bool("scan", False, "Compile one block of our ViT and loop.")
flags.DEFINE_bool("remat", False, "Recompute our ViT's blocks in the backward pass.")
flags.DEFINE_integer("steps", None, "Steps timed in a turn.", lower_bound=1)
flags.DEFINE_integer("turns", 5, "Turns that each side takes.", lower_bound=1)
flags.DEFINE_enum("clock", "wall", ["wall", "cpu"], "cpu: this process's processor time.")
flags.DEFINE_bool("plain", True, "Time steps without augmentation too.")
flags.DEFINE_bool("torch", None, "Time PyTorch too; on CPU and GPU unless set to false.")
flags.DEFINE_bool("compile", True, "Use torch.compile; if false, eager PyTorch.")
flags.DEFINE_string("compile_mode", "default", "Of torch.compile, such as max-autotune.")
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


class Case(NamedTuple):
  """One row that is measured; both sides are built from it."""

  device: str
  method: str
  encoder: str
  net: Any  # our module
  dim: int
  image_size: int
  batch_size: int
  dtype: str
  pool: str
  compile: bool
  compile_mode: str
  classes: int = 1000
  projector: tuple[int, int] = (2048, 128)
  temperature: float = 0.5
  ratio: float = 0.6
  min_area: float = 0.2
  strength: float = 1.0
  mean: tuple[float, ...] = (0.485, 0.456, 0.406)
  std: tuple[float, ...] = (0.229, 0.224, 0.225)
  learning_rate: float = 1e-3
  weight_decay: float = 0.05


# --- our side -------------------------------------------------------------------------------------


def supervised_objective(case, augmented):
  """Cross entropy of 1,000 classes."""
  augment = crop_flip(case.image_size, min_area=case.min_area) if augmented else unchanged
  return supervised(case.net, case.classes, augment, normalize=normalizer(case))


def simclr_objective(case, augmented):
  """SimCLR with a projector of two layers; a batch of n is 2 n views."""
  view = simclr_augment(case.image_size, strength=case.strength, min_area=case.min_area)
  projector = MLP(case.projector, norm="batch", dtype=case.dtype)
  return simclr(
    case.net,
    projector,
    view if augmented else unchanged,
    normalize=normalizer(case),
    temperature=case.temperature,
  )


def simmim_objective(case, augmented):
  """SimMIM, patches hidden one by one."""
  augment = crop_flip(case.image_size, min_area=case.min_area) if augmented else unchanged
  return simmim(
    case.net,
    augment,
    patch_size=case.net.patch_size,
    normalize=normalizer(case),
    ratio=case.ratio,
  )


OBJECTIVES = {
  "supervised": supervised_objective,
  "simclr": simclr_objective,
  "simmim": simmim_objective,
}


def unchanged(key, image):
  """No augmentation."""
  return image


def normalizer(case):
  """The last step before the encoder."""
  return lambda image: normalize(image, case.mean, case.std)


def step_key(step):
  """What a step's draws come from."""
  return jax.random.fold_in(jax.random.key(1), step)


class Ours(NamedTuple):
  """Our side: ``run(augmented, steps) -> losses``, and what the floor is made of."""

  run: Callable[[bool, int], list[float]]
  params: Any
  flops: float
  bytes: float
  memory: int
  compile_seconds: float


def our_side(case, batch):
  """Compiles the step with and without augmentation, around one state."""
  optimizer = adamw(case.learning_rate, weight_decay=case.weight_decay)
  learner = {
    augmented: by_gradient(OBJECTIVES[case.method](case, augmented), optimizer)
    for augmented in ((True, False) if FLAGS.plain or FLAGS.torch else (True,))
  }
  batch = jax.device_put(batch)
  state = jax.jit(learner[True].init)(jax.random.key(0), jax.tree.map(lambda x: x[:2], batch))
  params = jax.tree.map(np.asarray, state.params)

  def compiled(augmented):
    update = lambda state, batch, step: learner[augmented].update(state, batch, step_key(step))
    return jax.jit(update, donate_argnums=0).lower(state, batch, np.int32(0)).compile()

  start = time.perf_counter()
  programs = {True: compiled(True)}
  compile_seconds = time.perf_counter() - start
  programs |= {augmented: compiled(augmented) for augmented in learner if not augmented}
  memory = programs[True].memory_analysis()
  step = 0

  def run(augmented, steps):
    nonlocal state, step
    losses = []
    for _ in range(steps):
      state, metrics = programs[augmented](state, batch, np.int32(step))
      losses.append(metrics["loss"])
      step += 1
    jax.block_until_ready(state)
    return [float(loss) for loss in losses]

  plain = by_gradient(OBJECTIVES[case.method](case, False), optimizer)
  return Ours(
    run,
    params,
    count_flops(plain.update, state, batch, step_key(0)),
    float((programs[True].cost_analysis() or {}).get("bytes accessed", 0.0)),
    memory.temp_size_in_bytes + memory.argument_size_in_bytes,
    compile_seconds,
  )


# --- equal work -----------------------------------------------------------------------------------


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
  masks = None
  if case.method == "simmim":
    # As `simmim` draws them, from the second half of a step's key.
    grid = (case.image_size // case.net.patch_size,) * 2
    draw = jax.jit(jax.vmap(lambda key: random_mask(key, grid, ratio=case.ratio).reshape(-1)))
    keys = [jax.random.split(step_key(i))[1] for i in range(3)]
    masks = [np.array(draw(example_keys(key, case.batch_size))) for key in keys]
  a, b = ours.run(False, 3), run_theirs(False, 3, masks)
  # AdamW's first steps follow the signs of gradients, so rounding grows from step to step.
  tolerance = (1e-4, 1e-2, 5e-2) if case.dtype == "float32" else (2e-2, 5e-2, 2e-1)
  if any(abs(x - y) > t * abs(x) for x, y, t in zip(a, b, tolerance, strict=True)):
    raise ValueError(f"unaugmented losses from the same weights are {a} here, {b} under PyTorch")
  return a, b


# --- what the machine can do ----------------------------------------------------------------------


def matmul_peak(dtype, sizes, repeats):
  """The best rate of a square product under JAX, in FLOP/s."""
  best = 0.0
  for size in sizes:
    x = jax.random.normal(jax.random.key(0), (size, size), jnp.float32) / size**0.5
    x = x.astype(dtype)
    chain = jax.jit(lambda x: jax.lax.fori_loop(0, repeats, lambda _, y: y @ x, x))
    jax.block_until_ready(chain(x))
    for _ in range(6):
      start = time.perf_counter()
      jax.block_until_ready(chain(x))
      best = max(best, 2 * size**3 * repeats / (time.perf_counter() - start))
  return best


def bandwidth(megabytes):
  """Bytes per second of ``y + a x`` over arrays beyond any cache: two reads and a write."""
  x = jnp.ones(megabytes * 2**18, jnp.float32)
  y = jnp.ones_like(x)
  add = jax.jit(lambda x, y: y + 1.5 * x, donate_argnums=1)
  y = jax.block_until_ready(add(x, y))
  best = 0.0
  for _ in range(6):
    start = time.perf_counter()
    y = jax.block_until_ready(add(x, y))
    best = max(best, 3 * x.nbytes / (time.perf_counter() - start))
  return best


def machine(device, dtype, with_torch):
  """Peak and bandwidth measured, and the data sheet's peak where it is known."""
  sizes, repeats, megabytes = ((1024, 2048), 4, 256) if device == "cpu" else ((8192,), 20, 2048)
  rates = {"jax": matmul_peak(dtype, sizes, repeats)}
  if with_torch:
    import torch_twins

    rates["torch"] = torch_twins.matmul_peak(device, dtype, sizes, repeats)
  sheet, source = peak_flops(jax.devices()[0])
  return {
    "device": jax.devices()[0].device_kind,
    "cores": os.cpu_count(),
    "load": os.getloadavg()[0],
    "matmul": rates,
    "peak": max(rates.values()),
    "data_sheet": sheet if source.startswith("data sheet") else None,
    "bandwidth": bandwidth(megabytes),
  }


# --- one row --------------------------------------------------------------------------------------


def timed(runs, steps, turns):
  """Seconds per step of each run, ``turns`` of each, in turn."""
  clock = time.perf_counter if FLAGS.clock == "wall" else time.process_time
  seconds = {name: [] for name in runs}
  for run in runs.values():
    run(2)  # compiles, and warms caches and allocators
  for _ in range(turns):
    for name, run in runs.items():
      start = clock()
      run(steps)
      seconds[name].append((clock() - start) / steps)
  return seconds


def measure(case, hardware, steps):
  """Builds both sides of a row, checks them and times them."""
  rng = np.random.default_rng(0)
  shape = (case.batch_size, case.image_size, case.image_size, 3)
  image = rng.integers(0, 256, shape, np.uint8)
  label = rng.integers(0, case.classes, case.batch_size).astype(np.int32)
  batch = {"image": image, "label": label}
  ours = our_side(case, batch)
  runs = {"repjax": lambda n: ours.run(True, n)}
  equal = {}
  if FLAGS.torch:
    import torch_augment
    import torch_twins

    run_theirs, *counts = torch_twins.torch_side(case, batch, ours.params)
    equal["losses"] = check_equal_work(case, ours, run_theirs, counts)
    equal["pixels"] = torch_augment.largest_difference(image[:4])
    if max(equal["pixels"].values()) > 1e-5:
      raise ValueError(f"from the same draws, pixels differ by {equal['pixels']}")
    runs["torch"] = lambda n: run_theirs(True, n)
  if FLAGS.plain:
    runs["repjax plain"] = lambda n: ours.run(False, n)
    if FLAGS.torch:
      runs["torch plain"] = lambda n: run_theirs(False, n)
  seconds = timed(runs, steps, FLAGS.turns)

  least = {"matmul": ours.flops / hardware["peak"], "memory": None}
  if ours.bytes and not FLAGS.scan:  # a loop's body is counted once
    least["memory"] = ours.bytes / hardware["bandwidth"]
  median = statistics.median(seconds["repjax"])
  row = {
    "method": case.method,
    "model": case.encoder,
    "image_size": case.image_size,
    "batch_size": case.batch_size,
    "dtype": case.dtype,
    "pool": case.pool,
    "scan": FLAGS.scan,
    "remat": FLAGS.remat,
    "torch_compile": case.compile_mode if case.compile else "eager",
    "clock": FLAGS.clock,
    "parameters": sum(map(np.size, jax.tree.leaves(ours.params))),
    "model_flops": ours.flops,
    "bytes": ours.bytes,
    "memory": ours.memory,
    "compile_seconds": ours.compile_seconds,
    "floor_seconds": least,
    "mfu": ours.flops / median / hardware["peak"],
    "mfu_data_sheet": hardware["data_sheet"] and ours.flops / median / hardware["data_sheet"],
    "seconds": seconds,
    "images_per_second": {k: case.batch_size / statistics.median(v) for k, v in seconds.items()},
    "equal_work": equal,
  }
  if FLAGS.torch:
    row["ratio"] = spread([t / r for r, t in zip(seconds["repjax"], seconds["torch"], strict=True)])
  for side in ("repjax", "torch"):
    if f"{side} plain" in seconds:
      pairs = zip(seconds[side], seconds[f"{side} plain"], strict=True)
      row[f"augmentation_{side}"] = spread([1 - plain / full for full, plain in pairs])
  return row


def spread(values):
  """Median, least and greatest."""
  return [statistics.median(values), min(values), max(values)]


def show(row, hardware):
  """Prints a row."""
  print(
    f"\n{row['method']}, {row['model']}, {row['image_size']} pixels, batch {row['batch_size']}, "
    f"{row['dtype']}, {row['parameters']:,} parameters, {row['model_flops'] / 1e9:,.0f} GFLOP, "
    f"{row['memory'] / 2**30:.2f} GiB, compiled in {row['compile_seconds']:.0f} s"
  )
  for name, times in row["seconds"].items():
    low, high = (row["batch_size"] / t for t in (max(times), min(times)))
    print(
      f"  {name:13} {row['images_per_second'][name]:9,.1f} img/s ({low:,.1f} to {high:,.1f}), "
      f"{1e3 * statistics.median(times):8.1f} ms a step, "
      f"MFU {row['model_flops'] / statistics.median(times) / hardware['peak']:.1%}"
    )
  if row["mfu_data_sheet"]:
    print(f"  repjax: {row['mfu_data_sheet']:.1%} of the data sheet's peak")
  least = {name: t for name, t in row["floor_seconds"].items() if t is not None}
  parts = ", ".join(f"{name} {1e3 * t:.1f} ms" for name, t in least.items())
  print(f"  floor: {parts}; {max(least, key=least.get)} binds")
  for name, label in (
    ("ratio", "repjax over torch"),
    ("augmentation_repjax", "augmentation's share, repjax"),
    ("augmentation_torch", "augmentation's share, torch"),
  ):
    if name in row:
      print("  {}: {:.2f} (turns {:.2f} to {:.2f})".format(label, *row[name]))
  if row["equal_work"]:
    ours, theirs = (", ".join(f"{x:.5f}" for x in side) for side in row["equal_work"]["losses"])
    print(f"  equal work: losses {ours} and {theirs}, pixels {row['equal_work']['pixels']}")


def make_case(device, method, model, batch_size, image_size, dtype):
  """The row of a method and a model."""
  if method not in OBJECTIVES:
    raise ValueError(f"--methods={method} is unknown; choose of {', '.join(OBJECTIVES)}")
  if model.startswith("resnet"):
    stem = "cifar" if image_size < 64 else "imagenet"
    net = resnet(model, stem=stem, dtype=jnp.dtype(dtype))
    dim = net.width * 8 * (4 if net.bottleneck else 1)
  else:
    net = vit(
      model, pool=FLAGS.pool, positions="learned", scan=FLAGS.scan, remat=FLAGS.remat,
      dtype=jnp.dtype(dtype),
    )  # fmt: skip
    dim = net.dim
  return Case(
    device, method, model, net, dim, image_size, batch_size, dtype, FLAGS.pool, FLAGS.compile,
    FLAGS.compile_mode,
  )  # fmt: skip


def main(_):
  if FLAGS.device:
    jax.config.update("jax_platforms", {"gpu": "cuda"}.get(FLAGS.device, FLAGS.device))
  device = jax.default_backend()
  defaults = DEFAULTS[device]
  if FLAGS.torch is None:
    FLAGS.torch = device != "tpu"
  if FLAGS.torch and (device == "tpu" or FLAGS.scan):
    raise ValueError("no rival runs on a TPU or loads stacked blocks; give --torch=false")
  if device == "cpu" and FLAGS.keep_memory:
    keep_freed_memory()
  dtype = FLAGS.dtype or defaults.dtype
  hardware = machine(device, dtype, FLAGS.torch)
  print(
    f"{hardware['device']}, {hardware['cores']} cores, load {hardware['load']:.1f}; {dtype} "
    f"products {hardware['peak'] / 1e12:.3f} TFLOP/s ({hardware['matmul']}), data sheet "
    f"{hardware['data_sheet']}; memory {hardware['bandwidth'] / 1e9:.1f} GB/s",
    flush=True,
  )
  rows = []
  for model in FLAGS.models or list(defaults.batches):
    for method in FLAGS.methods:
      if method == "simmim" and model.startswith("resnet"):
        raise ValueError(f"--methods=simmim has no patches to hide in --models={model}; name a ViT")
      batch_size = FLAGS.batch_size or defaults.batches.get(model, 64)
      image_size = FLAGS.image_size or defaults.image_size
      case = make_case(device, method, model, batch_size, image_size, dtype)
      rows.append(measure(case, hardware, FLAGS.steps or defaults.steps))
      show(rows[-1], hardware)
      if FLAGS.json:  # after every row, so that a run cut short leaves what it has
        found = {"hardware": hardware, "versions": versions(), "rows": rows}
        Path(FLAGS.json).write_text(json.dumps(found, indent=1))


def versions():
  """Of what the numbers depend on."""
  from importlib import metadata

  names = ("jax", "jaxlib", "flax", "optax", *(("torch", "timm") if FLAGS.torch else ()))
  return {name: metadata.version(name) for name in names}


if __name__ == "__main__":
  app.run(main)
