"""ConvNeXt: timm's arithmetic, published sizes, stochastic depth."""

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_names
from torch_names import ORACLES, weights

from repjax.encoders import ConvNeXt, GlobalResponseNorm, convnext
from repjax.pretrained.hierarchical import TIMM_CONVNEXT, convnext_rules
from repjax.train.flops import count_flops
from repjax.trees import convert, revert

FIXTURE = np.load(ORACLES / "convnext.npz")
IMAGE = weights("image", (2, 64, 32, 3))
TINY = {"depths": (1, 2, 1, 1), "dim": 8}


def close(x, y, tolerance=1e-5):
  np.testing.assert_allclose(x, y, tolerance, tolerance)


@pytest.mark.parametrize("case, grn", [("version_1", False), ("version_2", True)])
def test_equals_timm_with_its_weights(case, grn):
  module, state = ConvNeXt(**TINY, grn=grn), torch_names.drawn(str(FIXTURE[f"{case}/shapes"]))
  rules, like = convnext_rules(module, TIMM_CONVNEXT), drawn.shapes(module, IMAGE)
  variables = convert(state, rules, like)
  features = jax.jit(module.apply)(variables, IMAGE)
  back = revert(variables, rules)
  assert all(np.array_equal(back[name], state[name]) for name in state)
  close(features.pooled, FIXTURE[f"{case}/pooled"])
  close(features.tokens, FIXTURE[f"{case}/last"].reshape(2, 64, -1).swapaxes(1, 2))
  for i, layer in enumerate(features.layers):
    close(layer, FIXTURE[f"{case}/layers/{i}"])


THOROUGH = {"marks": pytest.mark.thorough}


@pytest.mark.parametrize(
  "name, millions, billions",
  [
    ("convnext_t", "29", "4.5"),
    pytest.param("convnext_s", "50", "8.7", **THOROUGH),
    ("convnext_b", "89", "15.4"),
    ("convnext_l", "198", "34.4"),
    pytest.param("convnext_xl", "350", "60.9", **THOROUGH),
    ("convnextv2_a", "3.7", "0.55"),
    pytest.param("convnextv2_f", "5.2", "0.78", **THOROUGH),
    pytest.param("convnextv2_p", "9.1", "1.37", **THOROUGH),
    ("convnextv2_n", "15.6", "2.45"),
    pytest.param("convnextv2_t", "28.6", "4.47", **THOROUGH),
    pytest.param("convnextv2_h", "660", "115", **THOROUGH),
  ],
)
def test_named_sizes_have_the_published_parameters_and_multiply_adds(name, millions, billions):
  module, image = convnext(name), jnp.zeros((1, 224, 224, 3))
  params = jax.eval_shape(module.init, jax.random.key(0), image)
  classifier = 1000 * module.dim * 8
  count = sum(x.size for x in jax.tree.leaves(params)) + classifier + 1000
  products = count_flops(module.apply, params, image) / 2 + classifier
  rounding = lambda number: 0.5 * 10.0 ** -len(number.partition(".")[2])
  assert count / 1e6 == pytest.approx(float(millions), rel=0, abs=rounding(millions))
  # Published counts have the norms' multiplications in them, up to 0.35 %.
  assert products / 1e9 == pytest.approx(float(billions), rel=3.5e-3, abs=rounding(billions))


def test_response_norm_equals_its_definition_and_is_the_identity_at_the_start():
  x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
  scale, bias = np.arange(5, dtype=np.float32), np.ones(5, np.float32)
  module = GlobalResponseNorm()
  close(module.init_with_output(jax.random.key(0), x)[0], x, 0)
  norms = np.sqrt((x.astype(np.float64) ** 2).sum((1, 2), keepdims=True))
  expected = x + scale * (x * norms / (norms.mean(-1, keepdims=True) + 1e-6)) + bias
  apply = lambda x: module.apply({"params": {"scale": scale, "bias": bias}}, x)
  close(apply(x), expected)
  assert np.isfinite(jax.grad(lambda x: jnp.sum(apply(x)))(jnp.zeros_like(x))).all()


def test_stochastic_depth_leaves_out_whole_branches_and_keeps_their_mean():
  module = ConvNeXt((1, 1), 4, layer_scale=1.0, patch_size=1, drop_path=0.5)
  image = np.tile(weights("image", (1, 4, 4, 3)), (64, 1, 1, 1))
  params = drawn.of_module(module, image)
  layers = jax.jit(module.apply)(params, image).layers
  run = jax.jit(lambda key: module.apply(params, image, train=True, rngs={"dropout": key}))
  dropped = run(jax.random.key(1)).layers
  close(dropped[0], layers[0])  # The first block's odds are 0.
  kinds = np.unique(np.round(dropped[1], 4), axis=0)
  assert len(kinds) == 2  # Without the branch, or with twice the branch.
  close(kinds.mean(0), layers[1][0], 1e-3)


@pytest.mark.thorough
@pytest.mark.parametrize("grn", [False, True])
def test_gradient_in_bfloat16_is_finite(grn):
  module = ConvNeXt((1, 1), 8, grn=grn, patch_size=2, dtype=jnp.bfloat16)
  image = weights("image", (1, 8, 8, 3))
  params = drawn.of_module(module, image)
  loss = lambda params: jnp.sum(module.apply(params, image).pooled.astype(jnp.float32) ** 2)
  grads = jax.tree.leaves(jax.jit(jax.grad(loss))(params))
  assert all(np.isfinite(x).all() and x.dtype == jnp.float32 for x in grads)


def test_sizes_that_do_not_divide_and_unknown_names_are_told_the_way_out():
  init = lambda shape: jax.eval_shape(ConvNeXt(**TINY).init, jax.random.key(0), jnp.zeros(shape))
  with pytest.raises(ValueError, match=r"image of 64x40 is not divisible by the stride 32.*64x32"):
    init((1, 64, 40, 3))
  with pytest.raises(ValueError, match=r"expected image .* got shape \(64, 64, 3\)"):
    init((64, 64, 3))
  with pytest.raises(ValueError, match=r"'convnext_m' is not.*convnext_t, convnext_s"):
    convnext("convnext_m")
