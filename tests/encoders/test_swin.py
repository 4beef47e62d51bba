"""Swin: timm's arithmetic, published sizes, what windows see of each other."""

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_names
from torch_names import ORACLES, weights

from repjax.encoders import Swin, swin
from repjax.pretrained.hierarchical import TIMM_SWIN, swin_rules
from repjax.train.flops import count_flops
from repjax.trees import convert, revert

FIXTURE = np.load(ORACLES / "swin.npz")
TINY = {"depths": (2, 2, 1), "dim": 8, "heads": 2, "window": 4}
THOROUGH = {"marks": pytest.mark.thorough}


def close(x, y, tolerance=1e-5):
  np.testing.assert_allclose(x, y, tolerance, tolerance)


@pytest.mark.parametrize(
  "case, size", [("oblong", (16, 32)), pytest.param("square", (32, 32), **THOROUGH)]
)
def test_equals_timm_with_its_weights(case, size):
  module, image = Swin(**TINY), weights("image", (2, *size, 3))
  state = torch_names.drawn(str(FIXTURE[f"{case}/shapes"]))
  rules, like = swin_rules(module, TIMM_SWIN), drawn.shapes(module, image)
  variables = convert(state, rules, like)
  features = jax.jit(module.apply)(variables, image)
  back = revert(variables, rules)
  assert all(np.array_equal(back[name], state[name]) for name in state)
  close(features.pooled, FIXTURE[f"{case}/pooled"])
  close(features.tokens, FIXTURE[f"{case}/last"].reshape(2, -1, 32))
  for i, layer in enumerate(features.layers):
    close(layer, FIXTURE[f"{case}/layers/{i}"])


@pytest.mark.parametrize(
  "name, millions, billions",
  [
    ("swin_t", 28, 4.5),
    pytest.param("swin_s", 50, 8.7, **THOROUGH),
    pytest.param("swin_b", 88, 15.4, **THOROUGH),
    pytest.param("swin_l", 197, 34.5, **THOROUGH),
  ],
)
def test_named_sizes_have_the_published_parameters_and_multiply_adds(name, millions, billions):
  module, image = swin(name), jnp.zeros((1, 224, 224, 3))
  params = jax.eval_shape(module.init, jax.random.key(0), image)
  classifier = 1000 * module.dim * 8
  count = sum(x.size for x in jax.tree.leaves(params)) + classifier + 1000
  products = count_flops(module.apply, params, image) / 2 + classifier
  assert count / 1e6 == pytest.approx(millions, rel=0, abs=0.5)
  # The official count has the norms in it, some 0.2 %.
  assert products / 1e9 == pytest.approx(billions, rel=3e-3, abs=0.05)


def reached(depth):
  """Locations of an 8x8 map that a change of location (3, 3) reaches, windows being 4x4."""
  module = Swin((depth,), 8, 2, 4, patch_size=1)
  image = weights("image", (1, 8, 8, 3))
  changed = image.copy()
  changed[0, 3, 3] += 1
  params = drawn.of_module(module, image)
  maps = jax.jit(module.apply)(params, np.concatenate([image, changed])).layers[0]
  return np.abs(maps[0] - maps[1]).max(-1) > 1e-6


def test_a_plain_window_sees_itself_and_a_shifted_one_its_neighbours_but_not_across_the_edge():
  plain, shifted = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
  plain[:4, :4] = True
  # The second block's windows begin at -2, 2 and 6, and what is beyond the edge is not there: those
  # that the first window touches end at row and column 5.
  shifted[:6, :6] = True
  np.testing.assert_array_equal(reached(1), plain)
  np.testing.assert_array_equal(reached(2), shifted)


def test_without_position_bias_locations_of_one_window_may_be_permuted():
  module = Swin((1,), 8, 2, 4, patch_size=1)
  image = weights("image", (1, 8, 8, 3))
  params = drawn.of_module(module, image)
  permuted = image.copy()
  permuted[:, :4, :4] = image[:, 3::-1, 3::-1]
  run = jax.jit(lambda params, image: module.apply(params, image).layers[0])
  moved = lambda params: run(params, permuted)[:, 3::-1, 3::-1] - run(params, image)[:, :4, :4]
  assert np.abs(moved(params)).max() > 1e-2
  params["params"]["stage_0_block_0"]["attention"]["position_bias"] *= 0
  assert np.abs(moved(params)).max() < 1e-5


@pytest.mark.thorough
def test_gradient_in_bfloat16_is_finite():
  module = Swin((2,), 8, 2, 2, patch_size=2, dtype=jnp.bfloat16)
  image = weights("image", (1, 8, 8, 3))
  params = drawn.of_module(module, image)
  loss = lambda params: jnp.sum(module.apply(params, image).pooled.astype(jnp.float32) ** 2)
  grads = jax.tree.leaves(jax.jit(jax.grad(loss))(params))
  assert all(np.isfinite(x).all() and x.dtype == jnp.float32 for x in grads)


def test_sizes_that_do_not_divide_and_unknown_names_are_told_the_way_out():
  def init(side, **options):
    image = jnp.zeros((1, side, side, 3))
    jax.eval_shape(Swin(**(TINY | options)).init, jax.random.key(0), image)

  with pytest.raises(ValueError, match=r"image of 40x40 is not divisible by the stride 16.*32x32"):
    init(40)
  with pytest.raises(ValueError, match=r"window=7 does not divide the 8x8 map of stage 0; resize"):
    init(32, window=7)
  with pytest.raises(ValueError, match=r"heads=3 does not divide dim=8; choose dim=9"):
    init(32, heads=3)
  with pytest.raises(ValueError, match=r"'swin_m' is not.*swin_t, swin_s"):
    swin("swin_m")
