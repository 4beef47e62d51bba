"""iBOT, DINOv2 and MSN: what the student does not see, what balances the teacher, what is held."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from repjax.encoders import MLP, Prototypes
from repjax.learners import Crops, dino, dinov2, ibot, msn, rising_temperature
from repjax.learners.hiding import hide_blocks

pytestmark = pytest.mark.usefixtures("unoptimized")
SAME = lambda key, image: image
DARK = lambda key, image: image / 2
IMAGE = layouts.BATCH["image"] / np.float32(255)


def small(key, image):
  return layouts.noise(key, image[:4, :4])


def head():
  return Prototypes(6, MLP((8, 4)))


LEARNERS = {
  "ibot": lambda axis: ibot(
    layouts.Tiny(),
    head(),
    [Crops(layouts.noise, 2), Crops(small, 1)],
    patch_size=4,
    freeze_steps=1,
    axis_name=axis,
  ),
  "dinov2": lambda axis: dinov2(
    layouts.Tiny(),
    head(),
    Prototypes(5),
    [Crops(layouts.noise, 2), Crops(small, 1)],
    patch_size=4,
    axis_name=axis,
  ),
  "msn": lambda axis: msn(
    layouts.Tiny(),
    MLP((8, 4)),
    [Crops(layouts.noise, 1), Crops(small, 2)],
    layouts.noise,
    patch_size=4,
    prototypes=6,
    ratio=0.5,
    axis_name=axis,
  ),
}


@layouts.everywhere
@pytest.mark.parametrize("name", list(LEARNERS))
def test_eight_devices_make_the_steps_of_one(name, layout):
  layouts.check_layout(LEARNERS[name], layout)


def started(objective):
  """Parameters, and the loss of one batch as a function of them."""
  params, extra = jax.jit(objective.init)(jax.random.key(0), layouts.BATCH)
  value = lambda params: objective.loss(params, extra, layouts.BATCH, jax.random.key(1))[0]
  return params, jax.jit(value)


def scored(module, params, x):
  return np.asarray(module.apply({"params": params}, x), np.float64)


def features(params, image=IMAGE, hidden=False):
  mask = np.full((len(image), 4), hidden)
  return layouts.Tiny().apply({"params": params["encoder"]}, image, mask=mask)


def cross_entropy(target, logits):
  return -np.mean(np.sum(target * log_softmax(logits / 0.1, -1), -1))


def test_ibot_adds_patches_that_the_student_does_not_see_to_dino():
  make = lambda probability: ibot(
    layouts.Tiny(), head(), [Crops(SAME, 2)], patch_size=4, ratio=1.0, probability=probability
  )
  params, all_hidden = started(make(1.0))
  nothing_hidden = started(make(0.0))[1]
  score = lambda x: scored(head(), params["projector"], x)
  assert set(params) == {"encoder", "projector"}  # the head is shared
  seen, unseen = features(params), features(params, hidden=True)
  images = softmax(score(seen.pooled) / 0.04, -1)
  patches = softmax(score(seen.tokens) / 0.04, -1)
  wanted = cross_entropy(images, score(unseen.pooled)) + cross_entropy(
    patches, score(unseen.tokens)
  )
  np.testing.assert_allclose(all_hidden(params), wanted, rtol=1e-4)
  wanted = cross_entropy(images, score(seen.pooled))
  np.testing.assert_allclose(nothing_hidden(params), wanted, rtol=1e-4)


def balanced(scores, epsilon, iterations=3):
  log_q = scores.reshape(-1, scores.shape[-1]) / epsilon
  for _ in range(iterations):
    log_q = log_q - logsumexp(log_q, 0, keepdims=True)
    log_q = log_q - logsumexp(log_q, 1, keepdims=True)
  return np.exp(log_q).reshape(scores.shape)


def test_dinov2_adds_unseen_patches_to_images_on_a_balanced_teacher():
  patch_head = Prototypes(5)
  objective = dinov2(
    layouts.Tiny(), head(), patch_head, [Crops(SAME, 2)],
    patch_size=4, ratio=1.0, probability=1.0, koleo_weight=0.0,
  )  # fmt: skip
  params, value = started(objective)
  seen, unseen = features(params), features(params, hidden=True)
  score = lambda x: scored(head(), params["projector"], x)
  of_patch = lambda x: scored(patch_head, params["patch_projector"], x)
  images = cross_entropy(balanced(score(seen.pooled), 0.07), score(unseen.pooled))
  patches = cross_entropy(balanced(of_patch(seen.tokens), 0.07), of_patch(unseen.tokens))
  np.testing.assert_allclose(value(params), images + patches, rtol=1e-4)


def test_the_spread_of_dinov2_is_of_class_tokens_of_each_view():
  make = lambda weight: dinov2(
    layouts.Tiny(), head(), Prototypes(5), [Crops(SAME, 2)],
    patch_size=4, probability=0.0, koleo_weight=weight,
  )  # fmt: skip
  params, spread_apart = started(make(0.5))
  difference = spread_apart(params) - started(make(0.0))[1](params)
  z = np.asarray(features(params).pooled, np.float64)
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  distance = np.linalg.norm(z[:, None] - z[None], axis=-1) + 9 * np.eye(len(z))
  wanted = 0.5 * 2 * -np.mean(np.log(distance.min(1) + 1e-8))
  np.testing.assert_allclose(difference, wanted, rtol=1e-3)


def test_msn_compares_the_students_views_with_one_that_the_teacher_alone_sees():
  objective = msn(
    layouts.Tiny(), MLP((4,)), [Crops(SAME, 2)], DARK,
    patch_size=4, prototypes=6, ratio=0.0, iterations=0,
  )  # fmt: skip
  params, value = started(objective)
  c = np.asarray(params["predictor"]["prototypes"], np.float64)
  c /= np.linalg.norm(c, axis=1, keepdims=True)

  def cosines(image):
    pooled = layouts.Tiny().apply({"params": params["encoder"]}, image).pooled
    z = scored(MLP((4,)), params["projector"], pooled)
    return z / np.linalg.norm(z, axis=1, keepdims=True) @ c.T

  target = softmax(cosines(IMAGE / 2) / 0.025, -1)
  mean = softmax(cosines(IMAGE) / 0.1, -1).mean(0)
  wanted = cross_entropy(target, cosines(IMAGE)) + np.log(6) + np.sum(mean * np.log(mean))
  np.testing.assert_allclose(value(params), wanted, rtol=1e-4)


def test_msn_learns_its_prototypes_and_the_teacher_has_none():
  start, states, _ = layouts.steps(LEARNERS["msn"])
  assert set(start.extra["teacher"].params) == {"encoder", "projector"}
  before, after = (x.params["predictor"]["prototypes"] for x in (start, states[0]))
  assert np.abs(after - before).max() > 1e-4


def test_some_views_are_hidden_in_part_and_the_others_not_at_all():
  hide = hide_blocks(2, ratio=(0.25, 0.5), probability=0.6)
  keys = jax.random.split(jax.random.key(0), 600)
  mask = jax.vmap(hide, (0, None))(keys, jnp.zeros((8, 8, 1)))["mask"]
  counts = np.bincount(mask.sum(1), minlength=17)
  assert set(np.flatnonzero(counts)) == {0, 4, 5, 6, 7, 8}
  assert abs(counts[0] - 240) < 60
  assert counts[4:9].min() > 72 / 2


def test_prototypes_are_held_for_as_long_as_asked():
  make = lambda axis: dino(
    layouts.Tiny(), head(), [Crops(layouts.noise, 2)], freeze_steps=1, axis_name=axis
  )
  start, (first, second), _ = layouts.steps(make)
  prototypes = lambda state: state.params["projector"]["prototypes"]
  np.testing.assert_array_equal(prototypes(first), prototypes(start))
  assert np.abs(prototypes(second) - prototypes(start)).max() > 1e-5
  kernel = lambda state: state.params["encoder"]["patch"]["kernel"]
  assert np.abs(kernel(first) - kernel(start)).max() > 1e-5


def test_what_has_no_prototypes_cannot_hold_them():
  objective = dino(layouts.Tiny(), MLP((4,)), [Crops(SAME, 2)], freeze_steps=1)
  with pytest.raises(ValueError, match="no parameter is called prototypes"):
    started(objective)[1](started(objective)[0])


def test_temperature_rises_in_a_line_and_stays():
  temperature = rising_temperature(0.04, 0.07, 30)
  np.testing.assert_allclose([temperature(k) for k in (0, 10, 30, 90)], [0.04, 0.05, 0.07, 0.07])
