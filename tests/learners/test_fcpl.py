"""FCPL: three terms, each when its part of the batch is there."""

import jax
import layouts
import numpy as np
import pytest

from repjax.learners import fcpl

pytestmark = pytest.mark.usefixtures("unoptimized")
ENCODER = layouts.Tiny()
RNG = np.random.default_rng(2)
MARGIN, SCALE, HOLD, PAIRS, CLASSES = 0.2, 4.0, 5.0, 0.7, 3
IMAGE = layouts.BATCH["image"].shape
FIRST = layouts.BATCH
SECOND = FIRST | {"support": RNG.normal(size=(16, 8)).astype(np.float32)}
THIRD = SECOND | {
  "query": RNG.integers(0, 256, IMAGE, np.uint8),
  "reference": RNG.integers(0, 256, IMAGE, np.uint8),
  "source": RNG.integers(0, 4, (16, 2)).astype(np.int32),
}


def make(axis_name=None, augment=layouts.noise):
  return fcpl(
    ENCODER, CLASSES, augment, margin=MARGIN, scale=SCALE, hold=HOLD, pairs=PAIRS,
    axis_name=axis_name,
  )  # fmt: skip


def whole_batch():
  return THIRD


def descriptors(params, image):
  pooled = ENCODER.apply({"params": params["encoder"]}, image / np.float32(255)).pooled
  pooled = np.float64(pooled)
  return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def restated(params, batch):
  z, centers = descriptors(params, batch["image"]), np.float64(params["centers"])
  centers = centers / np.linalg.norm(centers, axis=1, keepdims=True)
  told = []
  for row, label in zip(z, batch["label"], strict=True):
    if label >= 0:
      logits = SCALE * (centers @ row - MARGIN * (np.arange(CLASSES) == label))
      told.append(np.log(np.exp(logits).sum()) - logits[label])
  terms = {"told": np.mean(told)}
  if "support" in batch:
    first = np.float64(batch["support"])
    first = first / np.linalg.norm(first, axis=1, keepdims=True)
    terms["held"] = np.mean(np.sum((z - first) ** 2, 1))
  if "query" in batch:
    sides = [descriptors(params, batch[name]) for name in ("query", "reference")]
    apart = 0
    for side, source in zip(sides, batch["source"].T, strict=True):
      least = [
        min(np.sum((x - y) ** 2) for y, other in zip(side, source, strict=True) if other != own)
        for x, own in zip(side, source, strict=True)
      ]
      apart += np.mean(least) / 2
    terms["paired"] = np.mean(np.sum((sides[0] - sides[1]) ** 2, 1)) - apart
  return terms


def test_each_stages_loss_is_that_of_the_code_in_float64():
  made = make(augment=lambda key, image: image)
  params, extra = made.init(jax.random.key(0), FIRST)
  weights = {"told": 1, "held": HOLD, "paired": PAIRS}
  for batch in (FIRST, SECOND, THIRD):
    value, (_, metrics) = made.loss(params, extra, batch, jax.random.key(1))
    wanted = restated(params, batch)
    assert wanted.keys() == metrics.keys() & weights.keys()
    for name, term in wanted.items():
      np.testing.assert_allclose(metrics[name], term, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(value, sum(weights[k] * x for k, x in wanted.items()), rtol=1e-4)


def test_one_source_alone_is_apart_from_nothing():
  made = make()
  alone = THIRD | {"source": np.zeros((16, 2), np.int32)}
  params, extra = made.init(jax.random.key(0), FIRST)
  _, (_, metrics) = made.loss(params, extra, alone, jax.random.key(1))
  q, r = (descriptors(params, alone[name]) for name in ("query", "reference"))
  np.testing.assert_allclose(metrics["paired"], np.mean(np.sum((q - r) ** 2, 1)), rtol=1e-4)


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(make, layout, batch=whole_batch)
