"""Encoders beside timm's: images a second forward and in training, as a ratio, in one process.

  pip install -e . && pip install torch timm
  python benchmarks/encoders.py                     # a CPU: float32, batches of 8
  python benchmarks/encoders.py --json=encoders.json  # a GPU: bfloat16, batches of 128
  python benchmarks/encoders.py --models=swin_tiny_patch4_window7_224,tnt_s_patch16_224

Models go by timm's names, any that `repjax.pretrained` loads. The rival is timm's own net under
`torch.compile`, autocast where the dtype is bfloat16, channels last where it is convolutional;
--torch=compile,eager adds one without compilation. Forward ends in the pooled feature. A training
step is forward, backward and AdamW (fused there) on the mean square of the pooled feature, in
training mode. One batch lies on the device.

That the two do equal work is checked in every run and stops it if not: parameters are as many, the
pooled features are equal from the same weights, and so are the losses of two steps.

Ratios are ours over theirs, medians of turns that the sides take one after another, with least and
greatest. Believe them only on a quiet machine: PyTorch's threads spin and lose far more than ours
to another program. `OMP_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false taskset -c 1
python benchmarks/encoders.py --clock=cpu` compares the two on one core, in processor time.
"""

import copy
import json
import os
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

# PyTorch lives in the same process and takes the rest of a GPU's memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import timm
import torch
from absl import app, flags

from repjax.pretrained import timm_model
from repjax.train.flops import count_flops
from repjax.train.memory import keep_freed_memory
from repjax.trees import convert

FLAGS = flags.FLAGS
flags.DEFINE_list("models", None, "timm's names; a choice of families where absent.")
flags.DEFINE_list("parts", ["forward", "train"], "Of forward and train.")
flags.DEFINE_integer("batch_size", None, "Images in a batch.", lower_bound=1)
flags.DEFINE_integer("image_size", 224, "Side of an image, for ViTs.", lower_bound=16)
flags.DEFINE_enum("dtype", None, ["float32", "bfloat16"], "Of the computation.")
flags.DEFINE_list("torch", ["compile"], "Rivals: compile, eager.")
flags.DEFINE_integer("steps", 3, "Batches timed in a turn.", lower_bound=1)
flags.DEFINE_integer("turns", 5, "Turns that each side takes.", lower_bound=1)
flags.DEFINE_enum("clock", "wall", ["wall", "cpu"], "cpu: this process's processor time.")
flags.DEFINE_string("json", None, "File to write the results to.")

MODELS = {
  "cpu": (
    "vit_small_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "vit_base_patch32_clip_224",
    "swin_tiny_patch4_window7_224",
    "crossvit_small_240",
    "tnt_s_patch16_224",
    "convnext_tiny",
    "resnet50",
  )
}
MODELS["gpu"] = ("vit_base_patch16_224", "vit_large_patch16_224", *MODELS["cpu"])


class Sides(NamedTuple):
  """Both sides of a model, with equal weights.

  Attributes:
    encoder: ours.
    variables: its own.
    theirs: timm's module.
    side: of an image, in pixels.
  """

  encoder: nn.Module
  variables: Any
  theirs: torch.nn.Module
  side: int


def clock() -> float:
  """Seconds of the wall, or of this process."""
  return time.perf_counter() if FLAGS.clock == "wall" else time.process_time()


def make(name: str, dtype: str) -> Sides:
  """Makes a model on both sides and checks that they are the same.

  Args:
    name: timm's.
    dtype: of our computation.

  Returns:
    The sides.

  Raises:
    ValueError: if the numbers of parameters differ.
  """
  sized = {"img_size": FLAGS.image_size} if name.startswith(("vit_", "deit")) else {}
  still = {"drop_path_rate": 0.0} if name.startswith("swin") else {}
  theirs = timm.create_model(name, num_classes=0, **sized, **still).eval()
  side = 240 if name.startswith("crossvit") else sized.get("img_size", 224)
  state = {k: v.numpy() for k, v in theirs.state_dict().items()}
  model = timm_model(name)
  encoder = model.encoder.clone(dtype=jnp.dtype(dtype))
  if sized and getattr(encoder, "image_size", None):
    encoder = encoder.clone(image_size=FLAGS.image_size // encoder.patch_size * encoder.patch_size)
  example = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  like = jax.eval_shape(encoder.init, jax.random.key(0), example)
  variables = convert(state, model.rules, like, unused=model.unused, name=name)
  # Some have parameters here that are zero there and not stored.
  absent = {path for rule in model.rules if rule.theirs is None for path in rule.ours}
  sizes = flax.traverse_util.flatten_dict(
    {"params": jax.tree.map(np.size, like["params"])}, sep="/"
  )
  ours = sum(size for path, size in sizes.items() if path not in absent)
  other = sum(p.numel() for p in theirs.parameters())
  if ours != other:
    raise ValueError(f"{name} has {ours:,} parameters here and {other:,} in timm")
  return Sides(encoder, variables, theirs, side)


def our_runs(sides: Sides, image: np.ndarray) -> dict[str, Callable[[int], Any]]:
  """Our programs: ``run(batches)`` ends when the last is done."""
  encoder, image = sides.encoder, jax.device_put(image)
  held = {k: jax.device_put(v) for k, v in sides.variables.items()}
  apply = jax.jit(lambda variables, image: encoder.apply(variables, image).pooled)
  optimizer = optax.adamw(1e-4, weight_decay=0.05)

  def loss(params, rest, image):
    variables = {"params": params, **rest}
    features, rest = encoder.apply(variables, image, train=True, mutable=list(rest))
    return jnp.mean(jnp.square(features.pooled.astype(jnp.float32))), rest

  def step(params, rest, moments, image):
    (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(params, rest, image)
    updates, moments = optimizer.update(grads, moments, params)
    return optax.apply_updates(params, updates), rest, moments, value

  step = jax.jit(step, donate_argnums=(0, 1, 2))
  fresh = jax.tree.map(jnp.copy, held)
  state = [fresh.pop("params"), fresh, None]
  state[2] = jax.jit(optimizer.init)(state[0])

  def forward(batches):
    for _ in range(batches):
      out = apply(held, image)
    return np.asarray(jax.block_until_ready(out), np.float32)

  def train(batches):
    losses = []
    for _ in range(batches):
      *state[:], value = step(*state, image)
      losses.append(value)
    return [float(x) for x in jax.block_until_ready(losses)]

  return {"forward": forward, "train": train}


def their_runs(
  sides: Sides, image: np.ndarray, dtype: str, rival: str
) -> dict[str, Callable[[int], Any]]:
  """Their programs, likewise."""
  device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
  layout = torch.contiguous_format
  if any(isinstance(m, torch.nn.BatchNorm2d) for m in sides.theirs.modules()):
    layout = torch.channels_last
  nets = [copy.deepcopy(sides.theirs).to(device, memory_format=layout) for _ in range(2)]
  image = torch.from_numpy(image).permute(0, 3, 1, 2).contiguous().to(device, memory_format=layout)
  still, learns = nets[0].eval(), nets[1].train()
  compiled = [torch.compile(net) if rival == "compile" else net for net in (still, learns)]
  optimizer = torch.optim.AdamW(learns.parameters(), 1e-4, weight_decay=0.05, fused=True)
  cast = lambda: torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")
  wait = torch.cuda.synchronize if device == "cuda" else lambda: None

  def forward(batches):
    with torch.inference_mode(), cast():
      for _ in range(batches):
        out = compiled[0](image)
    wait()
    return out.float().cpu().numpy()

  def train(batches):
    losses = []
    for _ in range(batches):
      with cast():
        value = compiled[1](image).float().square().mean()
      optimizer.zero_grad(set_to_none=True)
      value.backward()
      optimizer.step()
      losses.append(value.detach())
    wait()
    return [float(x) for x in losses]

  return {"forward": forward, "train": train}


def check_equal_work(name: str, part: str, ours, theirs, dtype: str) -> float:
  """Stops unless both sides answer the same.

  Args:
    name: of the model.
    part: forward or train.
    ours: pooled features, or losses of two steps.
    theirs: likewise.
    dtype: computed in.

  Returns:
    The largest difference over the largest value.

  Raises:
    ValueError: if it is beyond rounding.
  """
  ours, theirs = np.asarray(ours), np.asarray(theirs)
  difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
  if difference > (2e-3 if dtype == "float32" else 5e-2):
    raise ValueError(f"{name}, {part}: from the same weights the sides differ by {difference:.1e}")
  return difference


def measure(name: str, dtype: str, batch: int) -> list[dict[str, Any]]:
  """Rows of a model, one a part."""
  sides = make(name, dtype)
  shape = (batch, sides.side, sides.side, 3)
  image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  runs = {"repjax": our_runs(sides, image)}
  for rival in FLAGS.torch:
    runs[f"timm {rival}"] = their_runs(sides, image, dtype, rival)
  work = count_flops(sides.encoder.apply, sides.variables, jnp.asarray(image[:1])) / 2
  rows = []
  for part in FLAGS.parts:
    first = {side: run[part](1 if part == "forward" else 2) for side, run in runs.items()}
    equal = {
      side: check_equal_work(name, part, first["repjax"], answer, dtype)
      for side, answer in first.items()
      if side != "repjax"
    }
    for run in runs.values():
      run[part](3)  # the heap grows for a few steps, until it has a gap for every temporary
    seconds = {side: [] for side in runs}
    for _ in range(FLAGS.turns):
      for side, run in runs.items():
        start = clock()
        run[part](FLAGS.steps)
        seconds[side].append((clock() - start) / FLAGS.steps)
    ratios = {
      side: spread([b / a for a, b in zip(seconds["repjax"], times, strict=True)])
      for side, times in seconds.items()
      if side != "repjax"
    }
    rows.append(
      {
        "model": name,
        "part": part,
        "batch_size": batch,
        "image_size": sides.side,
        "dtype": dtype,
        "parameters": sum(map(np.size, jax.tree.leaves(sides.variables["params"]))),
        "multiply_adds": work,
        "seconds": seconds,
        "images_per_second": {s: batch / statistics.median(t) for s, t in seconds.items()},
        "ratio": ratios,
        "difference": equal,
      }
    )
    show(rows[-1])
  return rows


def spread(values: list[float]) -> list[float]:
  """Median, least and greatest."""
  return [statistics.median(values), min(values), max(values)]


def show(row: dict[str, Any]) -> None:
  """Prints a row."""
  rates = ", ".join(f"{side} {rate:.1f}" for side, rate in row["images_per_second"].items())
  ratios = "; ".join(
    f"over {side} {median:.2f} ({low:.2f} to {high:.2f})"
    for side, (median, low, high) in row["ratio"].items()
  )
  print(f"{row['model']:32} {row['part']:8} img/s: {rates}; {ratios}", flush=True)


def main(_) -> None:
  """Measures all models and shows them."""
  keep_freed_memory()
  device = jax.default_backend()
  dtype = FLAGS.dtype or ("float32" if device == "cpu" else "bfloat16")
  batch = FLAGS.batch_size or (8 if device == "cpu" else 128)
  hardware = {
    "device": jax.devices()[0].device_kind,
    "cores": os.cpu_count(),
    "load": os.getloadavg()[0],
    "clock": FLAGS.clock,
    "versions": {x: metadata.version(x) for x in ("jax", "jaxlib", "flax", "torch", "timm")},
  }
  print(json.dumps(hardware), flush=True)
  rows = []
  for name in FLAGS.models or MODELS[device]:
    rows += measure(name, dtype, batch)
    torch._dynamo.reset()
    if FLAGS.json:  # after every model, so that a run cut short leaves what it has
      Path(FLAGS.json).write_text(json.dumps({"hardware": hardware, "rows": rows}, indent=1))


if __name__ == "__main__":
  app.run(main)
