"""The referential game: who is meant, what is said, and that the speaker learns by it."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest

from repjax.learners import referential_game, symbols

pytestmark = pytest.mark.usefixtures("unoptimized")
SPEAKER, LISTENER = layouts.Tiny(dim=6), layouts.Tiny()
VOCABULARY, LENGTH, DIM, TEMPERATURE, RELAXATION = 5, 3, 4, 0.3, 0.8
BATCH = layouts.BATCH
GAMES = pytest.mark.parametrize("within", [False, True], ids=["instances", "classes"])


def make(axis_name=None, *, within=False, augment=layouts.noise):
  return referential_game(
    SPEAKER, LISTENER, augment, vocabulary=VOCABULARY, length=LENGTH, dim=DIM,
    relaxation=RELAXATION, temperature=TEMPERATURE, within_class=within, axis_name=axis_name,
  )  # fmt: skip


def of_instances(axis_name):
  return make(axis_name)


def of_classes(axis_name):
  return make(axis_name, within=True)


def start(within):
  made = make(within=within, augment=lambda key, image: image)
  return made, *made.init(jax.random.key(0), BATCH)


def dense(params, x):
  return x @ np.float64(params["kernel"]) + np.float64(params["bias"])


def pooled(module, params, image):
  return np.float64(module.apply({"params": params}, image / np.float32(255)).pooled)


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def restated(params, label, key, within):
  """Message by message: the loss, and the share that is understood."""
  logits = dense(params["say"], pooled(SPEAKER, params["speaker"], BATCH["image"]))
  views = unit(dense(params["look"], pooled(LISTENER, params["listener"], BATCH["image"])))
  each, right = [], []
  for i, row in enumerate(logits.reshape(16, LENGTH, VOCABULARY)):
    noise = jax.random.gumbel(jax.random.fold_in(jax.random.split(key, 3)[2], i), row.shape)
    said = np.eye(VOCABULARY)[(row + np.float64(noise)).argmax(1)].ravel()
    score = views @ unit(dense(params["read"], said)) / TEMPERATURE
    others = [j for j in range(16) if not (within and j == i)]
    targets = [j for j in others if (label[j] == label[i] >= 0 if within else j == i)]
    if targets:
      total = np.log(sum(np.exp(score[j]) for j in others))
      each.append(np.mean([total - score[j] for j in targets]))
      right.append(max(others, key=lambda j: score[j]) in targets)
  return np.mean(each), np.mean(right)


@GAMES
def test_the_loss_is_the_games_in_float64(within):
  made, params, extra = start(within)
  key = jax.random.key(4)
  value, (_, metrics) = jax.jit(made.loss)(params, extra, BATCH, key)
  wanted, understood = restated(params, BATCH["label"], key, within)
  np.testing.assert_allclose(value, wanted, rtol=1e-4)
  np.testing.assert_allclose(metrics["understood"], understood, rtol=1e-6)


def test_the_gradient_of_a_symbol_is_that_of_its_softmax():
  made, params, extra = start(False)
  key = jax.random.key(4)
  gradient = jax.jit(jax.grad(lambda p: made.loss(p, extra, BATCH, key)[0]))(params)
  assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(gradient["speaker"]))

  # Bias of the logits: the loss by the one-hot strings, times the softmax by its logits.
  image = jnp.asarray(BATCH["image"], jnp.float32) / 255
  apply = lambda module, name: module.apply({"params": params[name]}, image).pooled
  linear = lambda name, x: x @ params[name]["kernel"] + params[name]["bias"][None]
  keys = [jax.random.fold_in(jax.random.split(key, 3)[2], i) for i in range(16)]
  noise = jnp.stack([jax.random.gumbel(k, (LENGTH, VOCABULARY)) for k in keys])
  noisy = linear("say", apply(SPEAKER, "speaker")).reshape(16, LENGTH, VOCABULARY) + noise
  to_unit = lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True)
  views = to_unit(linear("look", apply(LISTENER, "listener")))

  def of_strings(said):
    score = to_unit(linear("read", said.reshape(16, -1))) @ views.T / TEMPERATURE
    return jnp.mean(jax.nn.logsumexp(score, 1) - jnp.diagonal(score))

  slope = np.float64(jax.grad(of_strings)(jax.nn.one_hot(noisy.argmax(-1), VOCABULARY)))
  p = np.float64(jax.nn.softmax(noisy / RELAXATION))
  wanted = p * (slope - np.sum(p * slope, -1, keepdims=True)) / RELAXATION
  np.testing.assert_allclose(gradient["say"]["bias"], wanted.sum(0).ravel(), rtol=1e-3, atol=1e-6)


@GAMES
@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout, within):
  layouts.check_layout(of_classes if within else of_instances, layout)


def test_strings_are_the_likeliest_symbols_and_all_that_the_listener_reads():
  made, params, extra = start(False)
  out = made.encode(params, extra, BATCH["image"])
  logits = dense(params["say"], pooled(SPEAKER, params["speaker"], BATCH["image"]))
  said = logits.reshape(16, LENGTH, VOCABULARY).argmax(-1)
  np.testing.assert_array_equal(symbols(out), said)
  np.testing.assert_array_equal(out.pooled, np.eye(VOCABULARY)[said].reshape(16, -1))
  read = unit(dense(params["read"], np.eye(VOCABULARY)[said].reshape(16, -1)))
  np.testing.assert_allclose(out.layers[0], read, atol=1e-5)


def test_images_without_a_class_are_candidates_but_say_nothing():
  made, params, extra = start(True)
  loss = jax.jit(
    lambda label: made.loss(params, extra, BATCH | {"label": label}, jax.random.key(4))[0]
  )
  label = BATCH["label"]
  alone = np.where(label == 2, 7 + np.arange(16), label)  # classes of one: no target
  np.testing.assert_allclose(loss(alone), loss(np.where(label == 2, -1, label)), rtol=1e-6)
  assert loss(np.full(16, -1)) == 0
