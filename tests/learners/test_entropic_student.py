"""Entropic student: both stages in NumPy, what stays as it is, and layouts."""

import functools

import jax
import jax.numpy as jnp
import layouts
import numpy as np
from flax import linen as nn

from repjax.codes import Bottleneck, FactorizedPrior
from repjax.encoders import Features
from repjax.learners import coded_classifier, entropic_student, tuned_student
from repjax.learners.entropic_student import Halves

SMALL = {name: x[:2] for name, x in layouts.BATCH.items()}
still = lambda key, image: image


class Front(nn.Module):
  """Patches of 4x4 pixels to vectors of 6."""

  @nn.compact
  def __call__(self, image):
    return jnp.tanh(nn.Conv(6, (4, 4), (4, 4), name="conv")(image))


class Back(nn.Module):
  """Vectors of 6 to vectors of 5 and their mean."""

  @nn.compact
  def __call__(self, x):
    x = jnp.tanh(nn.Dense(5, name="dense")(x))
    tokens = x.reshape(len(x), -1, 5)
    return Features(jnp.mean(tokens, 1), tokens, (x,))


HALVES = Halves(Front(), Back())
BOTTLENECK = Bottleneck(nn.Conv(3, (4, 4), (4, 4)), nn.Dense(6), FactorizedPrior(3, (3,)))


@functools.cache
def teacher():
  with jax.ensure_compile_time_eval():
    encoder = HALVES.init(jax.random.key(3), jnp.zeros((1, 8, 8, 3)))["params"]
    head = nn.Dense(3).init(jax.random.key(4), jnp.zeros((1, 5)))["params"]
  return {"encoder": encoder, "head": head}


@functools.cache
def learnt():
  params, _ = first(None).init(jax.random.key(5), SMALL)
  params["analysis"]["kernel"] *= 4
  return params


def first(axis_name, augment=layouts.noise):
  return entropic_student(
    BOTTLENECK, HALVES, teacher(), augment, beta=0.1, axis_name=axis_name
  )  # fmt: skip


def second(axis_name, augment=layouts.noise, **options):
  options = {"alpha": 0.3, "temperature": 2.0, "axis_name": axis_name, **options}
  return tuned_student(BOTTLENECK, HALVES, teacher(), learnt(), augment, **options)


def alone(axis_name):
  return coded_classifier(BOTTLENECK, Back(), 3, layouts.noise, beta=0.1, axis_name=axis_name)


@layouts.everywhere
def test_eight_devices_make_the_first_steps_of_one(layout):
  layouts.check_layout(first, layout)


@layouts.everywhere
def test_eight_devices_make_the_second_steps_of_one(layout):
  layouts.check_layout(second, layout)


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one_without_a_teacher(layout):
  layouts.check_layout(alone, layout)


def test_the_first_stage_is_distortion_of_all_layers_and_the_price_of_the_bits():
  made = first(None, still)
  params, extra = learnt(), {"teacher": teacher()}
  batch = layouts.BATCH
  value, (_, metrics) = jax.jit(made.loss)(params, extra, batch, jax.random.key(1))
  image = np.float32(batch["image"]) / 255
  _, k_noise = jax.random.split(jax.random.key(1))
  keys = jnp.stack([jax.random.fold_in(k_noise, i) for i in range(16)])
  coded = BOTTLENECK.apply({"params": params}, image, keys=keys)
  back = lambda x: np.tanh(
    np.float64(x) @ np.float64(teacher()["encoder"]["back"]["dense"]["kernel"])
  )
  theirs = np.float64(Front().apply({"params": teacher()["encoder"]["front"]}, image))
  ours = np.float64(coded.decoded)
  apart = ((ours - theirs) ** 2).sum() + ((back(ours) - back(theirs)) ** 2).sum()
  np.testing.assert_allclose(metrics["distortion"], apart / 16, rtol=1e-4)
  np.testing.assert_allclose(value, apart / 16 + 0.1 * np.mean(coded.bits), rtol=1e-4)


def test_the_second_stage_mixes_labels_and_what_the_teacher_says():
  made, batch = second(None, still), layouts.BATCH
  params, extra = made.init(jax.random.key(0), batch)
  value, (_, metrics) = jax.jit(made.loss)(params, extra, batch, jax.random.key(1))
  image = np.float32(batch["image"]) / 255
  coded = BOTTLENECK.apply({"params": learnt()}, image)
  assert len(np.unique(coded.latent)) > 2
  head = jax.tree.map(np.float64, teacher()["head"])

  def log_p(x, temperature):
    pooled = np.float64(Back().apply({"params": teacher()["encoder"]["back"]}, x).pooled)
    logits = (pooled @ head["kernel"] + head["bias"]) / temperature
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))

  theirs = Front().apply({"params": teacher()["encoder"]["front"]}, image)
  t, s = log_p(theirs, 2), log_p(coded.decoded, 2)
  known = np.flatnonzero(batch["label"] >= 0)
  told = 4 * (np.exp(t) * (t - s)).sum(1).mean()
  labels = -log_p(coded.decoded, 1)[known, batch["label"][known]].mean()
  np.testing.assert_allclose(value, 0.3 * labels + 0.7 * told, rtol=1e-4)
  np.testing.assert_allclose(metrics["bits"], np.mean(coded.bits), rtol=1e-5)


def test_teacher_and_sender_never_move():
  _, states, _ = layouts.steps(first)
  jax.tree.map(np.testing.assert_array_equal, states[-1].extra["teacher"], teacher())
  start, states, _ = layouts.steps(second)
  jax.tree.map(np.testing.assert_array_equal, states[-1].extra, start.extra)
  assert "analysis" not in states[-1].params


def test_with_a_bottleneck_that_loses_nothing_the_second_stage_starts_at_the_teacher():
  """Where the decoded map is the teacher's, its back and head say what the teacher says."""
  made = second(None, still, alpha=0.0)
  params, extra = made.init(jax.random.key(0), SMALL)
  params["synthesis"] = jax.tree.map(jnp.zeros_like, params["synthesis"])
  lossless = jax.tree.map(jnp.zeros_like, teacher()["encoder"]["front"])
  lossless["conv"]["bias"] = jnp.arctanh(jnp.arange(6.0) / 6)
  params["synthesis"]["bias"] = jnp.arange(6.0) / 6
  known = extra["teacher"]
  known = known | {"encoder": known["encoder"] | {"front": lossless}}
  value, _ = made.loss(params, extra | {"teacher": known}, SMALL, jax.random.key(1))
  np.testing.assert_allclose(value, 0, atol=1e-6)


def test_without_a_teacher_it_is_cross_entropy_and_the_price_of_the_bits():
  batch, made = layouts.BATCH, alone(None)
  known = {"back": teacher()["encoder"]["back"], "head": teacher()["head"]}
  params = {"bottleneck": learnt(), **known}
  value, (_, metrics) = jax.jit(made.loss)(params, {}, batch, jax.random.key(1))
  k_augment, k_noise = jax.random.split(jax.random.key(1))
  keys = [jnp.stack([jax.random.fold_in(k, i) for i in range(16)]) for k in (k_augment, k_noise)]
  image = jax.vmap(layouts.noise)(keys[0], np.float32(batch["image"]) / 255)
  coded = BOTTLENECK.apply({"params": learnt()}, image, keys=keys[1])
  pooled = np.float64(Back().apply({"params": params["back"]}, coded.decoded).pooled)
  head = jax.tree.map(np.float64, params["head"])
  logits = pooled @ head["kernel"] + head["bias"]
  log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
  known = np.flatnonzero(batch["label"] >= 0)
  labels = -log_p[known, batch["label"][known]].mean()
  np.testing.assert_allclose(metrics["bits"], np.mean(coded.bits), rtol=1e-4)
  np.testing.assert_allclose(value, labels + 0.1 * np.mean(coded.bits), rtol=1e-4)
