"""TNT: timm's arithmetic, the paper's sizes, and what words and sentences see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_names import ORACLES, drawn, weights

from repjax.encoders import TNT, interpolate, tnt
from repjax.pretrained import tnt_rules
from repjax.train.flops import count_flops
from repjax.trees import convert, revert

FIXTURE = np.load(ORACLES / "tnt.npz")
IMAGE = weights("image", (2, 16, 16, 3))
TINY = {"patch_size": 8, "dim": 32, "depth": 2, "heads": 4, "inner_dim": 12, "inner_heads": 2}


def from_timm():
  """timm's weights as ours and as theirs, and the rules between."""
  module, state = TNT(**TINY), drawn(str(FIXTURE["shapes"]))
  rules = tnt_rules(module)
  like = jax.eval_shape(module.init, jax.random.key(0), IMAGE)
  return convert(state, rules, like), state, rules


@pytest.fixture(scope="module")
def model():
  """One block of the two, for laws that need no more."""
  return TNT(**(TINY | {"depth": 1})), from_timm()[0]


def apply(model, image=IMAGE, **options):
  module, variables = model
  return jax.jit(lambda v, x: module.apply(v, x, **options))(variables, image)


def close(x, y, tolerance=1e-5):
  np.testing.assert_allclose(x, y, tolerance, tolerance)


def test_equals_timm_with_its_weights(model):
  features = apply((TNT(**TINY), model[1]))
  assert len(features.layers) == 2
  for i, layer in enumerate(features.layers):
    close(layer, FIXTURE[f"layer_{i}"])
  close(features.tokens, FIXTURE["tokens"])
  close(features.pooled, FIXTURE["pooled"])


# Table 1 of the paper, in millions and billions; its parameters include a table for the patches
# that the official code holds and does not use. TNT-B has 14.049 billion multiply-adds.
@pytest.mark.parametrize(
  "name, millions, billions",
  [
    pytest.param("tnt_ti", 6.1, 1.4, marks=pytest.mark.thorough),
    ("tnt_s", 23.8, 5.2),
    pytest.param("tnt_b", 65.6, 14.1, marks=pytest.mark.thorough),
  ],
)
def test_named_sizes_have_the_published_parameters_and_operations(name, millions, billions):
  module, image = tnt(name), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
  variables = jax.eval_shape(module.init, jax.random.key(0), image)
  head = 1000 * module.dim
  count = sum(x.size for x in jax.tree.leaves(variables)) + head + 1000 + 196 * module.dim
  operations = count_flops(lambda v, x: module.apply(v, x).pooled, variables, image) / 2 + head
  assert round(count / 1e6, 1) == millions
  assert operations / 1e9 == pytest.approx(billions, abs=0.052)


def test_weights_are_given_back_as_they_were():
  variables, state, rules = from_timm()
  back = revert(variables, rules)
  assert back.keys() == state.keys()
  assert all(np.array_equal(back[name], state[name]) for name in state)


def test_words_see_their_own_patch_alone_and_sentences_all(model):
  image = IMAGE.copy()
  image[:, :8, 8:] += weights("other", (2, 8, 8, 3))  # Patch 1 of 4.
  module = TNT(**TINY)

  @jax.jit
  def run(v, x):
    seen = []
    features = module.apply(v, x, tokens_in=lambda _, levels: seen.append(levels[0]) or levels)
    return features.tokens, seen[1]  # Words after the first block, tokens after the second.

  (tokens, words), (tokens_after, words_after) = run(model[1], IMAGE), run(model[1], image)
  changed = np.abs(words - words_after).max((0, 2, 3)) > 1e-6
  np.testing.assert_array_equal(changed, [False, True, False, False])
  assert (np.abs(tokens - tokens_after).max((0, 2)) > 1e-4).all()


def test_dropped_patches_and_prompts_go_through_the_hook(model):
  prompt = weights("prompt", (2, 1, 32))

  def hook(i, levels):
    words, x = levels
    return words[:, 2:], jnp.concatenate([x[:, :1], prompt, x[:, 3:]], 1)

  image = IMAGE.copy()
  image[:, :8] = 7.0  # The patches that are dropped.
  features = apply(model, tokens_in=hook)
  assert features.layers[0].shape == (2, 4, 32) and features.tokens.shape == (2, 2, 32)
  close(features.pooled, apply(model, image, tokens_in=hook).pooled)


def test_positions_follow_the_image_size(model):
  variables, wide = model[1], np.tile(IMAGE, (1, 1, 2, 1))
  table = variables["params"]["positions"]
  table = np.concatenate([table[:1], interpolate(table[1:], (2, 2), (2, 4))])
  resized = {"params": variables["params"] | {"positions": table}}
  follows = TNT(**(TINY | {"depth": 1, "image_size": 16}))
  close(apply((follows, variables), wide).pooled, apply((model[0], resized), wide).pooled)
  with pytest.raises(ValueError, match=r"4 patches and the image has 8; set image_size="):
    apply(model, wide)


@pytest.mark.thorough
def test_gradients_are_finite_in_bfloat16():
  module = TNT(**(TINY | {"depth": 1}), dtype=jnp.bfloat16)
  variables = jax.jit(module.init)(jax.random.key(0), IMAGE)
  loss = lambda v: jnp.mean(module.apply(v, IMAGE).tokens.astype(jnp.float32)[..., 0] ** 2)
  grads = jax.tree.leaves(jax.jit(jax.grad(loss))(variables))
  assert all(np.isfinite(g).all() and g.dtype == jnp.float32 for g in grads)
  assert sum(np.abs(g).max() > 0 for g in grads) == len(grads)


@pytest.mark.parametrize(
  "options, match",
  [
    ({"patch_size": 12}, "image of 16x16 is not divisible by patch_size 12x12"),
    ({"word_size": 3}, "word_size=3 does not divide patch_size=8"),
    ({"heads": 5}, "heads=5 does not divide dim=32; choose dim=35"),
    ({"inner_heads": 5}, "inner_heads=5 does not divide inner_dim=12; choose inner_dim=15"),
  ],
)
def test_contradictory_sizes_name_both_and_the_way_out(options, match):
  with pytest.raises(ValueError, match=match):
    jax.eval_shape(TNT(**(TINY | options)).init, jax.random.key(0), IMAGE)


def test_wrong_ranks_and_names_are_refused():
  with pytest.raises(ValueError, match=r"got shape \(2, 16, 16\)"):
    jax.eval_shape(TNT(**TINY).init, jax.random.key(0), IMAGE[..., 0])
  with pytest.raises(ValueError, match=r"tnt_m.*tnt_ti"):
    tnt("tnt_m")
