"""MRL: a sum of cross entropies in float64, and the nets that it contains."""

import jax
import layouts
import numpy as np
import pytest

from repjax.arrays import cross_entropy
from repjax.learners import mrl, supervised
from repjax.losses import matryoshka

ENCODER, SIZES, WEIGHTS = layouts.Tiny(), (2, 5, 8), (0.5, 2.0, 1.0)
still = lambda key, image: image
KNOWN = np.flatnonzero(layouts.BATCH["label"] >= 0)


def of_sizes(axis_name):
  return mrl(ENCODER, 3, layouts.noise, sizes=SIZES, weights=WEIGHTS, axis_name=axis_name)


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(of_sizes, layout)


@pytest.mark.parametrize("tied", [False, True])
def test_the_loss_is_a_weighted_sum_over_prefixes(tied):
  batch = layouts.BATCH
  made = mrl(ENCODER, 3, still, sizes=SIZES, weights=WEIGHTS, tied=tied)
  params, extra = made.init(jax.random.key(0), batch)
  value, (_, metrics) = jax.jit(made.loss)(params, extra, batch, jax.random.key(1))
  pooled = np.float64(made.encode(params, extra, batch["image"]).pooled)[KNOWN]
  label, wanted = batch["label"][KNOWN], 0.0
  for size, weight in zip(SIZES, WEIGHTS, strict=True):
    own = params["head"] if tied else params["head"][f"size_{size}"]
    logits = pooled[:, :size] @ np.float64(own["kernel"])[:size] + np.float64(own["bias"])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wanted -= weight * np.log(p[np.arange(len(label)), label]).mean()
    np.testing.assert_allclose(metrics[f"accuracy_{size}"], (p.argmax(1) == label).mean())
  np.testing.assert_allclose(value, wanted, rtol=1e-5)


def test_tied_it_is_the_nested_loss_of_a_linear_classifier():
  batch = layouts.BATCH
  made = mrl(ENCODER, 3, still, sizes=SIZES, weights=WEIGHTS, tied=True)
  params, extra = made.init(jax.random.key(0), batch)
  pooled, label = made.encode(params, extra, batch["image"]).pooled[KNOWN], batch["label"][KNOWN]

  def classify(embedding, kernel):
    return cross_entropy(embedding @ kernel.T, label)

  nested = matryoshka(classify, SIZES, WEIGHTS)(pooled, params["head"]["kernel"].T)
  value, _ = made.loss(params, extra, batch, jax.random.key(1))
  np.testing.assert_allclose(value, nested.mean(), rtol=1e-5)


def test_at_full_length_alone_it_is_supervised():
  batch = layouts.BATCH
  made, plain = mrl(ENCODER, 3, layouts.noise, sizes=(8,)), supervised(ENCODER, 3, layouts.noise)
  params, extra = plain.init(jax.random.key(0), batch)
  nested = {"encoder": params["encoder"], "head": {"size_8": params["head"]}}
  ours, _ = made.loss(nested, extra, batch, jax.random.key(1))
  np.testing.assert_allclose(
    ours, plain.loss(params, extra, batch, jax.random.key(1))[0], rtol=1e-6
  )


def test_a_size_alone_leaves_later_coordinates_alone():
  batch = layouts.BATCH
  made = mrl(ENCODER, 3, still, sizes=(2,))
  params, extra = made.init(jax.random.key(0), batch)
  slope = jax.grad(lambda p: made.loss(p, extra, batch, jax.random.key(1))[0])(params)
  kernel = np.asarray(slope["encoder"]["patch"]["kernel"])
  assert np.abs(kernel[:, :2]).min(1).max() > 0
  np.testing.assert_array_equal(kernel[:, 2:], 0)


def test_weights_that_do_not_fit_are_named():
  with pytest.raises(ValueError, match=r"each of sizes \[2, 4\], got \[1.0\]"):
    mrl(ENCODER, 3, still, sizes=(2, 4), weights=(1.0,))
