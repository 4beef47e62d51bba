"""GLMix: the official code's arithmetic and sizes, slots by their definition, linear cost."""

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_names
from torch_names import ORACLES, convert, weights

from repjax.encoders import GLMix, GLNet, glnet, pool_slots
from repjax.train.flops import count_flops

FIXTURE = np.load(ORACLES / "glmix.npz")
THOROUGH = {"marks": pytest.mark.thorough}
TINY = {"dim": 8, "head_dim": 4, "slots": 9}
CASES = {
  "overlap": TINY | {"depths": (1, 1, 2, 1), "layer_scale": 1e-4},
  "patches": TINY
  | {"depths": (1, 1, 1, 1), "mlp_ratio": 4, "overlap": False, "local": False}
  | {"mixing": ("glmix", "glmix", "glmix", "attention")},
}

RENAMES = [
  (r"stages\.(\d+)\.blocks\.(\d+)", r"stage_\1_block_\2"),
  (r"norm(\d)\.", r"norm_\1."),
  (r"slot_scale", "mix.slot_scale"),
  (r"pos_conv", "position"),
  (r"relation_mha", "mix.attention"),
  (r"mha_op", "attention"),
  (r"in_proj_", "query|key|value."),
  (r"attention\.out_proj", "attention.out"),
  (r"feature_conv\.0", "mix.conv_value"),
  (r"feature_conv\.1", "mix.conv"),
  (r"feature_conv\.2", "mix.conv_out"),
  (r"mlp\.0", "up"),
  (r"mlp\.1", "conv"),
  (r"mlp\.[23]", "down"),
  (r"ls(\d)\.", r"scale_\1."),
]


def variables_from_official(state, overlap):
  """The official GLNet's state, without classifier, as variables of ours."""
  stem = ["conv_0", "norm_0", None, "conv_1", "norm_1"]
  stem = dict(enumerate([None, *stem] if overlap else stem))
  stage = ("conv", "norm") if overlap else ("norm", "conv")
  renames = RENAMES + [
    (r"downsample_layers\.0\.(\d)", lambda m: f"stem_{stem[int(m[1])]}"),
    (r"downsample_layers\.(\d)\.(\d)", lambda m: f"stage_{m[1]}_{stage[int(m[2])]}"),
  ]
  # Convolutions of one pixel are dense layers here.
  dense = lambda x: x[0, 0] if x.ndim == 4 and x.shape[:2] == (1, 1) else x
  return jax.tree.map(dense, _scales(convert(state, renames)))


def _scales(tree):
  """A layer of one factor a channel as that parameter."""
  if not isinstance(tree, dict):
    return tree
  return {
    k: v["gamma"].reshape(-1) if isinstance(v, dict) and "gamma" in v else _scales(v)
    for k, v in tree.items()
  }


def close(x, y, tolerance=1e-5):
  np.testing.assert_allclose(x, y, tolerance, tolerance)


def slot_weights(name, shape):
  return weights(name, shape) + np.float32(8 * name.endswith("slot_scale"))


@pytest.mark.parametrize("case", ["overlap", pytest.param("patches", **THOROUGH)])
def test_equals_the_official_code_with_its_weights(case):
  state = torch_names.drawn(str(FIXTURE[f"{case}/shapes"]), slot_weights)
  image = weights("image", (2, 64, 32, 3))
  variables = variables_from_official(state, overlap=case == "overlap")
  features = jax.jit(GLNet(**CASES[case]).apply)(variables, image)
  close(features.pooled, FIXTURE[f"{case}/pooled"])
  for i, layer in enumerate(features.layers):
    close(layer, FIXTURE[f"{case}/layers/{i}"])


@pytest.mark.parametrize(
  "name, millions, billions",
  [
    ("glnet_4g", 27, 4.5),
    pytest.param("glnet_9g", 60, 9.7, **THOROUGH),
    pytest.param("glnet_16g", 106, 16.7, **THOROUGH),
    ("glnet_stl", 30, 4.4),
  ],
)
def test_named_sizes_have_the_published_parameters_and_multiply_adds(name, millions, billions):
  module, image = glnet(name), jnp.zeros((1, 224, 224, 3))
  variables = jax.eval_shape(module.init, jax.random.key(0), image)
  classifier = 1000 * module.dim * 8
  count = sum(x.size for x in jax.tree.leaves(variables["params"])) + classifier + 1000
  products = count_flops(module.apply, variables, image) / 2 + classifier
  assert count / 1e6 == pytest.approx(millions, rel=0, abs=0.5)
  # The official count has norms and the like in it, up to 1 %.
  assert products / 1e9 == pytest.approx(billions, rel=1e-2, abs=0.05)


@pytest.mark.parametrize("height, width, slots", [(7, 14, 64), (2, 9, 16), (6, 6, 9)])
def test_slots_start_from_means_over_regions(height, width, slots):
  x = weights("image", (2, height, width, 3))
  side = round(slots**0.5)
  edges = lambda size: [
    slice(int(np.floor(i * size / side)), int(np.ceil((i + 1) * size / side))) for i in range(side)
  ]
  expected = [x[:, r, c].mean((1, 2)) for r in edges(height) for c in edges(width)]
  close(pool_slots(jnp.asarray(x), slots), np.stack(expected, 1))


def mixed(x, start, params, heads):
  """`GLMix` in NumPy, one example; as the paper has it, with the convolution left out."""
  unit = lambda y: y / np.linalg.norm(y, axis=-1, keepdims=True)
  softmax = lambda y, axis: np.exp(y) / np.exp(y).sum(axis, keepdims=True)
  grid = x.reshape(-1, x.shape[-1])
  likeness = params["slot_scale"] * unit(start) @ unit(grid).T
  slots = softmax(likeness, 1) @ grid
  apply = lambda layer, y: y @ layer["kernel"] + layer["bias"]
  parts = (apply(params["attention"][n], slots) for n in ("query", "key", "value"))
  query, key, value = (np.split(part, heads, -1) for part in parts)
  seen = [
    softmax(q @ k.T / np.sqrt(q.shape[-1]), 1) @ v
    for q, k, v in zip(query, key, value, strict=True)
  ]
  slots = apply(params["attention"]["out"], np.concatenate(seen, -1))
  return (softmax(likeness, 0).T @ slots).reshape(x.shape)


def test_mixing_equals_its_definition():
  x, start = weights("image", (2, 3, 5, 8)), weights("token", (2, 4, 8))
  module = GLMix(heads=2)
  params = drawn.of_module(module, x, start)["params"]
  params["slot_scale"] = np.float32(6)
  params["conv_out"] = jax.tree.map(np.zeros_like, params["conv_out"])
  wide = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  ours = module.apply({"params": params}, x, start)
  for i in range(2):
    close(ours[i], mixed(x[i].astype(np.float64), start[i].astype(np.float64), wide, 2))


def test_attention_among_slots_costs_the_same_at_any_resolution_and_the_rest_grows_linearly():
  module = GLMix(heads=2)

  def cost(side):
    x, start = jnp.zeros((1, side, side, 16)), jnp.zeros((1, 9, 16))
    params = jax.eval_shape(module.init, jax.random.key(0), x, start)
    return count_flops(module.apply, params, x, start)

  fixed = cost(8) - (cost(16) - cost(8)) / 3
  assert cost(32) == pytest.approx(fixed + 16 * (cost(8) - fixed))
  assert fixed == 2 * (4 * 9 * 16 * 16 + 2 * 9 * 9 * 16)


@pytest.mark.thorough
def test_gradient_in_bfloat16_is_finite():
  options = {"head_dim": 4, "slots": 4, "patch_size": 1, "overlap": False, "local": False}
  module = GLNet((1,), 8, ("glmix",), **options, dtype=jnp.bfloat16)
  image = weights("image", (2, 4, 4, 3))
  variables = drawn.of_module(module, image)

  def loss(params):
    features, _ = module.apply(
      variables | {"params": params}, image, train=True, mutable="batch_stats"
    )
    return jnp.sum(features.pooled.astype(jnp.float32) ** 2)

  grads = jax.tree.leaves(jax.jit(jax.grad(loss))(variables["params"]))
  assert all(np.isfinite(x).all() and x.dtype == jnp.float32 for x in grads)


@pytest.mark.parametrize(
  "options, match",
  [
    ({"slots": 8}, r"slots=8 is not a square number; choose 4 or 9"),
    ({"head_dim": 3}, r"head_dim=3 does not divide dim=8; choose dim=9"),
    ({"mixing": ("glmix",)}, r"mixing=.* not one a stage of depths"),
    ({"mixing": ("conv",) * 4}, r"'conv' is not 'glmix', 'attention' or 'both'"),
    ({"patch_size": 8}, r"patch_size is 1, 2 or 4, got 8"),
    ({}, r"image of 40x40 is not divisible by the stride 32.*32x32"),
  ],
)
def test_sizes_that_do_not_fit_are_told_the_way_out(options, match):
  module = GLNet(**(CASES["overlap"] | options))
  with pytest.raises(ValueError, match=match):
    jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 40, 40, 3)))


def test_unknown_names_list_what_there_is():
  with pytest.raises(ValueError, match=r"'glnet_2g' is not a GLNet.*glnet_4g"):
    glnet("glnet_2g")
