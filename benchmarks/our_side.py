"""Our side of `train_step.py`: one function a method, and the step that launchers run."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from repjax.augment import crop_flip, normalize, random_mask, simclr_augment
from repjax.encoders import MLP, resnet, vit
from repjax.learners import by_gradient, simclr, simmim, supervised
from repjax.learners.learner import example_keys
from repjax.train import make_mesh
from repjax.train.flops import count_flops
from repjax.train.hlo import parse
from repjax.train.optimize import adamw
from repjax.train.program import count
from repjax.train.step import compile_update, init_state

SEED = 1  # of augmentations and masks


class Case(NamedTuple):
  """One row that is measured; both sides are built from it."""

  device: str
  method: str
  encoder: str
  image_size: int
  batch_size: int
  dtype: str
  pool: str
  scan: bool
  remat: bool
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

  @property
  def net(self) -> Any:
    """Our encoder, a module."""
    dtype = jnp.dtype(self.dtype)
    if self.encoder.startswith("resnet"):
      stem = "cifar" if self.image_size < 64 else "imagenet"
      return resnet(self.encoder, stem=stem, dtype=dtype)
    options = {"pool": self.pool, "positions": "learned", "scan": self.scan, "remat": self.remat}
    return vit(self.encoder, dtype=dtype, **options)

  @property
  def dim(self) -> int:
    """Width of what it pools."""
    net = self.net
    if self.encoder.startswith("resnet"):
      return net.width * 8 * (4 if net.bottleneck else 1)
    return net.dim


def supervised_objective(case, augmented):
  """Cross entropy of 1,000 classes."""
  augment = crop_flip(case.image_size, min_area=case.min_area) if augmented else unchanged
  return supervised(case.net, case.classes, augment, normalize=normalizer(case))


def simclr_objective(case, augmented):
  """SimCLR with a projector of two layers; a batch of n is 2 n views."""
  view = simclr_augment(case.image_size, strength=case.strength, min_area=case.min_area)
  return simclr(
    case.net,
    MLP(case.projector, norm="batch", dtype=jnp.dtype(case.dtype)),
    view if augmented else unchanged,
    normalize=normalizer(case),
    temperature=case.temperature,
  )


def simmim_objective(case, augmented):
  """SimMIM, patches hidden one by one."""
  return simmim(
    case.net,
    crop_flip(case.image_size, min_area=case.min_area) if augmented else unchanged,
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


def masks_of_steps(case, steps):
  """The masks of the first steps, as `simmim` draws them: from the second half of a step's key."""
  grid = (case.image_size // case.net.patch_size,) * 2
  draw = jax.jit(jax.vmap(lambda key: random_mask(key, grid, ratio=case.ratio).reshape(-1)))
  keys = [jax.random.fold_in(jax.random.key(SEED), step) for step in range(steps)]
  return [np.array(draw(example_keys(jax.random.split(k)[1], case.batch_size))) for k in keys]


def traffic(program, device):
  """Bytes between chip and memory of a compiled program on one device."""
  # On a TPU, memory spaces other than the first are on the chip.
  main = lambda space: not (device == "tpu" and space)
  return count(parse(program.as_text()), size=1, main=main).traffic


class Ours(NamedTuple):
  """Our side.

  Attributes:
    run: ``(augmented, steps) -> losses``, once all work is done.
    params: the first ones, NumPy.
    flops: of the products of a step without augmentation, as counted in the traced program.
    traffic: bytes between chip and memory, as the compiled program says.
    memory: bytes that the step needs at once, arguments and temporaries.
    compile_seconds: what it took to trace and compile it.
  """

  run: Callable[[bool, int], list[float]]
  params: Any
  flops: float
  traffic: float
  memory: int
  compile_seconds: float


def our_side(case: Case, batch: dict, kinds: tuple[bool, ...]) -> Ours:
  """Compiles the step around one state.

  Args:
    case: the row.
    batch: ``{"image": uint8 [b, h, w, 3], "label": int32 [b]}``, NumPy.
    kinds: which steps to compile, with augmentation or without; the first one is described.

  Returns:
    Our side.
  """
  mesh = make_mesh(devices=jax.devices()[:1])
  optimizer = adamw(case.learning_rate, weight_decay=case.weight_decay)
  learners = {
    augmented: by_gradient(OBJECTIVES[case.method](case, augmented), optimizer)
    for augmented in (True, False)
  }
  state = init_state(learners[False], batch, seed=0, mesh=mesh)
  params = jax.tree.map(np.asarray, state.params)
  batch = jax.device_put(batch, jax.devices()[0])

  def compiled(augmented):
    update = compile_update(learners[augmented], mesh, seed=SEED)
    return update.lower(state, None, batch, np.int32(0)).compile()

  start = time.perf_counter()
  programs = {kinds[0]: compiled(kinds[0])}
  compile_seconds = time.perf_counter() - start
  programs |= {kind: compiled(kind) for kind in kinds[1:]}
  described = programs[kinds[0]]
  memory = described.memory_analysis()
  flops = count_flops(learners[False].update, state, batch, jax.random.key(SEED))
  step = 0

  def run(augmented, steps):
    nonlocal state, step
    losses = []
    for _ in range(steps):
      state, metrics = programs[augmented](state, None, batch, np.int32(step))
      losses.append(metrics["loss"])
      step += 1
    jax.block_until_ready(state)
    return [float(loss) for loss in losses]

  return Ours(
    run,
    params,
    flops,
    traffic(described, case.device),
    memory.temp_size_in_bytes + memory.argument_size_in_bytes,
    compile_seconds,
  )
