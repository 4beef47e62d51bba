"""MobileNets and ULSAM: timm's arithmetic, published sizes, subspaces in float64, savings."""

import json
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.encoders import SubspaceAttention, mobilenet
from repjax.pretrained import mobilenet_rules
from repjax.train.flops import count_flops
from repjax.trees import convert, revert

ROOT = pathlib.Path(__file__).parents[2]
FIXTURE = np.load(ROOT / "tests/oracles/mobilenet.npz")
weights = runpy.run_path(str(ROOT / "tests/oracles/encoders.py"))["weights"]
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


def close(x, y, tolerance=1e-5):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), x, y)


def loaded(name, multiplier):
  """A module, timm's weights as ours and as theirs, and the rules between."""
  shapes = json.loads(str(FIXTURE[f"{name}/shapes"]))
  state = {k: weights(k, tuple(shape)) for k, shape in shapes.items()}
  module = mobilenet(name, multiplier=multiplier)
  rules = mobilenet_rules(module)
  like = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
  return module, convert(state, rules, like), state, rules


of_timm = pytest.mark.parametrize("case", [("mobilenet_v1", 1), ("mobilenet_v2", 0.5)])


@of_timm
def test_equals_timm_with_its_weights(case):
  module, variables, *_ = loaded(*case)
  features = jax.jit(module.apply)(variables, weights("image", (1, 32, 32, 3)))
  close(features.pooled, FIXTURE[f"{case[0]}/pooled"])
  for i, layer in enumerate(features.layers):
    close(layer, FIXTURE[f"{case[0]}/layer_{i}"])


@of_timm
def test_weights_are_given_back_as_they_were(case):
  _, variables, state, rules = loaded(*case)
  back = revert(variables, rules)
  assert back.keys() == state.keys()
  assert all(np.array_equal(back[name], state[name]) for name in state)


def cost(module, channels):
  """Millions of parameters and of multiply-adds at 224 pixels, with a head of 1000 classes."""
  image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
  variables = jax.eval_shape(module.init, jax.random.key(0), image)
  count = sum(x.size for x in jax.tree.leaves(variables["params"])) + 1000 * (channels + 1)
  return count / 1e6, count_flops(module.apply, variables, image) / 2e6 + channels / 1e3


def test_named_sizes_have_the_published_parameters_and_multiply_adds():
  millions, multiply_adds = cost(mobilenet("mobilenet_v1"), 1024)
  assert (round(millions, 1), round(multiply_adds)) == (4.2, 569)  # 2017, table 8
  millions, multiply_adds = cost(mobilenet("mobilenet_v2"), 1280)
  # torchvision's count, of which the paper writes 3.4 M; its multiply-adds are in table 4.
  assert (round(millions * 1e6), round(multiply_adds, -1)) == (3_504_872, 300)


def test_attention_saves_the_blocks_it_stands_for():
  whole = cost(mobilenet("mobilenet_v1"), 1024)
  spared = cost(mobilenet("mobilenet_v1", attention=(7, 8)), 1024)
  block = 512 * 9 + 512 * 512 + 4 * 512  # depthwise, pointwise, two norms
  attention = 512 * 4 + (512 + 4 * 3)  # either convolution with its biases and norm
  np.testing.assert_allclose((whole[0] - spared[0]) * 1e6, 2 * (block - attention), rtol=1e-6)
  saved = 2 * 14 * 14 * (512 * 9 + 512 * 512 - 2 * 512)
  np.testing.assert_allclose((whole[1] - spared[1]) * 1e6, saved, rtol=1e-6)


def test_each_subspace_has_its_own_map():
  x = RNG.normal(size=(2, 4, 5, 6)).astype(np.float32)
  module = SubspaceAttention(3)
  shapes = jax.eval_shape(module.init, jax.random.key(0), x)
  draw = lambda s: RNG.normal(size=s.shape).astype(np.float32)
  variables = {k: jax.tree.map(draw, v) for k, v in shapes.items()}
  variables["batch_stats"] = jax.tree.map(lambda v: np.abs(v) + 0.5, variables["batch_stats"])
  p, s = (jax.tree.map(np.float64, variables[k]) for k in ("params", "batch_stats"))

  def norm_relu(y, name, part):
    y = (y - s[name]["mean"][part]) / np.sqrt(s[name]["var"][part] + 1e-5)
    return np.maximum(y * p[name]["scale"][part] + p[name]["bias"][part], 0)

  wanted = []
  for group in range(3):  # the authors' loop over subspaces
    part = np.s_[2 * group : 2 * group + 2]
    f = x[..., part].astype(np.float64)
    y = f * p["depthwise"]["kernel"][0, 0, 0, part] + p["depthwise"]["bias"][part]
    y = norm_relu(y, "depthwise_norm", part)
    y = np.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    y = np.max([y[:, i : i + 4, j : j + 5] for i in range(3) for j in range(3)], 0)
    y = y @ p["pointwise"]["kernel"][0, 0, :, group] + p["pointwise"]["bias"][group]
    y = np.exp(norm_relu(y, "pointwise_norm", group))
    y /= y.sum((1, 2), keepdims=True)
    wanted.append(f * y[..., None] + f)
  close(module.apply(variables, x), np.concatenate(wanted, -1))


@pytest.mark.thorough
def test_gradients_in_bfloat16_are_finite():
  module = mobilenet("mobilenet_v1", multiplier=0.25, attention=(7,), dtype=jnp.bfloat16)
  image = weights("image", (2, 32, 32, 3))
  variables = jax.jit(module.init)(jax.random.key(0), image)

  def loss(params):
    variables_now = variables | {"params": params}
    features, _ = module.apply(variables_now, image, train=True, mutable="batch_stats")
    return jnp.mean(features.pooled.astype(jnp.float32) ** 2)

  grads = jax.jit(jax.grad(loss))(variables["params"])
  assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))


def test_errors_name_what_does_not_fit():
  image = jnp.zeros((1, 32, 32, 3))
  with pytest.raises(ValueError, match=r"'mobilenet_v9'.*mobilenet_v1, mobilenet_v2"):
    mobilenet("mobilenet_v9")
  with pytest.raises(ValueError, match=r"block 5, which makes 512 channels at stride 2 of 256"):
    jax.eval_shape(mobilenet("mobilenet_v1", attention=(5,)).init, jax.random.key(0), image)
  with pytest.raises(ValueError, match=r"512 channels .* groups=3"):
    module = mobilenet("mobilenet_v1", attention=(6,), subspaces=3)
    jax.eval_shape(module.init, jax.random.key(0), image)
