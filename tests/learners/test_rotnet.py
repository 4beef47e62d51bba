"""RotNet: all four quarters of a turn of every image, told apart by cross entropy."""

import jax
import layouts
import numpy as np
import pytest

from repjax.augment import quarter_turns
from repjax.learners import rotnet

RNG = np.random.default_rng(0)
LEARNERS = {"rotnet": lambda axis: rotnet(layouts.Tiny(), layouts.noise, axis_name=axis)}


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(LEARNERS["rotnet"], layout)


def test_quarter_turns_are_those_of_numpy():
  image = RNG.normal(size=(5, 5, 2)).astype(np.float32)
  np.testing.assert_array_equal(quarter_turns(image), [np.rot90(image, k) for k in range(4)])
  with pytest.raises(ValueError, match=r"shape \(5, 4, 2\), not \[size, size, c\]"):
    quarter_turns(image[:, :4])


def test_the_loss_is_the_cross_entropy_of_the_turn_over_all_four_copies():
  encoder = layouts.Tiny()
  objective = rotnet(encoder, lambda key, image: image, normalize=lambda image: 2 * image - 1)
  params, extra = jax.jit(objective.init)(jax.random.key(0), layouts.BATCH)
  value, (_, metrics) = jax.jit(objective.loss)(params, extra, layouts.BATCH, jax.random.key(1))
  total, right = [], []
  for k in range(4):
    image = 2 * np.rot90(layouts.BATCH["image"] / 255, k, (1, 2)).astype(np.float32) - 1
    pooled = np.asarray(encoder.apply({"params": params["encoder"]}, image).pooled, np.float64)
    logits = pooled @ params["head"]["kernel"] + np.asarray(params["head"]["bias"])[None]
    total += list(np.log(np.exp(logits).sum(1)) - logits[:, k])
    right += list(logits.argmax(1) == k)
  np.testing.assert_allclose(value, np.mean(total), rtol=1e-5)
  np.testing.assert_allclose(metrics["rotation_accuracy"], np.mean(right), rtol=1e-6)
