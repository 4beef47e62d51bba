"""Self-distillation: the loss in float64, where its gradients stop, any layout."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest
from flax import linen as nn

from repjax.encoders import Features
from repjax.learners import self_distillation, supervised


class Deep(nn.Module):
  """Two layers of tokens, one on top of the other."""

  @nn.compact
  def __call__(self, image, *, train=False):
    first = jnp.tanh(nn.Dense(5, name="first")(image.reshape(len(image), 4, -1)))
    last = jnp.tanh(nn.Dense(4, name="last")(first))
    return Features(jnp.mean(last, 1), last, (first, last))


def objective(axis_name, **options):
  return self_distillation(Deep(), 3, layouts.noise, axis_name=axis_name, **options)


def setting(**options):
  made = self_distillation(Deep(), 3, lambda key, image: image, **options)
  params, extra = made.init(jax.random.key(0), layouts.BATCH)
  params = jax.tree.map(lambda x: 3 * x, params)  # a net that is sure of something
  return made, params, lambda p: made.loss(p, extra, layouts.BATCH, jax.random.key(1))


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(objective, layout)


def test_the_loss_is_cross_entropy_and_what_the_whole_tells_the_first_layer():
  _, params, loss = setting(weight=2.0, temperature=1.5)
  value, (_, metrics) = jax.jit(loss)(params)
  wide = jax.tree.map(np.float64, params)
  apply = lambda p, x: x @ p["kernel"] + p["bias"]
  first = np.tanh(apply(wide["encoder"]["first"], layouts.BATCH["image"].reshape(16, 4, -1) / 255))
  last = np.tanh(apply(wide["encoder"]["last"], first))
  x = first.mean(1)
  x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
  short, whole = apply(wide["exit_0"], x), apply(wide["head"], last.mean(1))
  wanted = layouts.cross_entropy(whole, layouts.BATCH["label"])
  divergence = layouts.divergence(short, whole, temperature=1.5)
  np.testing.assert_allclose(metrics["label_loss"], wanted, rtol=1e-5)
  np.testing.assert_allclose(metrics["short_loss"], divergence, rtol=1e-5)
  np.testing.assert_allclose(value, wanted + 2 * divergence, rtol=1e-5)
  assert divergence > 0.01


def test_short_paths_learn_from_long_ones_and_teach_them_nothing():
  _, params, loss = setting()
  *_, plain = setting(weight=0.0)
  ours, labels_alone = (jax.jit(jax.grad(f, has_aux=True))(params)[0] for f in (loss, plain))
  close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)
  jax.tree.map(close, ours["head"], labels_alone["head"])
  jax.tree.map(close, ours["encoder"]["last"], labels_alone["encoder"]["last"])
  apart = ours["encoder"]["first"]["kernel"] - labels_alone["encoder"]["first"]["kernel"]
  assert np.abs(apart).max() > 1e-3 and np.abs(ours["exit_0"]["kernel"]).max() > 1e-3
  assert not labels_alone["exit_0"]["kernel"].any()
  # Without the short paths' part it is the plain classifier.
  made = supervised(Deep(), 3, lambda key, image: image)
  only = {name: params[name] for name in ("encoder", "head")}
  value = made.loss(only, {}, layouts.BATCH, jax.random.key(1))[0]
  np.testing.assert_allclose(plain(params)[0], value, rtol=1e-5)


def test_a_net_of_one_layer_is_refused():
  made = self_distillation(layouts.Tiny(), 3, layouts.noise)
  with pytest.raises(ValueError, match=r"an encoder of 1 layer has none to teach"):
    made.init(jax.random.key(0), layouts.BATCH)
