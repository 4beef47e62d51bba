"""CSWin: the official code's arithmetic, the paper's sizes, and the shape of a cross."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_names import ORACLES, convert, drawn, weights

from repjax.encoders import CSWin, CSWinBlock, StripeAttention, cswin
from repjax.train.flops import count_flops

FIXTURE = np.load(ORACLES / "cswin.npz")
IMAGE = weights("image", (2, 32, 48, 3))
TINY = {"dim": 8, "depth": (1, 2, 1), "stripe": (1, 2, None), "heads": (2, 4, 4)}
MAP = weights("map", (2, 4, 6, 8))
RENAMES = [
  (r"stage1_conv_embed\.0", "stage_0_conv"),
  (r"stage1_conv_embed\.2", "stage_0_norm"),
  (r"merge(\d)\.", r"stage_\1_"),
  (r"stage(\d)\.(\d+)", lambda m: f"stage_{int(m[1]) - 1}_block_{m[2]}"),
  (r"\.norm(\d)", r".norm_\1"),
  (r"qkv", "attention.query|key|value"),
  (r"proj", "attention.out"),
  (r"attns\.(\d)\.get_v", r"attention.lepe_\1"),
  (r"mlp\.fc1", "mlp.up"),
  (r"mlp\.fc2", "mlp.down"),
]


def from_official(state):
  """Weights under the official code's names in our layout, where both LePE are one."""
  params = convert(state, RENAMES)["params"]
  for name, block in params.items():
    if "block" in name:
      attention = block["attention"]
      halves = [attention.pop(k) for k in ("lepe_0", "lepe_1") if k in attention]
      attention["lepe"] = {k: np.concatenate([h[k] for h in halves], -1) for k in halves[0]}
  return {"params": params}


@pytest.fixture(scope="module")
def variables():
  return from_official(drawn(str(FIXTURE["shapes"])))


def close(x, y, tolerance=1e-5):
  np.testing.assert_allclose(x, y, tolerance, tolerance)


def test_equals_a_second_statement_under_the_official_names(variables):
  features = jax.jit(CSWin(**TINY).apply)(variables, IMAGE)
  assert len(features.layers) == 3
  for i, layer in enumerate(features.layers):
    close(layer, FIXTURE[f"layer_{i}"])
  close(features.pooled, FIXTURE["pooled"])
  close(features.tokens.mean(1), FIXTURE["pooled"])


# Millions as PaddleViT counts them in the official weights (the paper rounds most of them up) and
# billions of the paper, where they follow from its shapes: it has 6.9 for S, which has 6.80, and
# 31.5 and 96.8 for L, which has 33.1 and 101.9.
@pytest.mark.parametrize(
  "name, side, millions, billions",
  [
    ("cswin_t", 224, 22.3, 4.3),
    pytest.param("cswin_s", 224, 34.6, 6.8, marks=pytest.mark.thorough),
    pytest.param("cswin_b", 224, 77.4, 15.0, marks=pytest.mark.thorough),
    pytest.param("cswin_l", 224, 173.3, 33.1, marks=pytest.mark.thorough),
    pytest.param("cswin_b_384", 384, 77.4, 47.0, marks=pytest.mark.thorough),
  ],
)
def test_named_sizes_have_the_published_parameters_and_operations(name, side, millions, billions):
  module, image = cswin(name), jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  variables = jax.eval_shape(module.init, jax.random.key(0), image)
  head = 1000 * module.dim * 8
  count = sum(x.size for x in jax.tree.leaves(variables)) + head + 1000
  operations = count_flops(lambda v, x: module.apply(v, x).pooled, variables, image) / 2 + head
  assert round(count / 1e6, 1) == millions
  assert round(operations / 1e9, 1) == billions


def attention(variables):
  return {"params": variables["params"]["stage_0_block_0"]["attention"]}


def test_stripes_as_wide_as_the_map_are_full_attention(variables):
  square, variables = MAP[:, :, :4], attention(variables)
  run = lambda stripe: jax.jit(StripeAttention(2, stripe).apply)(variables, square)
  close(run(4), run(None), 1e-6)
  assert np.abs(run(2) - run(None)).max() > 1e-2


def test_a_token_sees_a_cross(variables):
  block = CSWinBlock(2, 2, 32)
  own = {"params": variables["params"]["stage_0_block_0"]}
  token = lambda x: block.apply(own, x)[0, 1, 2] @ jnp.arange(1.0, 9.0)
  seen = np.abs(jax.jit(jax.grad(token))(MAP)).max(-1) > 1e-6
  cross = np.zeros((2, 4, 6), bool)
  cross[0, :2] = cross[0, :, 2:4] = True
  np.testing.assert_array_equal(seen, cross)


def test_dropped_branches_leave_a_block_the_identity_in_training_alone(variables):
  block = CSWinBlock(2, 2, 32, drop_path=1.0)
  own = {"params": variables["params"]["stage_0_block_0"]}
  run = jax.jit(lambda v, x: block.apply(v, x, train=True, rngs={"dropout": jax.random.key(0)}))
  close(run(own, MAP), MAP, 0)
  close(jax.jit(block.apply)(own, MAP), jax.jit(CSWinBlock(2, 2, 32).apply)(own, MAP), 0)


@pytest.mark.thorough
def test_gradients_are_finite_in_bfloat16():
  module = CSWin(8, (2,), (2,), (2,), drop_path=0.2, dtype=jnp.bfloat16)
  variables = jax.jit(module.init)(jax.random.key(0), IMAGE)

  def loss(v):
    features = module.apply(v, IMAGE, train=True, rngs={"dropout": jax.random.key(1)})
    return jnp.mean(features.tokens.astype(jnp.float32)[..., 0] ** 2)

  grads = jax.tree.leaves(jax.jit(jax.grad(loss))(variables))
  assert all(np.isfinite(g).all() and g.dtype == jnp.float32 for g in grads)


@pytest.mark.parametrize(
  "options, match",
  [
    ({"stripe": (3, 2, None)}, "stripe=3 does not divide the map of stage 0, 8x12"),
    ({"heads": (2, 1, 4)}, "heads=1 of stage 1 are odd.* choose 2 or stripe=None"),
    ({"heads": (2, 4, 5)}, "heads=5 does not divide dim=32 of stage 2"),
  ],
)
def test_contradictory_sizes_name_both_and_the_way_out(options, match):
  with pytest.raises(ValueError, match=match):
    jax.eval_shape(CSWin(**(TINY | options)).init, jax.random.key(0), IMAGE)


def test_other_images_and_names_are_refused():
  with pytest.raises(ValueError, match=r"got shape \(2, 32, 48\)"):
    jax.eval_shape(CSWin(**TINY).init, jax.random.key(0), IMAGE[..., 0])
  with pytest.raises(ValueError, match="image of 32x46 is not divisible"):
    jax.eval_shape(CSWin(**TINY).init, jax.random.key(0), IMAGE[:, :, :46])
  with pytest.raises(ValueError, match=r"cswin_x.*cswin_t"):
    cswin("cswin_x")
