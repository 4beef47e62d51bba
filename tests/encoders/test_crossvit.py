"""CrossViT: timm's arithmetic, the paper's sizes, and who sees whom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_names import ORACLES, drawn, weights

from repjax.encoders import CrossViT, crossvit
from repjax.pretrained import crossvit_rules
from repjax.train.flops import count_flops
from repjax.trees import convert, revert

FIXTURE = np.load(ORACLES / "crossvit.npz")
TINY = {"dim": (16, 32), "heads": (2, 4), "mlp_ratio": 3}
CASES = {
  "patch": TINY | {"patch_size": (4, 8), "depth": (1, 2), "fusions": 2, "image_size": (24, 16)},
  "conv": TINY | {"patch_size": (12, 16), "depth": (1, 1), "fusions": 1, "stem": "conv"},
}
thorough = pytest.mark.thorough
SIDES = {"patch": 24, "conv": 48}


def loaded(case):
  """A small module, timm's weights as ours and as theirs, and the rules between."""
  module, state = CrossViT(**CASES[case]), drawn(str(FIXTURE[f"{case}/shapes"]))
  rules = crossvit_rules(module)
  like = jax.eval_shape(module.init, jax.random.key(0), images(SIDES[case]))
  return module, convert(state, rules, like), state, rules


def images(side):
  return weights("image", (2, side, side, 3))


@pytest.mark.parametrize("case", CASES)
def test_equals_timm_with_its_weights(case):
  module, variables, *_ = loaded(case)
  features = jax.jit(module.apply)(variables, images(SIDES[case]))
  close = lambda x, name: np.testing.assert_allclose(x, FIXTURE[f"{case}/{name}"], 1e-5, 1e-5)
  assert len(features.layers) == 2 * module.fusions
  for i, layer in enumerate(features.layers):
    close(layer, f"layer_{i}")
  close(features.tokens, "tokens")
  close(features.pooled, "pooled")


@pytest.mark.parametrize("case", CASES)
def test_weights_are_given_back_as_they_were(case):
  _, variables, state, rules = loaded(case)
  back = revert(variables, rules)
  assert back.keys() == state.keys()
  assert all(np.array_equal(back[name], state[name]) for name in state)


# Millions and billions in table 1 of the paper, which counts the positions of some models only.
@pytest.mark.parametrize(
  "name, millions, billions, positions",
  [
    pytest.param("crossvit_ti", 6.9, 1.6, False, marks=thorough),
    ("crossvit_s", 26.7, 5.6, False),
    pytest.param("crossvit_b", 104.7, 21.2, False, marks=thorough),
    pytest.param("crossvit_9", 8.6, 1.8, True, marks=thorough),
    pytest.param("crossvit_15", 27.4, 5.8, False, marks=thorough),
    pytest.param("crossvit_18", 43.3, 9.0, True, marks=thorough),
    pytest.param("crossvit_9_dagger", 8.8, 2.0, True, marks=thorough),
    pytest.param("crossvit_15_dagger", 28.2, 6.1, True, marks=thorough),
    pytest.param("crossvit_18_dagger", 44.3, 9.5, True, marks=thorough),
  ],
)
def test_named_sizes_have_the_published_parameters_and_operations(
  name, millions, billions, positions
):
  module, image = crossvit(name), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
  variables = jax.eval_shape(module.init, jax.random.key(0), image)
  counted = {k: v for k, v in variables["params"].items() if positions or "positions" not in k}
  head = 1000 * sum(module.dim)
  count = sum(x.size for x in jax.tree.leaves(counted)) + head + 2 * 1000
  operations = count_flops(lambda v, x: module.apply(v, x).pooled, variables, image) / 2 + head
  assert round(count / 1e6, 1) == millions
  assert round(operations / 1e9, 1) == billions


def test_class_tokens_alone_see_the_other_branch_and_the_hook_may_drop_its_patches():
  module, variables, *_ = loaded("patch")
  hook = lambda i, x: x if i else (x[0], x[1][:, :3])
  cut = jax.jit(lambda v, x: module.apply(v, x, tokens_in=hook))(variables, images(24))
  small, large = FIXTURE["patch/layer_0"], FIXTURE["patch/layer_1"]
  np.testing.assert_allclose(cut.layers[0][:, 1:], small[:, 1:], 1e-5, 1e-5)
  assert np.abs(cut.layers[0][:, 0] - small[:, 0]).max(1).min() > 1e-3
  assert cut.tokens.shape == (2, 2, 32) and large.shape == (2, 5, 32)


@thorough
def test_gradients_are_finite_in_bfloat16():
  short = CASES["patch"] | {"depth": (1, 1), "fusions": 1}
  module, image = CrossViT(**short, dtype=jnp.bfloat16), images(20)
  variables = jax.jit(module.init)(jax.random.key(0), image)
  loss = lambda v: jnp.mean(module.apply(v, image).pooled.astype(jnp.float32) ** 2)
  grads = jax.tree.leaves(jax.jit(jax.grad(loss))(variables))
  assert all(np.isfinite(g).all() and g.dtype == jnp.float32 for g in grads)
  assert all(np.abs(g).max() > 0 for g in grads)


@pytest.mark.parametrize(
  "options, match",
  [
    ({"patch_size": (5, 8)}, "image of 24x24 is not divisible by patch_size 5x5"),
    ({"heads": (3, 4)}, "heads=3 does not divide dim=16; choose dim=18"),
    ({"stem": "conv"}, r"12 and 16 pixels, got patch_size=\(4, 8\)"),
  ],
)
def test_contradictory_sizes_name_both_and_the_way_out(options, match):
  module = CrossViT(**(TINY | {"patch_size": (4, 8)} | options))
  with pytest.raises(ValueError, match=match):
    jax.eval_shape(module.init, jax.random.key(0), images(24))


def test_other_images_and_names_are_refused_with_the_way_out():
  with pytest.raises(ValueError, match=r"got shape \(2, 24, 24\)"):
    jax.eval_shape(CrossViT().init, jax.random.key(0), images(24)[..., 0])
  _, variables, *_ = loaded("patch")
  module = CrossViT(**(CASES["patch"] | {"image_size": None}))
  with pytest.raises(ValueError, match=r"36 patches of 4 pixels.* 64; set image_size="):
    jax.eval_shape(module.apply, variables, images(32))
  with pytest.raises(ValueError, match=r"crossvit_x.*crossvit_s"):
    crossvit("crossvit_x")
