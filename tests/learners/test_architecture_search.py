"""Architecture search: a step by hand, each side on its own rows, what it finds, any layout."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import optax
import pytest
from flax import linen as nn

from repjax.encoders import Features, mixing_weights
from repjax.learners import architecture_search, supervised


class Mixed(nn.Module):
  """Two looks at an image, each by a dense layer, mixed by what is searched."""

  max_w: bool = True

  @nn.compact
  def __call__(self, image, *, train=False):
    weights = mixing_weights(self.param("alphas", nn.initializers.zeros, (2,)), max_w=self.max_w)
    halves = jnp.split(image.reshape(len(image), -1), 2, -1)
    looks = [nn.Dense(3, name=f"look_{i}")(half) for i, half in enumerate(halves)]
    x = weights[0] * looks[0] + weights[1] * looks[1]
    return Features(x, x[:, None], (x,))


RATES = (0.2, 0.5)


def learner(axis_name=None, augment=layouts.noise, *, max_w=True, classes=3, **options):
  objective = supervised(Mixed(max_w), classes, augment, axis_name=axis_name)
  steps = (optax.sgd(rate) for rate in RATES)
  return architecture_search(objective, *steps, axis_name=axis_name, **options)


same = lambda key, image: image


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(learner, layout)


@pytest.mark.parametrize("max_w", [False, True])
def test_a_step_moves_choices_on_held_rows_and_then_weights_on_theirs(max_w):
  made, batch = learner(augment=same, max_w=max_w), layouts.BATCH
  state = made.init(jax.random.key(0), batch)
  # Choices away from their start, where both operations weigh alike.
  state.params["encoder"]["alphas"] = jnp.array([0.7, -0.4])
  after, metrics = jax.jit(made.update)(state, batch, jax.random.key(1))

  def slopes(p, rows):
    """Loss of some rows, and its derivatives, in NumPy."""
    x = batch["image"][rows].reshape(len(rows), -1) / 255
    x, label = np.split(x, 2, -1), batch["label"][rows]
    share = np.exp(p["alphas"]) / np.exp(p["alphas"]).sum()
    w = 1 - share.max() + share if max_w else share
    looks = [x[i] @ p[f"kernel_{i}"] + p[f"bias_{i}"] for i in range(2)]
    z = w[0] * looks[0] + w[1] * looks[1]
    logits = z @ p["head"] + p["head_bias"]
    chance = np.exp(logits - logits.max(1, keepdims=True))
    chance /= chance.sum(1, keepdims=True)
    known = label >= 0
    loss = -np.log(chance[known, label[known]]).mean()
    d = (chance - np.eye(3)[label]) * known[:, None] / known.sum()
    dz = d @ p["head"].T
    dw = np.array([(dz * look).sum() for look in looks])
    found = {"alphas": share * (dw - share @ dw), "head": z.T @ d, "head_bias": d.sum(0)}
    for i in range(2):
      found |= {f"kernel_{i}": w[i] * x[i].T @ dz, f"bias_{i}": w[i] * dz.sum(0)}
    return loss, found

  def plain(params):
    encoder, head = params["encoder"], params["head"]
    found = {"alphas": encoder["alphas"], "head": head["kernel"], "head_bias": head["bias"]}
    for i in range(2):
      look = encoder[f"look_{i}"]
      found |= {f"kernel_{i}": look["kernel"], f"bias_{i}": look["bias"]}
    return jax.tree.map(np.float64, found)

  p = plain(state.params)
  train, held = np.arange(0, 16, 2), np.arange(1, 16, 2)
  held_loss, slope = slopes(p, held)
  p["alphas"] = p["alphas"] - RATES[1] * slope["alphas"]
  loss, slope = slopes(p, train)
  wanted = {k: x if k == "alphas" else x - RATES[0] * slope[k] for k, x in p.items()}
  close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)
  jax.tree.map(close, plain(after.params), wanted)
  close(metrics["held_loss"], held_loss)
  close(metrics["loss"], loss)
  of_weights = [np.square(x).sum() for k, x in slope.items() if k != "alphas"]
  close(metrics["grad_norm"], np.sqrt(sum(of_weights)))


@pytest.mark.parametrize("told, max_w", [(0, False), (1, True)])
def test_of_two_looks_the_one_that_tells_the_label_is_found(told, max_w):
  # The other half is independent of the label: no function of it is below log 2 where it is held
  # out, while a linear one of this half comes to 0.
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (64, 2, 2, 1), np.uint8)
  image[:, told] = np.where(np.arange(64) % 4 < 2, 30, 220)[:, None, None]
  batch = {"image": image, "label": (np.arange(64) % 4 < 2).astype(np.int32)}
  made = learner(augment=same, max_w=max_w, classes=2)
  state, step = made.init(jax.random.key(0), batch), jax.jit(made.update)
  for i in range(40):
    state, metrics = step(state, batch, jax.random.key(i))
  alphas = state.params["encoder"]["alphas"]
  assert alphas[told] - alphas[1 - told] > 0.5
  assert metrics["held_loss"] < 0.4 < np.log(2)


def test_parts_of_the_callers_own_are_taken_and_others_refused():
  image, label = layouts.BATCH["image"], layouts.BATCH["label"]
  batch = {"image": image[:8], "label": label[:8], "held": (image[8:], label[8:])}
  apart = lambda b: (
    {k: b[k] for k in ("image", "label")},
    dict(zip(("image", "label"), b["held"], strict=True)),
  )
  woven = jax.tree.map(
    lambda a, b: np.stack([a, b], 1).reshape(-1, *a.shape[1:]),
    *apart(batch),
  )
  results = []
  for options, given in (({"parts": apart}, batch), ({}, woven)):
    made = learner(augment=same, **options)
    state = made.init(jax.random.key(0), given)
    results.append(jax.jit(made.update)(state, given, jax.random.key(1))[0].params)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), *results)
  odd = jax.tree.map(lambda x: x[:7], woven)
  with pytest.raises(ValueError, match=r"a batch of 7 has no halves.*parts="):
    made.update(state, odd, jax.random.key(0))


def test_a_net_without_choices_is_refused():
  objective = supervised(layouts.Tiny(), 3, same)
  made = architecture_search(objective, optax.sgd(0.1), optax.sgd(0.1))
  with pytest.raises(ValueError, match=r"begins with prefix='alphas'"):
    made.init(jax.random.key(0), layouts.BATCH)
