"""BT^2: what is turned, what is held to whom, and that turns lose nothing."""

import jax
import layouts
import numpy as np
import pytest
from scipy.linalg import expm

from repjax.learners import bt2, compatible

pytestmark = pytest.mark.usefixtures("unoptimized")
ENCODER = layouts.Tiny()
RNG = np.random.default_rng(1)
DIM, KEPT, ADDED, CLASSES, SHARE, HOLD = 5, 4, 2, 3, 1.5, 3.0
CLASSIFIER = RNG.normal(size=(CLASSES, KEPT)).astype(np.float32)
BATCH = layouts.BATCH | {
  "old": RNG.normal(size=(16, KEPT)).astype(np.float32),
  "new": RNG.normal(size=(16, DIM)).astype(np.float32),
}


def make(axis_name=None, augment=layouts.noise):
  return bt2(
    ENCODER, augment, CLASSIFIER, dim=DIM, added=ADDED, share=SHARE, hold=HOLD, axis_name=axis_name
  )


def turned_params(made):
  params, extra = made.init(jax.random.key(0), BATCH)
  for name in ("turn_new", "turn_old"):
    params[name] = RNG.normal(size=params[name].shape).astype(np.float32)
  return params, extra


def unit(x):
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def plain_entropy(logits, label):
  rows = np.flatnonzero(label >= 0)
  p = np.exp(logits[rows]) / np.exp(logits[rows]).sum(1, keepdims=True)
  return -np.log(p[np.arange(len(rows)), label[rows]]).mean()


def restated(params, batch):
  """Image by image, with the turns as products of one row."""
  p = jax.tree.map(np.float64, params)
  pooled = ENCODER.apply({"params": params["encoder"]}, batch["image"] / np.float32(255)).pooled
  like_new, out = [], []
  for row in np.float64(pooled):
    hidden = row @ p["layer"]["kernel"] + p["layer"]["bias"]
    y = hidden[:DIM] / np.linalg.norm(hidden[:DIM])
    x = np.maximum(hidden, 0) @ p["more"]["kernel"] + p["more"]["bias"]
    v = np.append(x / np.linalg.norm(x), SHARE * y @ expm(p["turn_new"] - p["turn_new"].T))
    v[:KEPT] = v[:KEPT] @ expm(p["turn_old"] - p["turn_old"].T)
    like_new.append(y)
    out.append(v)
  return np.array(like_new), np.array(out)


def test_the_loss_is_that_of_the_code_in_float64():
  made = make(augment=lambda key, image: image)
  params, extra = turned_params(made)
  value, (_, metrics) = jax.jit(made.loss)(params, extra, BATCH, jax.random.key(1))
  y, out = restated(params, BATCH)
  apart = lambda a, b: np.mean(1 - np.sum(unit(a) * unit(np.float64(b)), 1))
  of_new, of_old = apart(y, BATCH["new"]), apart(out[:, :KEPT], BATCH["old"])
  told = plain_entropy(y @ np.float64(params["head"]["kernel"]), BATCH["label"])
  by_old = plain_entropy(unit(out[:, :KEPT]) @ np.float64(CLASSIFIER).T, BATCH["label"])
  np.testing.assert_allclose(metrics["old_apart"], of_old, rtol=1e-4)
  np.testing.assert_allclose(metrics["new_apart"], of_new, rtol=1e-4)
  np.testing.assert_allclose(value, told + of_new + HOLD * (of_old + by_old), rtol=1e-4)
  np.testing.assert_allclose(made.encode(params, extra, BATCH["image"]).pooled, out, atol=1e-4)


def test_turns_change_no_product_of_whole_features():
  made = make()
  params, extra = made.init(jax.random.key(0), BATCH)
  plain = np.asarray(made.encode(params, extra, BATCH["image"]).pooled)
  turned = np.asarray(made.encode(turned_params(made)[0], extra, BATCH["image"]).pooled)
  assert np.abs(turned - plain).max() > 0.1
  np.testing.assert_allclose(turned @ turned.T, plain @ plain.T, atol=1e-5)
  np.testing.assert_allclose(np.sum(turned**2, 1), 1 + SHARE**2, rtol=1e-5)


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(make, layout, batch=batch)


def batch():
  return BATCH


def test_turns_move():
  _, states, _ = layouts.steps(make, batch=batch)
  assert all(np.abs(states[-1].params[name]).max() > 0 for name in ("turn_new", "turn_old"))


def test_dimensions_that_do_not_fit_are_refused():
  with pytest.raises(ValueError, match=r"added=5 dimensions of dim=5 and 4 old ones.*1 to 4"):
    bt2(ENCODER, layouts.noise, CLASSIFIER, dim=5, added=5)


def test_bct_adds_the_old_classifiers_cross_entropy():
  options = {"dim": 5, "previous_dim": KEPT}
  still = lambda key, image: image
  plain = compatible(ENCODER, CLASSES, still, **options)
  made = compatible(ENCODER, CLASSES, still, classifier=CLASSIFIER, influence=0.7, **options)
  params, extra = made.init(jax.random.key(0), BATCH)
  with_old, without = (
    jax.jit(x.loss)(params, extra, BATCH, jax.random.key(1))[0] for x in (made, plain)
  )
  z = np.float64(made.encode(params, extra, BATCH["image"]).pooled)
  wanted = 0.7 * plain_entropy(unit(z[:, :KEPT]) @ np.float64(CLASSIFIER).T, BATCH["label"])
  np.testing.assert_allclose(with_old - without, wanted, rtol=1e-4)
