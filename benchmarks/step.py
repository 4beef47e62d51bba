"""Images per second of our training step beside PyTorch's, in one run, as a ratio.

  pip install -e . && pip install torch timm
  python benchmarks/step.py --model=vit_micro4 --batch_size=64 --image_size=32
  python benchmarks/step.py --model=resnet18 --batch_size=32 --image_size=32

Both sides train the same net (a `vit_*` name, or a `resnet*` name with the CIFAR stem below 64
pixels) with cross entropy over 10 classes on one fixed batch in float32, unaugmented: AdamW for a
ViT, SGD with momentum for a ResNet. Ours is the supervised learner's update under `jax.jit` with
its state donated; theirs is eager timm. The two take turns, so that drift hits both.

Believe a ratio only on a quiet machine: with another program on one of two cores, PyTorch was seen
to slow several times over and ours less (`NOTES.md`). If one core is free,
`OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/step.py` compares the two on that one.
"""

import os
import statistics
import time

import jax
import numpy as np
import optax
from absl import app, flags

from repjax.encoders import DEPTHS, resnet, vit
from repjax.learners import by_gradient, supervised
from repjax.train.memory import keep_freed_memory

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "vit_micro4", "A ViT such as vit_s16, or a ResNet such as resnet18.")
flags.DEFINE_integer("batch_size", 64, "Images in a step.", lower_bound=2)
flags.DEFINE_integer("image_size", 32, "Side of an image in pixels.", lower_bound=1)
flags.DEFINE_integer("steps", 5, "Steps timed in a turn.", lower_bound=1)
flags.DEFINE_integer("turns", 7, "Turns that each side takes.", lower_bound=1)
flags.DEFINE_bool("torch", True, "Time PyTorch too.")
flags.DEFINE_bool("keep_memory", True, "Keep freed memory, for both sides, as the launchers do.")

CLASSES = 10
LEARNING_RATE = 1e-3


def our_step(batch):
  """A function that runs ``steps`` of our update and waits for the last."""
  if FLAGS.model in DEPTHS:
    encoder = resnet(FLAGS.model, stem="cifar" if FLAGS.image_size < 64 else "imagenet")
    optimizer = optax.sgd(LEARNING_RATE, momentum=0.9)
  else:
    encoder = vit(FLAGS.model, pool="cls", positions="learned")
    optimizer = optax.adamw(LEARNING_RATE, weight_decay=0.05)
  objective = supervised(encoder, CLASSES, lambda key, image: image)
  learner = by_gradient(objective, optimizer)
  state = jax.jit(learner.init)(jax.random.key(0), batch)
  update = jax.jit(learner.update, donate_argnums=0)
  batch = jax.device_put(batch)

  def run(steps):
    nonlocal state
    for _ in range(steps):
      state, metrics = update(state, batch, jax.random.key(1))
    jax.block_until_ready((state, metrics))
    return float(metrics["loss"])

  return run, sum(x.size for x in jax.tree.leaves(state.params))


def torch_step(batch):
  """The same for timm's model of the same shape."""
  try:
    import timm
    import torch
  except ImportError as error:
    raise ImportError(
      f"{error.name} is missing; pip install torch timm, or --notorch to time ours alone"
    ) from error
  if FLAGS.model in DEPTHS:
    model = timm.create_model(FLAGS.model, num_classes=CLASSES)
    if FLAGS.image_size < 64:
      model.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
      model.maxpool = torch.nn.Identity()
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=0.9)
  else:
    net = vit(FLAGS.model)
    model = timm.models.VisionTransformer(
      FLAGS.image_size, net.patch_size, embed_dim=net.dim, depth=net.depth, num_heads=net.heads,
      mlp_ratio=net.mlp_dim / net.dim, num_classes=CLASSES,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.05)
  image = torch.from_numpy(batch["image"]).float().div(255).permute(0, 3, 1, 2).contiguous()
  label = torch.from_numpy(batch["label"]).long()
  model.train()

  def run(steps):
    for _ in range(steps):
      loss = torch.nn.functional.cross_entropy(model(image), label)
      optimizer.zero_grad()
      loss.backward()
      optimizer.step()
    return loss.item()

  return run, sum(p.numel() for p in model.parameters())


def main(_):
  print(f"load of the machine before the start: {os.getloadavg()[0]:.1f}")
  if FLAGS.keep_memory:
    keep_freed_memory()
  rng = np.random.default_rng(0)
  size = FLAGS.image_size
  image = rng.integers(0, 256, (FLAGS.batch_size, size, size, 3), np.uint8)
  label = rng.integers(0, CLASSES, FLAGS.batch_size).astype(np.int32)
  batch = {"image": image, "label": label}

  sides = {"repjax": our_step(batch)} | ({"torch": torch_step(batch)} if FLAGS.torch else {})
  counts = {name: count for name, (_, count) in sides.items()}
  if len(set(counts.values())) > 1:
    raise ValueError(f"the two nets differ in parameters: {counts}")
  seconds = {name: [] for name in sides}
  for name, (run, _) in sides.items():
    start = time.perf_counter()
    run(2)  # Compilation, and the allocator's first pages.
    print(f"{name}: first two steps {time.perf_counter() - start:.1f} s", flush=True)
  for _ in range(FLAGS.turns):
    for name, (run, _) in sides.items():
      start = time.perf_counter()
      run(FLAGS.steps)
      seconds[name].append((time.perf_counter() - start) / FLAGS.steps)

  print(f"{FLAGS.model}, {size} pixels, batch {FLAGS.batch_size}, {counts['repjax']:,} parameters")
  for name, turns in seconds.items():
    rates = [FLAGS.batch_size / s for s in turns]
    low, high = min(rates), max(rates)
    print(f"{name}: {statistics.median(rates):.1f} img/s (turns {low:.1f} to {high:.1f})")
  if FLAGS.torch:
    ratios = [t / r for r, t in zip(seconds["repjax"], seconds["torch"], strict=True)]
    low, high = min(ratios), max(ratios)
    print(f"ratio: {statistics.median(ratios):.2f} (turns {low:.2f} to {high:.2f})")


if __name__ == "__main__":
  app.run(main)
