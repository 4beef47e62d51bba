"""How fast images come from a folder of JPEGs, and what share of a training step waits for them.

  pip install -e '.[stream]'
  python benchmarks/input.py
  python benchmarks/input.py --data=folder:PATH --encoders=resnet50 --workers=0,8 --batch_size=256

Without ``--data`` it writes a folder of photographs of its own: crops of the two that come with
scikit-learn, enlarged to 500x375 with sensor noise, some 110 kB each in 4:2:0. It then prints

- decoders: milliseconds of processor time for an image from file to square, on one thread: ours
  beside Pillow's way, and OpenCV, PyTurboJPEG where they are installed; decoding alone and with
  the resize. They take turns, and ratios are of one turn.
- stream: images a second of `repjax.data.batches` in threads and in worker processes, beside what
  all cores would decode if nothing else cost anything;
- steps: the supervised learner's update fed by that stream, beside the same compiled update fed
  from memory, in turns. ``input_wait`` is the share of the fed steps' time that passes in
  ``next()``, ``fed / memory`` what feeding costs in all: waiting, and on a CPU the cores that
  decoding takes from the step.
"""

import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import optax
from absl import app, flags
from PIL import Image
from sklearn.datasets import load_sample_images

from repjax import data
from repjax.data.decode import decode
from repjax.encoders import DEPTHS, resnet, vit
from repjax.learners import by_gradient, supervised
from repjax.train.memory import keep_freed_memory

FLAGS = flags.FLAGS
flags.DEFINE_string("data", None, "folder:PATH of JPEGs; a folder made for the day if absent.")
flags.DEFINE_integer("images", 400, "Photographs to make, where no data is given.", lower_bound=40)
flags.DEFINE_integer("image_size", 224, "Side of the decoded square.", lower_bound=32)
flags.DEFINE_integer("batch_size", 16, "Images in a step.", lower_bound=2)
flags.DEFINE_list("workers", ["0", "1", "2"], "Worker processes to try; 0 for threads.")
flags.DEFINE_list("encoders", ["resnet50", "vit_nano16"], "Steps to feed.")
flags.DEFINE_list("parts", ["decoders", "stream", "steps"], "What to measure.")
flags.DEFINE_integer("turns", 5, "Turns that each side takes.", lower_bound=1)
flags.DEFINE_float("seconds", 8.0, "Length of a turn of steps, at least.", lower_bound=0)

QUALITY = 95  # With NOISE, 110 kB a file.
NOISE = 8.0  # Standard deviation, in levels.


def write_photographs(folder: Path, count: int) -> None:
  """Writes ``CLASS/NUMBER.jpg`` of two classes."""
  rng = np.random.default_rng(0)
  originals = [Image.fromarray(x) for x in load_sample_images().images]
  for name in ("china", "flower"):
    (folder / name).mkdir()
  for i in range(count):
    picture = originals[i % 2]
    width = min(picture.width, picture.height * 4 / 3) * rng.uniform(0.55, 1)
    left = rng.uniform(0, picture.width - width)
    top = rng.uniform(0, picture.height - 0.75 * width)
    box = (left, top, left + width, top + 0.75 * width)
    picture = picture.resize((500, 375), Image.Resampling.BICUBIC, box)
    noisy = np.asarray(picture) + rng.normal(0, NOISE, (375, 500, 3))
    picture = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    path = folder / ("china", "flower")[i % 2] / f"{i}.jpg"
    picture.save(path, quality=QUALITY, subsampling="4:2:0")


def decoders(size):
  """``{name: (decode, decode and resize)}``, functions of a path."""

  def square(picture):
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    return picture.resize((size, size), Image.Resampling.BILINEAR, box)

  def pillow(path, resize):
    with Image.open(path) as picture:
      if resize:
        picture.draft(None, (2 * size, 2 * size))
      picture = picture.convert("RGB")
      return np.array(square(picture) if resize else picture)

  found = {
    "repjax": (lambda path: decode(path, 3), lambda path: decode(path, 3, size)),
    "pillow": (lambda path: pillow(path, False), lambda path: pillow(path, True)),
  }
  try:
    import cv2

    cv2.setNumThreads(1)

    def opencv(path):
      return cv2.imread(path, cv2.IMREAD_COLOR_RGB)

    def opencv_square(path):
      picture = opencv(path)
      side = min(picture.shape[:2])
      top, left = ((n - side) // 2 for n in picture.shape[:2])
      picture = picture[top : top + side, left : left + side]
      return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)

    found["opencv"] = (opencv, opencv_square)
  except ImportError:
    print("opencv: not measured; pip install opencv-python-headless")
  try:
    from turbojpeg import TJPF_RGB, TurboJPEG

    turbo = TurboJPEG()

    def turbojpeg(path):
      return turbo.decode(Path(path).read_bytes(), pixel_format=TJPF_RGB)

    found["turbojpeg"] = (
      turbojpeg,
      lambda path: np.asarray(square(Image.fromarray(turbojpeg(path)))),
    )
  except (ImportError, RuntimeError) as error:
    print(f"turbojpeg: not measured; {str(error).splitlines()[0]}")
  return found


def time_decoders(files, size, turns):
  """Prints milliseconds of processor time an image; returns ours, with the resize."""
  found = decoders(size)
  spent = {(name, kind): [] for name in found for kind in (0, 1)}
  for (name, kind), _ in itertools.product(spent, range(2)):  # The second time is warm.
    found[name][kind](files[0])
  for _ in range(turns):
    for name, kind in spent:
      start = time.process_time()
      for path in files:
        found[name][kind](path)
      spent[name, kind].append(1e3 * (time.process_time() - start) / len(files))
  print(f"\n{'decoder':12s} {'decode':>9s} {'+ resize':>9s}  of Pillow's time (turns)")
  for name in found:
    ours, theirs = spent[name, 1], spent["pillow", 1]
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    alone, whole = (statistics.median(spent[name, kind]) for kind in (0, 1))
    print(
      f"{name:12s} {alone:6.2f} ms {whole:6.2f} ms  {statistics.median(ratios):.2f} "
      f"({min(ratios):.2f} to {max(ratios):.2f})"
    )
  return statistics.median(spent["repjax", 1])


def time_stream(source, workers, batch_size, turns, milliseconds):
  """Prints images a second of the stream alone."""
  cores = os.cpu_count()
  print(f"\n{'stream':12s} {'images/s':>9s}  of {cores} cores decoding alone (turns), first batch")
  for count in workers:
    start = time.perf_counter()
    stream = data.batches(source, batch_size=batch_size, seed=0, workers=count)
    next(stream)
    first = time.perf_counter() - start
    each = max(1, round(len(source) / batch_size))
    rates = []
    for turn in range(turns + 1):
      start = time.perf_counter()
      for _ in range(each):
        next(stream)
      if turn:  # The first turn empties what was read ahead while nobody looked.
        rates.append(each * batch_size / (time.perf_counter() - start))
    stream.close()
    shares = [rate * milliseconds / 1e3 / cores for rate in rates]
    print(
      f"{f'{count} workers' if count else 'threads':12s} {statistics.median(rates):9.0f}  "
      f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f}), {first:.1f} s"
    )


def make_step(name, batch):
  """A function that runs one update, not waiting for it, and one that waits."""
  if name in DEPTHS:
    encoder, optimizer = resnet(name, stem="imagenet"), optax.sgd(1e-3, momentum=0.9)
  else:
    encoder, optimizer = vit(name), optax.adamw(1e-3)
  learner = by_gradient(supervised(encoder, 10, lambda key, image: image), optimizer)
  state = jax.jit(learner.init)(jax.random.key(0), jax.tree.map(lambda x: x[:2], batch))
  update = jax.jit(learner.update, donate_argnums=0)
  metrics = None

  def run(batch):
    nonlocal state, metrics
    before = metrics
    state, metrics = update(state, jax.device_put(batch), jax.random.key(1))
    jax.block_until_ready(before)  # The host runs one step ahead, as in the training loop.

  return run, lambda: jax.block_until_ready(metrics)


def time_steps(name, source, workers, batch_size, turns, seconds):
  """Prints the share of time that a step waits, and what feeding costs it in all."""
  stored = list(itertools.islice(data.batches(source, batch_size=batch_size, seed=0), 4))
  run, finish = make_step(name, stored[0])
  start = time.perf_counter()
  run(stored[0])
  finish()
  compiled = time.perf_counter() - start

  def turn(batches, steps):
    for _ in range(2):  # Until a stream has read ahead what it may.
      run(next(batches))
    finish()
    waited, start = 0.0, time.perf_counter()
    for _ in range(steps):
      before = time.perf_counter()
      batch = next(batches)
      waited += time.perf_counter() - before
      run(batch)
    finish()
    total = time.perf_counter() - start
    return total / steps, waited / total

  step, _ = turn(itertools.cycle(stored), 2)
  steps = max(3, round(seconds / step))
  print(f"\n{name}: {compiled:.0f} s to compile; turns of {steps} steps of {batch_size} images")
  print(f"{'fed by':12s} {'step':>10s} {'images/s':>9s}  input_wait, fed / memory (turns)")
  spent = {None: [], **{count: [] for count in workers}}
  for _, count in itertools.product(range(turns), spent):
    if count is None:
      spent[count].append(turn(itertools.cycle(stored), steps))
      continue
    stream = data.batches(source, batch_size=batch_size, seed=0, workers=count)
    spent[count].append(turn(stream, steps))
    stream.close()
  for count, found in spent.items():
    side = {None: "memory", 0: "threads"}.get(count, f"{count} workers")
    step = statistics.median(t for t, _ in found)
    wait = statistics.median(w for _, w in found)
    ratios = [t / m for (t, _), (m, _) in zip(found, spent[None], strict=True)]
    print(
      f"{side:12s} {1e3 * step:7.1f} ms {batch_size / step:9.1f}  {wait:10.3f}, "
      f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )


def main(_):
  unknown = set(FLAGS.parts) - {"decoders", "stream", "steps"}
  if unknown:
    raise ValueError(f"--parts={','.join(FLAGS.parts)}: choose of decoders, stream, steps")
  print(f"load of the machine before the start: {os.getloadavg()[0]:.1f}; {os.cpu_count()} cores")
  keep_freed_memory()
  workers = [int(count) for count in FLAGS.workers]
  with tempfile.TemporaryDirectory() as folder:
    spec = FLAGS.data
    if spec is None:
      write_photographs(Path(folder), FLAGS.images)
      spec = f"folder:{folder}"
    source = data.load(spec, image_size=FLAGS.image_size).train
    whole = getattr(source, "source", source)  # A subset's, where the split is by the seed.
    files = whole.files[:200]
    print(
      f"{len(source)} images of {os.path.getsize(files[0]) / 1e3:.0f} kB (the first) "
      f"to {FLAGS.image_size} pixels, batches of {FLAGS.batch_size}"
    )
    if "decoders" in FLAGS.parts or "stream" in FLAGS.parts:
      milliseconds = time_decoders(files, FLAGS.image_size, FLAGS.turns)
    if "stream" in FLAGS.parts:
      time_stream(source, workers, FLAGS.batch_size, FLAGS.turns, milliseconds)
    if "steps" in FLAGS.parts:
      for name in FLAGS.encoders:
        time_steps(name, source, workers, FLAGS.batch_size, FLAGS.turns, FLAGS.seconds)


if __name__ == "__main__":
  app.run(main)
