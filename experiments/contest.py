"""Nets that a claim trains side by side as classifiers: one recipe, and what each costs."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments import claim
from repjax import data, evaluate
from repjax.augment import crop_flip, normalize
from repjax.learners import Learner, by_gradient, supervised
from repjax.train.flops import count_flops
from repjax.train.launch import Settings

TRAIN, TEST, STEPS = 10_000, 5_000, 1000

Batch = dict[str, np.ndarray]
Augmentation = Callable[[jax.Array, jax.Array], jax.Array]


class Trained(NamedTuple):
  """A classifier.

  Attributes:
    learner: its functions.
    state: after training.
    numbers: ``accuracy`` on the test images, ``parameters`` of the encoder, and
      ``million_multiply_adds`` that it takes for one image.
  """

  learner: Learner
  state: Any
  numbers: dict[str, float]


def warmed_adamw(rate: float, steps: int) -> optax.GradientTransformation:
  """AdamW with a tenth of the steps of warm-up, then a cosine to zero.

  Args:
    rate: highest learning rate.
    steps: updates.

  Returns:
    The optimizer, with a weight decay of 0.05.
  """
  schedule = optax.warmup_cosine_decay_schedule(0.0, rate, max(steps // 10, 1), max(steps, 2))
  return optax.adamw(schedule, weight_decay=0.05)


def train_classifier(
  name: str,
  encoder: nn.Module,
  train: Batch,
  test: Batch,
  *,
  steps: int,
  seed: int,
  rate: float = 3e-3,
  batch_size: int = 64,
  augment: Augmentation | None = None,
  start: Callable[[Any], Any] = lambda params: params,
) -> Trained:
  """Trains an encoder and a linear layer from scratch: AdamW, a tenth of warm-up, then a cosine.

  Args:
    name: what the progress bar says.
    encoder: images to `repjax.encoders.Features`.
    train: ``image [n, h, w, c]`` uint8 and ``label [n]``, of every class.
    test: the same, to be told.
    steps: updates.
    seed: of parameters, order and draws.
    rate: highest learning rate.
    batch_size: rows of an update.
    augment: ``(key, image) -> image`` for one in [0, 1]; crops and flips if absent.
    start: ``params -> params``, what to begin with in place of what was drawn.

  Returns:
    The classifier with its numbers.
  """
  mean, std = data.channel_statistics(data.Arrays(train["image"]))
  objective = supervised(
    encoder,
    int(train["label"].max()) + 1,
    augment or crop_flip(train["image"].shape[1]),
    normalize=lambda image: normalize(image, mean, std),
  )

  def init(key, batch):
    params, extra = objective.init(key, batch)
    return start(params), extra

  optimizer = optax.chain(optax.clip_by_global_norm(1.0), warmed_adamw(rate, steps))
  learner = by_gradient(objective._replace(init=init), optimizer)
  batch_size = min(batch_size, len(train["label"]))
  state = claim.fit(learner, train, steps=steps, batch_size=batch_size, seed=seed, progress=name)
  numbers = {
    "accuracy": claim.head_accuracy(learner, state, test["image"], test["label"]),
    "parameters": sum(x.size for x in jax.tree.leaves(state.params["encoder"])),
    "million_multiply_adds": cost(encoder, train["image"].shape[1:]) / 1e6,
  }
  return Trained(learner, state, numbers)


def cost(encoder: nn.Module, shape: tuple[int, ...]) -> float:
  """Multiply-adds that an encoder takes.

  Args:
    encoder: images to features.
    shape: of one image.

  Returns:
    Their number for it.
  """
  image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
  variables = jax.eval_shape(encoder.init, jax.random.key(0), image)
  return count_flops(encoder.apply, variables, image) / 2


def compare(
  encoders: Mapping[str, nn.Module],
  settings: Settings,
  *,
  seed: int,
  image_size: int = 16,
) -> claim.Numbers:
  """Trains encoders in one way on some of the images that ``--data`` names, and tells others.

  Args:
    encoders: by name.
    settings: the flags.
    seed: of images, parameters and draws.
    image_size: side to resize images to.

  Returns:
    Numbers of each, and of ``raw_pixels`` by their 20 nearest neighbours.
  """
  dataset = data.load(settings.data, seed=seed, image_size=image_size)
  rng = np.random.default_rng(seed)
  draw = lambda split, count: data.take(split, rng.permutation(len(split))[:count])
  train, test = draw(dataset.train, TRAIN), draw(dataset.test, TEST)
  steps, numbers = claim.steps_of(settings, STEPS), {}
  for name, encoder in encoders.items():
    numbers[name] = train_classifier(name, encoder, train, test, steps=steps, seed=seed).numbers
  bank, asked = (evaluate.pixels([part]) for part in (train, test))
  return numbers | {"raw_pixels": {"accuracy": evaluate.knn(bank, asked, k=(20,))["knn_20"]}}


def described(settings: Settings, image_size: int = 16) -> str:
  """The data of `compare`, for the record.

  Args:
    settings: the flags.
    image_size: as there.

  Returns:
    A line.
  """
  return (
    f"{settings.data} at {image_size}x{image_size}: {TRAIN} images of the train split, {TEST} of "
    "the test split, drawn anew each seed; crops and flips"
  )
