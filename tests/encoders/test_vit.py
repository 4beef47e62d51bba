"""ViT: timm's arithmetic, and the laws of its hooks, masks and layouts."""

import json
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.encoders import (
  SIZES,
  ViT,
  interpolate,
  patchify,
  sincos_2d,
  stack_blocks,
  unpatchify,
  unstack_blocks,
  vit,
)

ROOT = pathlib.Path(__file__).parents[2]
FIXTURE = np.load(ROOT / "tests/oracles/encoders.npz")
weights = runpy.run_path(str(ROOT / "tests/oracles/encoders.py"))["weights"]
IMAGE = weights("image", (2, 16, 16, 3))


def tiny(**options):
  return ViT(**({"patch_size": 4, "dim": 32, "depth": 2, "heads": 4} | options))


def perturbed(module, *args, **kwargs):
  """Variables in which no parameter is at a special value such as zero."""
  variables = jax.jit(module.init)(jax.random.key(0), *args, **kwargs)
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), variables)


def apply(module, variables, image=IMAGE, **kwargs):
  return jax.jit(lambda v, x: module.apply(v, x, **kwargs))(variables, image)


def close(x, y, tolerance=1e-5):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), x, y)


def from_timm(case):
  """Weights of one fixture in our layout."""
  shapes = json.loads(str(FIXTURE[f"{case}/shapes"]))
  w = {name: weights(name, tuple(shape)) for name, shape in shapes.items()}
  norm = lambda name: {"scale": w[f"{name}.weight"], "bias": w[f"{name}.bias"]}
  dense = lambda name: {"kernel": w[f"{name}.weight"].T, "bias": w[f"{name}.bias"]}

  def split(name, *parts):
    kernels, biases = (np.split(w[f"{name}.{k}"], len(parts)) for k in ("weight", "bias"))
    pairs = zip(parts, kernels, biases, strict=True)
    return {part: {"kernel": k.T, "bias": b} for part, k, b in pairs}

  mlp = lambda name: {"up": dense(f"{name}.fc1"), "down": dense(f"{name}.fc2")}
  patch = w["patch_embed.proj.weight"]
  params = {
    "patch": {
      "kernel": patch.transpose(2, 3, 1, 0).reshape(-1, len(patch)),
      "bias": w["patch_embed.proj.bias"],
    },
    "positions": w["pos_embed"][0],
    "norm": norm("norm"),
  }
  if "cls_token" in w:
    params["class_token"] = w["cls_token"][0]
  if "reg_token" in w:  # timm gives registers positions, which only shift them.
    count = w["reg_token"].shape[1]
    table = params["positions"]
    params["registers"] = w["reg_token"][0] + table[1 : 1 + count]
    params["positions"] = np.delete(table, np.s_[1 : 1 + count], 0)
  for i in range(2):
    name = f"blocks.{i}"
    attention = split(f"{name}.attn.qkv", "query", "key", "value")
    params[f"block_{i}"] = {
      "norm_1": norm(f"{name}.norm1"),
      "attention": attention | {"out": dense(f"{name}.attn.proj")},
      "norm_2": norm(f"{name}.norm2"),
      "mlp": mlp(f"{name}.mlp"),
    }
  if "attn_pool.latent" in w:
    attention = {"query": dense("attn_pool.q"), "out": dense("attn_pool.proj")}
    params["pool"] = {
      "probe": w["attn_pool.latent"][0],
      "attention": attention | split("attn_pool.kv", "key", "value"),
      "norm": norm("attn_pool.norm"),
      "mlp": mlp("attn_pool.mlp"),
    }
  return {"params": params}


@pytest.mark.parametrize(
  "case, options",
  [
    ("vit_cls", {"pool": "cls"}),
    ("vit_mean", {}),
    ("vit_registers", {"pool": "cls", "registers": 2}),
    ("vit_attention", {"pool": "attention"}),
  ],
)
def test_equals_timm_with_its_weights(case, options):
  module = tiny(positions="learned", **options)
  features = apply(module, from_timm(case))
  prefix = FIXTURE[f"{case}/tokens"].shape[1] - 16
  close(features.pooled, FIXTURE[f"{case}/pooled"])
  close(features.tokens, FIXTURE[f"{case}/tokens"][:, prefix:])
  close(jnp.stack(features.layers), FIXTURE[f"{case}/layers"])


@pytest.mark.parametrize("grid", [(6, 3), (2, 2), (7, 4)])
def test_interpolation_equals_timm(grid):
  table = weights("pos_embed", (1, 16, 8))[0]
  close(interpolate(jnp.asarray(table), (4, 4), grid), FIXTURE[f"interpolate/{grid[0]}x{grid[1]}"])


def test_interpolation_to_the_native_grid_is_the_identity():
  table = jnp.asarray(weights("pos_embed", (15, 8)))
  close(interpolate(table, (5, 3), (5, 3)), table, 0)


def test_learned_positions_follow_the_image_size():
  module = tiny(positions="learned", image_size=16, depth=1)
  variables = perturbed(module, IMAGE)
  wide = np.tile(IMAGE, (1, 1, 2, 1))
  table = interpolate(variables["params"]["positions"], (4, 4), (4, 8))
  resized = {"params": variables["params"] | {"positions": table}}
  plain = tiny(positions="learned", depth=1)
  close(apply(module, variables, wide), apply(plain, resized, wide))
  with pytest.raises(ValueError, match=r"16 patches.*32; set image_size="):
    apply(plain, variables, wide)


def test_sincos_positions_equal_their_definition():
  table = sincos_2d((3, 5), 8)
  for row in range(3):
    for column in range(5):
      expected = [f(p / 10_000 ** (k / 2)) for p in (column, row) for f in (np.sin, np.cos)
                  for k in range(2)]  # fmt: skip
      np.testing.assert_allclose(table[5 * row + column], expected, atol=1e-6)


@pytest.fixture(scope="module")
def model():
  module = tiny(pool="mean", registers=1, class_token=True)
  return module, perturbed(module, IMAGE, mask=np.zeros((2, 16), bool))


@pytest.fixture(scope="module")
def plain(model):
  return apply(*model)


def test_keeping_every_patch_changes_nothing(model, plain):
  close(apply(*model, keep=np.tile(np.arange(16), (2, 1))), plain)


def test_order_of_kept_patches_permutes_tokens_only(model):
  keep = np.array([[3, 0, 9, 14, 5], [1, 2, 3, 4, 15]])
  order = np.array([4, 2, 0, 1, 3])
  a, b = apply(*model, keep=keep), apply(*model, keep=keep[:, order])
  close(a.pooled, b.pooled)
  close(a.tokens[:, order], b.tokens)


def test_dropped_patches_are_not_seen(model):
  keep = np.array([[3, 0, 9], [1, 2, 15]])
  image = IMAGE.copy()
  image[:, 12:, :4] = 100.0  # Patch 12 of both.
  close(apply(*model, keep=keep), apply(*model, image, keep=keep), 0)


def test_masking_no_patch_changes_nothing(model, plain):
  close(apply(*model, mask=np.zeros((2, 16), bool)), plain, 0)


def test_masked_patches_are_not_seen_but_their_positions_are(model):
  mask = np.zeros((2, 16), bool)
  mask[:, [0, 12]] = True
  image = IMAGE.copy()
  image[:, 12:, :4] = 100.0
  masked = apply(*model, mask=mask)
  close(masked, apply(*model, image, mask=mask), 0)
  assert np.abs(masked.tokens[:, 0] - masked.tokens[:, 12]).max() > 1e-2


def test_mask_token_exists_only_if_a_mask_is_given_at_init():
  plain = jax.eval_shape(tiny().init, jax.random.key(0), IMAGE)
  masked = jax.eval_shape(tiny().init, jax.random.key(0), IMAGE, mask=np.zeros((2, 16), bool))
  assert set(masked["params"]) - set(plain["params"]) == {"mask_token"}


def test_identity_hook_changes_nothing_and_sees_every_layer(model, plain):
  seen = []

  def hook(layer, tokens):
    seen.append((layer, tokens.shape))
    return tokens

  close(apply(*model, tokens_in=hook), plain, 0)
  assert seen == [(0, (2, 18, 32)), (1, (2, 18, 32))]


def test_tokens_dropped_before_a_block_are_missing_after_it(model, plain):
  dropped = apply(*model, tokens_in=lambda i, x: x[:, :10] if i == 1 else x)
  close(dropped.layers[0], plain.layers[0], 0)
  assert dropped.layers[1].shape == (2, 10, 32)
  assert dropped.tokens.shape == (2, 8, 32)


@pytest.fixture(scope="module")
def unrolled():
  variables = perturbed(tiny(class_token=True), IMAGE)
  return variables, *value_gradient_features(tiny(class_token=True), variables)


def value_gradient_features(module, variables):
  def loss(variables):
    features = module.apply(variables, IMAGE)
    return jnp.mean(jnp.sin(features.pooled)), features

  (value, features), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables)
  return (value, features), grads


def test_remat_changes_neither_value_nor_gradient(unrolled):
  variables, *expected = unrolled
  ours = value_gradient_features(tiny(class_token=True, remat=True), variables)
  close(list(ours), expected, 1e-6)


@pytest.mark.parametrize("remat", [False, True])
def test_scan_equals_unrolled_in_value_and_gradient(unrolled, remat):
  variables, expected, grads = unrolled
  module = tiny(class_token=True, scan=True, remat=remat)
  ours, stacked = value_gradient_features(module, stack_blocks(variables))
  close(ours, expected)
  close(unstack_blocks(stacked), grads)


def test_unstacking_undoes_stacking_and_fits_the_scanned_init():
  variables = perturbed(tiny(), IMAGE)
  stacked = stack_blocks({"encoder": variables, "head": {"kernel": 1}})
  close(unstack_blocks(stacked), {"encoder": variables, "head": {"kernel": 1}}, 0)
  scanned = jax.eval_shape(tiny(scan=True).init, jax.random.key(0), IMAGE)
  shapes = lambda tree: jax.tree.map(jnp.shape, tree)
  assert shapes(stacked["encoder"]) == shapes(scanned)


def test_layers_that_nobody_reads_cost_nothing_under_scan():
  module = tiny(depth=5, scan=True)
  variables = jax.eval_shape(module.init, jax.random.key(0), IMAGE)
  compiled = lambda f: jax.jit(f).lower(variables).compile().as_text()
  assert "f32[5,2,16,32]" in compiled(lambda v: module.apply(v, IMAGE).layers)
  assert "f32[5,2,16,32]" not in compiled(lambda v: module.apply(v, IMAGE).pooled)


@pytest.mark.parametrize(
  "options", [pytest.param({"pool": "attention"}, marks=pytest.mark.thorough), {"stem": "conv"}]
)
def test_bfloat16_is_close_to_float32_and_leaves_parameters_float32(options):
  options |= {"depth": 1}
  module = tiny(dtype=jnp.bfloat16, **options)
  variables = jax.jit(module.init)(jax.random.key(0), IMAGE)
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
  low, high = apply(module, variables), apply(tiny(**options), variables)
  assert {x.dtype for x in jax.tree.leaves(low)} == {jnp.dtype(jnp.bfloat16)}
  error = jnp.linalg.norm(low.pooled - high.pooled) / jnp.linalg.norm(high.pooled)
  assert error < 0.02


def test_conv_stem_sees_neighbours_and_patches_do_not():
  image = np.zeros((2, 16, 16, 3), np.float32)
  image[1, 3, 3] = 1.0  # The corner of patch 0, next to patch 5.

  def changed(**options):
    module = tiny(depth=1, **options)
    tokens = tokens_before_blocks(module, perturbed(module, image), image)
    return set(np.flatnonzero(np.abs(tokens[0] - tokens[1]).max(-1) > 1e-6))

  assert changed() == {0}
  assert changed(stem="conv") >= {0, 1, 4, 5}


def tokens_before_blocks(module, variables, image):
  def run(variables, image):
    seen = []
    module.apply(variables, image, tokens_in=lambda i, x: seen.append(x) or x)
    return seen[0]

  return jax.jit(run)(variables, image)


@pytest.mark.parametrize(
  "name, count",
  [
    ("vit_ti16", 5_524_416),
    ("vit_s16", 21_665_664),
    ("vit_b16", 85_798_656),
    ("vit_l16", 303_301_632),
    ("vit_h14", 630_764_800),
    ("vit_g14", 1_011_202_432),
    ("vit_G14", 1_842_775_680),
  ],
)
def test_named_sizes_have_the_published_parameter_counts(name, count):
  # Counts without a classifier, with class token and learned positions, at 224 pixels.
  module = vit(name, pool="cls", positions="learned", scan=True)
  params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
  assert sum(x.size for x in jax.tree.leaves(params)) == count


def test_patches_of_unequal_sides_follow_raster_order():
  module = tiny(patch_size=(8, 4), depth=1)
  variables = perturbed(module, IMAGE)
  tokens = tokens_before_blocks(module, variables, IMAGE)
  patch = jax.tree.map(np.asarray, variables["params"]["patch"])
  position = sincos_2d((2, 4), 32)
  for row in range(2):
    for column in range(4):
      pixels = IMAGE[:, 8 * row : 8 * row + 8, 4 * column : 4 * column + 4].reshape(2, -1)
      expected = pixels @ patch["kernel"] + patch["bias"] + position[4 * row + column]
      close(tokens[:, 4 * row + column], expected)


def test_unpatchify_undoes_patchify():
  image = weights("image", (2, 8, 12, 3))
  close(unpatchify(patchify(image, (2, 3)), (8, 12, 3), (2, 3)), image, 0)


@pytest.mark.parametrize(
  "options, match",
  [
    ({"patch_size": 5}, "image of 16x16.*5x5; resize to 15x15"),
    ({"heads": 5}, "heads=5 does not divide dim=32; choose dim=35"),
    ({"dim": 30, "heads": 2}, "dim=30; choose 28 or 32"),
    ({"stem": "conv", "patch_size": (4, 2)}, "got 4x2"),
    ({"pool": "cls", "class_token": False}, "class_token=True, got False"),
    ({"image_size": 18}, "image_size of 18x18"),
  ],
)
def test_contradictory_sizes_name_both_and_the_way_out(options, match):
  with pytest.raises(ValueError, match=match):
    jax.eval_shape(tiny(**options).init, jax.random.key(0), IMAGE)


def test_hook_under_scan_names_the_way_out():
  with pytest.raises(ValueError, match="scan=False"):
    tiny(scan=True).init(jax.random.key(0), IMAGE, tokens_in=lambda i, x: x)


@pytest.mark.parametrize("name", ["vit_b", "b16", "vit_x16", "vit_B16"])
def test_unreadable_names_list_the_sizes(name):
  with pytest.raises(ValueError, match=", ".join(SIZES)):
    vit(name)
