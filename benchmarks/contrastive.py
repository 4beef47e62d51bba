"""Memory and time of contrastive losses, value and gradient, beside other libraries in one run.

  pip install -e . && pip install torch open_clip_torch pytorch-metric-learning
  python benchmarks/contrastive.py
  python benchmarks/contrastive.py --losses=clip --batch_sizes=65536 --dim=512 \
    --precision=BF16_BF16_F32 --time_up_to=65536 --notorch        # on a GPU

Two losses: `nt_xent` (two views, so twice the batch in rows) beside optax's and that of
pytorch-metric-learning, and `clip` beside a plain product in JAX and open_clip's. Temporaries are
read off the compiled program, so that sizes which fit no machine are listed too; PyTorch's are the
growth of a child process's peak resident memory (on a GPU, of the allocator's peak). Times are
medians of turns that our sides take one after another. The share of the peak is model FLOPs (one
product forward, two backward, of all rows with all) over the rate of a plain product of these
sizes, measured in the same run; a batch compared with itself needs only half of them.
"""

import functools
import multiprocessing
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from repjax import losses
from repjax.losses.pairs import default_tile_size
from repjax.train.memory import keep_freed_memory
from repjax.train.mesh import batch_sharding, make_mesh

FLAGS = flags.FLAGS
flags.DEFINE_multi_enum("losses", ["nt_xent", "clip"], ["nt_xent", "clip"], "Which to compare.")
flags.DEFINE_list("batch_sizes", ["256", "1024", "4096", "32768", "131072"], "Pairs in a batch.")
flags.DEFINE_integer("dim", 256, "Size of an embedding.", lower_bound=1)
flags.DEFINE_integer("time_up_to", 4096, "Largest batch that is run and not only compiled.")
flags.DEFINE_integer("turns", 5, "Turns that each side takes.", lower_bound=1)
flags.DEFINE_string("precision", "highest", "Of our products.")
flags.DEFINE_bool("torch", True, "Compare with PyTorch too.")
flags.DEFINE_integer("devices", 8, "Simulated devices of the ring; CPU only.", lower_bound=1)

TEMPERATURE = 0.1
MIB = 2**20


def plain_clip(image, text):
  """What a reader would write."""
  image, text = (x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (image, text))
  logits = image @ text.T / TEMPERATURE
  own = jnp.diagonal(logits)
  return (jax.nn.logsumexp(logits, 1) + jax.nn.logsumexp(logits, 0)) / 2 - own


def optax_nt_xent(z_1, z_2):
  labels = jnp.tile(jnp.arange(len(z_1)), 2)
  return optax.losses.ntxent(jnp.concatenate([z_1, z_2]), labels, TEMPERATURE)


def jax_sides(name):
  ours = getattr(losses, name)
  ours = functools.partial(ours, temperature=TEMPERATURE, precision=FLAGS.precision)
  rivals = {"nt_xent": ("optax", optax_nt_xent), "clip": ("plain JAX", plain_clip)}
  return {
    "repjax dense": functools.partial(ours, tile_size=0),
    "repjax tiled": functools.partial(ours, tile_size=default_tile_size()),
    rivals[name][0]: rivals[name][1],
  }


def value_and_grad(loss):
  return jax.value_and_grad(lambda a, b: jnp.mean(loss(a, b)), (0, 1))


def compiled(loss, batch):
  shape = jax.ShapeDtypeStruct((batch, FLAGS.dim), jnp.float32)
  return jax.jit(value_and_grad(loss)).lower(shape, shape).compile()


def temporaries(program):
  return program.memory_analysis().temp_size_in_bytes / MIB


def inputs(batch):
  return np.random.default_rng(0).normal(size=(2, batch, FLAGS.dim)).astype(np.float32)


def torch_loss(name):
  """``(a, b) -> loss`` in PyTorch, of inputs that are not normalised."""
  import torch

  if name == "clip":
    from open_clip.loss import ClipLoss

    loss, unit = ClipLoss(), torch.nn.functional.normalize
    return lambda a, b: loss(unit(a), unit(b), 1 / TEMPERATURE)
  from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss

  return SelfSupervisedLoss(NTXentLoss(temperature=TEMPERATURE))


def run_torch(name, batch, dim, turns, pipe):
  """In a child: the growth of its peak memory in MiB, and seconds of each turn."""
  import torch

  device = "cuda" if torch.cuda.is_available() else "cpu"
  loss = torch_loss(name)
  data = np.random.default_rng(0).normal(size=(2, batch, dim)).astype(np.float32)
  views = [torch.from_numpy(x).to(device).requires_grad_() for x in data]

  def step():
    for view in views:
      view.grad = None
    loss(*views).backward()
    if device == "cuda":
      torch.cuda.synchronize()

  def peak():
    """Since the last call."""
    if device == "cuda":
      size = torch.cuda.max_memory_allocated() / MIB
      torch.cuda.reset_peak_memory_stats()
      return size
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    size = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # from now on
    return size

  # A small batch first, so that what the libraries themselves load is not counted.
  loss(*(view[:4] for view in views)).backward()
  peak()
  before = peak()
  step()
  grown = peak() - before
  seconds = []
  for _ in range(turns):
    start = time.perf_counter()
    step()
    seconds.append(time.perf_counter() - start)
  pipe.send((grown, seconds))


def torch_side(name, batch):
  """The child's answer, or None where it died for want of memory."""
  context = multiprocessing.get_context("spawn")
  ours, theirs = context.Pipe(duplex=False)
  # Memory of pairs (and, in pytorch-metric-learning, triples) is not to bring the machine down.
  child = context.Process(target=run_torch, args=(name, batch, FLAGS.dim, FLAGS.turns, theirs))
  child.start()
  theirs.close()
  try:
    return ours.recv()
  except EOFError:
    return None
  finally:
    child.join()


def matmul_peak(batch):
  """FLOP/s of a plain product of these sizes, the best of a few."""
  low = FLAGS.precision not in ("highest", "float32")
  a = jnp.asarray(inputs(min(batch, 16384))[0], jnp.bfloat16 if low else jnp.float32)
  product = jax.jit(lambda a: jnp.matmul(a, a.T, precision=None if low else "highest"))
  jax.block_until_ready(product(a))
  seconds = []
  for _ in range(5):
    start = time.perf_counter()
    jax.block_until_ready(product(a))
    seconds.append(time.perf_counter() - start)
  return 2 * len(a) ** 2 * FLAGS.dim / min(seconds)


def compare(name, batch):
  sides = jax_sides(name)
  programs = {side: compiled(loss, batch) for side, loss in sides.items()}
  memory = {side: temporaries(program) for side, program in programs.items()}
  seconds = {side: [] for side in sides}
  timed = batch <= FLAGS.time_up_to
  # Where a program would not fit this machine, its memory is all that there is to say.
  limit = memory_limit()
  if timed:
    views = jax.device_put(list(inputs(batch)))
    runnable = [side for side in sides if memory[side] < limit]
    for side in runnable:
      jax.block_until_ready(programs[side](*views))
    for _ in range(FLAGS.turns):
      for side in runnable:
        start = time.perf_counter()
        jax.block_until_ready(programs[side](*views))
        seconds[side].append(time.perf_counter() - start)
    del views
  rival = {"nt_xent": "pytorch-metric-learning", "clip": "open_clip"}[name]
  rows = (2 if name == "nt_xent" else 1) * batch
  cubic = rows**3 * 8 / MIB if name == "nt_xent" else rows**2 * 4 * 4 / MIB
  if FLAGS.torch and timed and cubic < limit:
    answer = torch_side(name, batch)
    if answer:
      memory[rival], seconds[rival] = answer

  peak = matmul_peak(rows) if timed else None
  base = statistics.median(seconds["repjax dense"]) if seconds["repjax dense"] else None
  print(f"\n{name}, batch {batch:,}, dim {FLAGS.dim}", end="")
  print(f", products at {peak / 1e9:.0f} GFLOP/s" if peak else "")
  print(f"  {'':24}{'temporaries':>14}{'time':>12}{'of dense':>10}{'of peak':>9}")
  for side, mib in memory.items():
    line = f"  {side:24}{mib:>10,.1f} MiB"
    if seconds.get(side):
      median = statistics.median(seconds[side])
      line += f"{1e3 * median:>9,.1f} ms"
      line += f"{median / base:>10.2f}" if base else f"{'':>10}"
      line += f"{6 * rows**2 * FLAGS.dim / median / peak:>9.0%}"
    print(line, flush=True)
  if FLAGS.torch and timed and cubic >= limit:
    print(f"  {rival:24}{'not run: more than ' + format(limit, ',.0f') + ' MiB':>14}")


def memory_limit():
  """MiB that a run may take."""
  if jax.default_backend() == "cpu":
    with open("/proc/meminfo") as lines:
      free = next(line for line in lines if line.startswith("MemAvailable"))
    return 0.6 * int(free.split()[1]) / 1024
  return 0.8 * jax.devices()[0].memory_stats()["bytes_limit"] / MIB


def rings(names, batch_sizes, dim, devices):
  """In a child with simulated devices: temporaries of each, on a ring and on a mesh under jit."""
  jax.config.update("jax_num_cpu_devices", devices)
  mesh = make_mesh()
  shape = functools.partial(jax.ShapeDtypeStruct, sharding=batch_sharding(mesh))
  for name in names:
    ours = functools.partial(getattr(losses, name), temperature=TEMPERATURE)
    for batch in batch_sizes:
      if batch % mesh.size:
        continue
      views = [shape((batch, dim), jnp.float32)] * 2
      print(f"\n{name}, batch {batch:,}, dim {dim}, {mesh.size} devices: temporaries of each")
      for form, tile_size in (("dense", 0), ("tiled", default_tile_size())):

        def shard(a, b, ours=ours, tile_size=tile_size):
          value = jnp.mean(ours(a, b, tile_size=tile_size, axis_name="data"))
          return jax.lax.pmean(value, "data")

        ways = {
          f"shard_map, {'ring' if tile_size else 'gathered'}": jax.shard_map(
            shard, mesh=mesh, in_specs=jax.P("data"), out_specs=jax.P()
          ),
          f"jit on a mesh, {form}": functools.partial(ours, tile_size=tile_size),
        }
        for way, loss in ways.items():
          mib = temporaries(jax.jit(value_and_grad(loss)).lower(*views).compile())
          print(f"  {way:24}{mib:>10,.1f} MiB", flush=True)


def main(_):
  keep_freed_memory()
  device = jax.devices()[0]
  print(f"{device.device_kind}, jax {jax.__version__}, {FLAGS.precision}")
  batch_sizes = [int(size) for size in FLAGS.batch_sizes]
  for name in FLAGS.losses:
    for batch in batch_sizes:
      compare(name, batch)
  if jax.default_backend() == "cpu" and FLAGS.devices > 1:
    arguments = FLAGS.losses, batch_sizes, FLAGS.dim, FLAGS.devices
    child = multiprocessing.get_context("spawn").Process(target=rings, args=arguments)
    child.start()
    child.join()


if __name__ == "__main__":
  app.run(main)
