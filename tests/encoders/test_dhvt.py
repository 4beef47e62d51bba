"""DHVT: the official code's arithmetic, the paper's sizes, and what tokens see."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_names import ORACLES, convert, drawn, weights

from repjax.encoders import DHVT, dhvt
from repjax.train.flops import count_flops

FIXTURE = np.load(ORACLES / "dhvt.npz")
TINY = {"dim": 16, "heads": 4}
RENAMES = [
  (r"cls_token", "class_token"),
  (r"blocks\.(\d+)\.norm(\d)", r"block_\1_norm_\2"),
  (r"blocks\.(\d+)\.mlp", r"block_\1_mlp"),
  (r"blocks\.(\d+)\.attn\.(qkv|proj)", r"block_\1_interaction.attention.\2"),
  (r"blocks\.(\d+)\.attn", r"block_\1_interaction"),
  (r"attention\.qkv", "attention.query|key|value"),
  (r"attention\.proj", "attention.out"),
  (r"ht_proj", "head_tokens"),
  (r"ht_norm", "head_norm"),
  (r"pos_embed", "head_positions"),
  (r"mlp\.bn(\d)", r"mlp.norm_\1"),
  (r"mlp\.conv1", "mlp.up"),
  (r"mlp\.conv2", "mlp.depthwise"),
  (r"mlp\.conv3", "mlp.down"),
  (r"compress", "squeeze"),
  (r"excitation", "excite"),
  (r"patch_embed\.pre_affine\.", "patch.before_"),
  (r"patch_embed\.post_affine\.", "patch.after_"),
  (r"_alpha", "_scale"),
  (r"_beta", "_bias"),
  (r"patch_embed\.proj\.(\d)\.0", lambda m: f"patch.conv_{int(m[1]) // 2}"),
  (r"patch_embed\.proj\.(\d)\.1", lambda m: f"patch.norm_{int(m[1]) // 2}"),
]


def from_official(state):
  """Weights under the official code's names in our layout, with 1x1 convolutions as products."""
  variables = convert(state, RENAMES)
  params = variables["params"]
  for name, layer in params.items():
    if name.endswith("_mlp"):
      for part in ("up", "down"):
        layer[part]["kernel"] = layer[part]["kernel"][0, 0]
      for part, value in layer.pop("depthwise").items():
        layer[f"depthwise_{part}"] = value
  for name in [n for n in params["patch"] if n.startswith(("before", "after"))]:
    params["patch"][name] = params["patch"][name].ravel()
  return variables


def case(name):
  patch, depth = {"patch_4": (4, 2), "patch_2": (2, 1)}[name]
  image = weights("image", (2, 2 * patch, 3 * patch, 3))
  variables = from_official(drawn(str(FIXTURE[f"{name}/shapes"])))
  return DHVT(patch, depth=depth, **TINY), variables, image


def close(x, y, tolerance=1e-5):
  np.testing.assert_allclose(x, y, tolerance, tolerance)


@pytest.mark.parametrize("name", ["patch_4", "patch_2"])
def test_equals_a_second_statement_under_the_official_names(name):
  module, variables, image = case(name)
  features = jax.jit(module.apply)(variables, image)
  assert len(features.layers) == module.depth
  for i, layer in enumerate(features.layers):
    close(layer, FIXTURE[f"{name}/layer_{i}"])
  close(features.pooled, FIXTURE[f"{name}/last"][:, 0])
  close(features.tokens, FIXTURE[f"{name}/last"][:, 1:])
  if name == "patch_2":
    train = functools.partial(module.apply, train=True, mutable="batch_stats")
    trained = jax.jit(train)(variables, image)[0]
    close(trained.pooled, FIXTURE[f"{name}/last_train"][:, 0], 1e-4)


thorough = pytest.mark.thorough


# Millions and billions of tables 2 to 4. The billions leave out what attention multiplies, as do
# those of DeiT there, and the millions for images of 224 pixels are those of four heads for T.
@pytest.mark.parametrize(
  "name, options, side, classes, millions, billions",
  [
    ("dhvt_t_4", {}, 32, 100, 6.0, 0.4),
    pytest.param("dhvt_s_4", {}, 32, 100, 23.4, 1.5, marks=thorough),
    pytest.param("dhvt_t_2", {}, 32, 100, 5.8, 1.4, marks=thorough),
    pytest.param("dhvt_s_2", {}, 32, 100, 22.8, 5.6, marks=thorough),
    pytest.param("dhvt_t_16", {"heads": 4}, 224, 345, 6.1, None, marks=thorough),
    pytest.param("dhvt_t_16", {"heads": 4}, 224, 1000, 6.2, None, marks=thorough),
    pytest.param("dhvt_s_16", {}, 224, 1000, 24.0, None, marks=thorough),
  ],
)
def test_named_sizes_have_the_published_parameters_and_operations(
  name, options, side, classes, millions, billions
):
  module = dhvt(name, **options)
  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  variables = jax.eval_shape(module.init, jax.random.key(0), image)
  head = classes * module.dim
  count = sum(x.size for x in jax.tree.leaves(variables["params"])) + head + classes
  assert round(count / 1e6, 1) == millions
  if billions:
    operations = count_flops(lambda v, x: module.apply(v, x).pooled, variables, image) / 2 + head
    tokens = 1 + (side // module.patch_size) ** 2 + module.heads
    operations -= module.depth * 2 * tokens**2 * module.dim
    assert operations / 1e9 == pytest.approx(billions, abs=0.055)


def test_statistics_are_those_of_the_whole_batch_over_a_mapped_axis():
  module, variables, _ = case("patch_2")
  image = weights("batch", (4, 4, 4, 3))

  def step(module, variables, image):
    features, updated = module.apply(variables, image, train=True, mutable="batch_stats")
    return features.pooled, updated["batch_stats"]

  whole, stats = jax.jit(functools.partial(step, module))(variables, image)
  sharded = functools.partial(step, module.clone(axis_name="data"))
  mapped = jax.jit(jax.vmap(sharded, (None, 0), axis_name="data"))
  parts, stats_of_parts = mapped(variables, image.reshape(2, 2, 4, 4, 3))
  close(parts.reshape(whole.shape), whole)
  jax.tree.map(lambda x, y: close(x[1], y), stats_of_parts, stats)


def test_the_hook_may_change_values_and_not_the_number_of_tokens():
  module, variables, image = case("patch_2")
  run = lambda hook: jax.jit(lambda v, x: module.apply(v, x, tokens_in=hook))(variables, image)
  plain, other = FIXTURE["patch_2/last"], run(lambda i, x: x.at[:, 3, 0].add(1.0))
  assert (np.abs(other.tokens - plain[:, 1:]).max((0, 2)) > 1e-4).all()
  with pytest.raises(ValueError, match=r"returned shape \(2, 5, 16\) for \(2, 7, 16\)"):
    run(lambda i, x: x[:, :5])


@thorough
def test_gradients_are_finite_in_bfloat16():
  module, _, image = case("patch_2")
  module = module.clone(dtype=jnp.bfloat16, drop_path=0.2)
  variables = jax.jit(module.init)(jax.random.key(0), image)

  def loss(params):
    rngs = {"dropout": jax.random.key(1)}
    out = module.apply(
      variables | {"params": params}, image, train=True, rngs=rngs, mutable="batch_stats"
    )[0]
    return jnp.mean(out.pooled.astype(jnp.float32)[:, 0] ** 2)

  grads = jax.tree.leaves(jax.jit(jax.grad(loss))(variables["params"]))
  assert all(np.isfinite(g).all() and g.dtype == jnp.float32 for g in grads)


@pytest.mark.parametrize(
  "options, match",
  [
    ({"patch_size": 3}, "patch_size is 2, 4, 8, 16, ..., got 3"),
    ({"patch_size": 8}, "image of 4x6 is not divisible by patch_size 8x8"),
    ({"heads": 3}, "heads=3 and 4 do not both divide dim=16"),
  ],
)
def test_contradictory_sizes_name_both_and_the_way_out(options, match):
  module = case("patch_2")[0].clone(**options)
  with pytest.raises(ValueError, match=match):
    jax.eval_shape(module.init, jax.random.key(0), np.zeros((2, 4, 6, 3), np.float32))


def test_wrong_ranks_and_names_are_refused():
  with pytest.raises(ValueError, match=r"got shape \(4, 6, 3\)"):
    jax.eval_shape(case("patch_2")[0].init, jax.random.key(0), np.zeros((4, 6, 3), np.float32))
  with pytest.raises(ValueError, match=r"dhvt_t.*dhvt_t_4"):
    dhvt("dhvt_t")
