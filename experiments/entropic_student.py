"""Entropic Student: what a weak sender tells a strong receiver in how many bits.

  python -m experiments.entropic_student --data=npz:data/cifar10.npz

trains a ConvNet on CIFAR-10 at 16x16 pixels, the teacher, and puts a bottleneck in place of its
first two layers: two strided convolutions, integers under a learnt density, two layers that decode.
``entropic_student`` learns the teacher's features at a price a bit, and then, with the sender as it
is, labels and the teacher's answers; ``without_tuning`` is its first stage alone. ``end_to_end``
learns the labels at a price a bit, in as many steps. ``quantized`` are the teacher's own features
at 1 to 4 bits a value, coded by each channel's table of train images, ``jpeg`` the images at
qualities from 1 to 90, of whose files the coded pixels alone are counted. ``teacher`` sees images
as they are, ``untrained`` is the teacher as drawn.

``accuracy`` is what a method reaches in 128 bits an image, ``accuracy_256`` and ``accuracy_1024``
in more, between its prices linear in the logarithm of the bits; 0.1 is chance, and what a method
has that does not come down to so few. ``bits_1``, ``accuracy_1`` and so on are its points.

A seed takes two minutes of one core. Over three seeds the student reaches 0.418 ± 0.003 in 128
bits, 0.400 without tuning; end to end 0.380 ± 0.009, so that the teacher is worth its while; JPEG
0.416 ± 0.002, which is as good, and with 1,024 bits better, 0.469 against 0.446, of the teacher's
0.472. Features quantised afterwards do not come down to so few bits: 300 of them give 0.338.
"""

import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments import claim
from repjax import codes, measure
from repjax.augment import crop_flip
from repjax.codes import Bottleneck, FactorizedPrior
from repjax.encoders import Features
from repjax.learners import (
  Objective,
  by_gradient,
  coded_classifier,
  entropic_student,
  supervised,
  tuned_student,
)
from repjax.learners.entropic_student import Halves
from repjax.train.launch import Settings, run_app

STEPS, TUNING, BATCH, TRAIN, CHANNELS = 300, 150, 64, 10_000, 8
PRICES, PRICES_ALONE = (0.5, 2.0, 8.0), (0.0002, 0.001, 0.003)
RATES = {"accuracy": 128.0, "accuracy_256": 256.0, "accuracy_1024": 1024.0}
QUALITIES, LEVEL_BITS = (1, 5, 10, 25, 50, 90), (1, 2, 3, 4)
DATA = (
  "CIFAR-10 at 16x16: 10,000 train images and 2,000 of the test split, drawn anew each seed; crops "
  "and flips"
)


class Convolutions(nn.Module):
  """Convolutions with ReLU; strides of 2 halve the map, those of -2 double it."""

  dims: tuple[int, ...]
  strides: tuple[int, ...]
  relu_last: bool = True

  @nn.compact
  def __call__(self, x):
    for i, (dim, stride) in enumerate(zip(self.dims, self.strides, strict=True)):
      if stride > 0:
        x = nn.Conv(dim, (3, 3), (stride, stride), name=f"conv_{i}")(x)
      else:
        x = nn.ConvTranspose(dim, (4, 4), (-stride, -stride), name=f"conv_{i}")(x)
      x = nn.relu(x) if self.relu_last or i < len(self.dims) - 1 else x
    return x


class Back(nn.Module):
  """The teacher's later layers."""

  @nn.compact
  def __call__(self, x):
    layers = []
    for i in range(2):
      x = nn.relu(nn.Conv(64, (3, 3), (2, 2), name=f"conv_{i}")(x))
      layers.append(x)
    tokens = x.reshape(len(x), -1, x.shape[-1])
    pooled = nn.relu(nn.Dense(64, name="dense")(x.reshape(len(x), -1)))
    return Features(pooled, tokens, tuple(layers))


HALVES = Halves(Convolutions((16, 32), (1, 2)), Back())
BOTTLENECK = Bottleneck(
  Convolutions((16, CHANNELS), (2, 2), relu_last=False),
  Convolutions((32, 32), (-2, 1)),
  FactorizedPrior(CHANNELS, init_scale=1.0),
)


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Trains the teacher and all who code, and asks what they tell in how many bits."""
  steps, tuning = (claim.steps_of(settings, n) for n in (STEPS, TUNING))
  train, _, test = claim.three_parts(settings, image_size=16, seed=seed)
  train = {name: array[:TRAIN] for name, array in train.items()}
  options = {"normalize": claim.scaled_photos}

  def fit(objective: Objective, steps: int, name: str):
    rate = optax.cosine_decay_schedule(2e-3, max(steps, 1))
    learner = by_gradient(
      objective, optax.chain(optax.clip_by_global_norm(100.0), optax.adam(rate))
    )
    state = claim.fit(learner, train, steps=steps, batch_size=BATCH, seed=seed, progress=name)
    return learner, state

  def tell(learner, state, head, image=test["image"]):
    logits = claim.features(learner.encode, state, image) @ head["kernel"] + head["bias"]
    return float(jnp.mean(jnp.argmax(logits, 1) == test["label"]))

  plain = supervised(HALVES, 10, crop_flip(16), **options)
  untrained, (known, state) = fit(plain, 0, "untrained"), fit(plain, steps + tuning, "teacher")
  teacher, head = state.params, state.params["head"]
  points = {name: [] for name in ("entropic_student", "without_tuning", "end_to_end")}
  for price in PRICES:
    first = entropic_student(BOTTLENECK, HALVES, teacher, crop_flip(16), beta=price, **options)
    learner, state = fit(first, steps, f"student at {price}")
    learnt, bits = state.params, code_length(state.params, test["image"])
    points["without_tuning"].append((bits, tell(learner, state, head)))
    second = tuned_student(BOTTLENECK, HALVES, teacher, learnt, crop_flip(16), **options)
    learner, state = fit(second, tuning, f"tuning at {price}")
    points["entropic_student"].append((bits, tell(learner, state, state.params["head"])))
  for price in PRICES_ALONE:
    alone = coded_classifier(BOTTLENECK, Back(), 10, crop_flip(16), beta=price, **options)
    learner, state = fit(alone, steps + tuning, f"end to end at {price}")
    bits = code_length(state.params["bottleneck"], test["image"])
    points["end_to_end"].append((bits, tell(learner, state, state.params["head"])))
  points["quantized"] = quantized(teacher, train["image"], test)
  points["jpeg"] = [
    (bits, tell(known, state_of(known, teacher, train), head, image))
    for bits, image in (as_jpeg(test["image"], quality) for quality in QUALITIES)
  ]
  numbers = {name: describe(found) for name, found in points.items()}
  whole = tell(known, state_of(known, teacher, train), head)
  drawn = tell(*untrained, untrained[1].params["head"])
  return numbers | {
    "teacher": dict.fromkeys(RATES, whole),
    "untrained": dict.fromkeys(RATES, drawn),
  }


def state_of(learner, params, batch):
  """A learner's state with given parameters."""
  few = {name: array[:2] for name, array in batch.items()}
  return learner.init(jax.random.key(0), few)._replace(params=params)


def describe(points: list[tuple[float, float]]) -> dict[str, float]:
  """Points of a curve, and what it reaches at fixed rates."""
  rate, quality = map(np.array, zip(*points, strict=True))
  numbers = {
    name: measure.quality_at_rate(rate, quality, at, floor=0.1) for name, at in RATES.items()
  }
  for i, (bits, accuracy) in enumerate(points, 1):
    numbers |= {f"bits_{i}": float(bits), f"accuracy_{i}": float(accuracy)}
  return numbers


def code_length(params, image: np.ndarray) -> float:
  """Mean bits of an image's code, rounded."""
  encode = lambda params, rows: _bits(params, rows)[:, None]
  return float(np.mean(claim.features(encode, params, image)))


@jax.jit
def _bits(params, rows):
  return BOTTLENECK.apply({"params": params}, claim.scaled_photos(rows / 255)).bits


def quantized(teacher, image: np.ndarray, test) -> list[tuple[float, float]]:
  """Bits and accuracy of the teacher's features at few levels.

  Args:
    teacher: its parameters.
    image: train images, for ranges and tables.
    test: test images and labels.

  Returns:
    A point for each number of levels.
  """
  front = lambda params, rows: HALVES.front.apply(
    {"params": params}, claim.scaled_photos(rows / 255)
  ).reshape(len(rows), -1)
  own = teacher["encoder"]
  seen, asked = (claim.features(front, own["front"], x) for x in (image[:2000], test["image"]))
  points = []
  for bits in LEVEL_BITS:
    ends = {"low": 0.0, "high": codes.truncation_range(seen, share=0.999)[1], "bits": bits}
    levels = [codes.quantize_range(x, **ends) for x in (seen, asked)]
    counts = [codes.count_symbols(x.reshape(-1, 32), levels=2**bits) for x in levels]
    length = float(jnp.sum(codes.table_bits(counts[1], counts[0]))) / len(asked)
    back = np.asarray(codes.dequantize_range(levels[1], **ends)).reshape(-1, 8, 8, 32)
    pooled = claim.features(lambda p, x: HALVES.back.apply({"params": p}, x), own["back"], back)
    logits = pooled @ teacher["head"]["kernel"] + teacher["head"]["bias"]
    points.append((length, float(jnp.mean(jnp.argmax(logits, 1) == test["label"]))))
  return points


def as_jpeg(images: np.ndarray, quality: int) -> tuple[float, np.ndarray]:
  """Mean bits of the coded pixels of JPEG files, without headers, and what is decoded."""
  from PIL import Image

  bits, decoded = 0, []
  for image in images:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality, optimize=True)
    content = out.getvalue()
    start = content.index(b"\xff\xda")  # of the scan, whose header says how long it is
    header = int.from_bytes(content[start + 2 : start + 4])
    bits += 8 * (len(content) - start - 2 - header - 2)
    decoded.append(np.asarray(Image.open(out)))
  return bits / len(images), np.stack(decoded)


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("entropic_student", study, settings, described=DATA)


if __name__ == "__main__":
  run_app(main)
