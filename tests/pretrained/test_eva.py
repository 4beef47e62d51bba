"""timm's Eva and distilled DeiT: every layer from their weights, other image sizes, and back."""

import json
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.encoders import ViT, stack_blocks
from repjax.pretrained import TIMM_VITS, timm_model, vit_rules
from repjax.pretrained.vit import halves
from repjax.trees import MATRIX, convert, revert

ORACLES = pathlib.Path(__file__).parents[1] / "oracles"
FIXTURE = {**np.load(ORACLES / "eva.npz")}
FIXTURE |= {f"deit/{key}": x for key, x in np.load(ORACLES / "deit.npz").items()}
weights = runpy.run_path(str(ORACLES / "encoders.py"))["weights"]
# Cases of the fixtures, and a model of the same style.
CASES = {
  "rope": "vit_base_patch16_rope_224",
  "rope_ape": "vit_base_patch16_rope_ape_224",
  "rope_mixed": "vit_base_patch16_rope_mixed_224",
  "rope_mixed_ape": "vit_base_patch16_rope_mixed_ape_224",
  "rope_gap": "vit_base_patch16_rope_reg1_gap_256",
  "rope_gap_unbiased": "vit_mediumd_patch16_rope_reg1_gap_256",
  "rope_gap_reg4": "vit_betwixt_patch16_rope_reg4_gap_256",
  "eva": "eva_giant_patch14_224",
  "eva_clip": "eva_giant_patch14_clip_224",
  "eva02": "eva02_tiny_patch14_224",
  "eva02_apart": "eva02_base_patch14_224",
  "eva02_clip": "eva02_base_patch16_clip_224",
  "pe_core": "vit_pe_core_base_patch16_224",
  "pe_spatial": "vit_pe_spatial_base_patch16_512",
  "pe_lang_gigantic": "vit_pe_lang_gigantic_patch14_448",
  "dinov3_biased": "vit_base_patch16_dinov3_qkvb",
  "dinov3_gated_biased": "vit_small_plus_patch16_dinov3_qkvb",
  "deit": "deit_base_distilled_patch16_224",
}
# The others differ from these in one option, and wait for --thorough.
EVERYDAY = ("rope", "rope_mixed_ape", "rope_gap_unbiased", "eva02_clip", "pe_core", "deit")


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


def cases(everyday):
  marks = lambda case: () if case in everyday else pytest.mark.thorough
  return [pytest.param(case, marks=marks(case)) for case in CASES]


def images(*sides):
  return weights("image", (2, sides[0], sides[-1], 3))


def loaded(case):
  """A small model of a style, its weights as ours and as theirs, and its rules."""
  shapes = json.loads(str(FIXTURE[f"{case}/shapes"]))
  state = {name: weights(name, tuple(shape)) for name, shape in shapes.items()}
  model, entry = timm_model(CASES[case]), TIMM_VITS[CASES[case]]
  small = {"patch_size": 8, "dim": 32, "depth": 2, "heads": 4, "mlp_dim": 128}
  if model.encoder.mlp_norm or case == "eva02":
    small["mlp_dim"] = 85
  if model.encoder.image_size is not None:
    small["image_size"] = 32
  if model.encoder.pool_size is not None:
    small["pool_size"] = (8, 64)
  encoder = model.encoder.clone(**small)
  like = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  rules = vit_rules(encoder, entry.style.names)
  return encoder, convert(state, rules, like, unused=model.unused), state, rules


def close(found, case, part):
  np.testing.assert_allclose(found, FIXTURE[f"{case}/{part}"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", cases(EVERYDAY))
def test_every_layer_equals_timm_with_its_weights(case):
  encoder, variables, *_ = loaded(case)
  seen = jax.jit(encoder.apply)(variables, images(32))
  close(np.stack(seen.layers), case, "layers")
  close(seen.pooled, case, "pooled")
  if case == "deit":
    np.testing.assert_allclose(seen.tokens, FIXTURE["deit/tokens"][:, 2:], 1e-4, 1e-4)


@pytest.mark.parametrize("case", CASES)
def test_weights_are_given_back_as_they_were(case):
  _, variables, state, rules = loaded(case)
  back = revert(variables, rules)
  assert back.keys() == state.keys()
  assert all(np.array_equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("case", cases(("eva02_clip", "pe_core")))
def test_images_of_another_size_are_seen_as_by_timm(case):
  encoder, variables, *_ = loaded(case)
  close(jax.jit(encoder.apply)(variables, images(24, 48)).pooled, case, "wide")


def test_frequencies_of_each_block_are_the_same_in_a_loop():
  encoder, variables, *_ = loaded("rope_mixed_ape")
  stacked = {"params": stack_blocks(variables["params"])}
  seen = jax.jit(encoder.clone(scan=True).apply)(stacked, images(32))
  close(np.stack(seen.layers), "rope_mixed_ape", "layers")


def test_the_order_in_which_patches_are_kept_does_not_matter():
  encoder, variables, *_ = loaded("rope_mixed_ape")
  order = np.stack([np.random.default_rng(i).permutation(16) for i in range(2)])
  seen = jax.jit(lambda v, x: encoder.apply(v, x, keep=order))(variables, images(32))
  close(seen.pooled, "rope_mixed_ape", "pooled")


def test_learned_frequencies_are_not_left_over():
  _, _, state, _ = loaded("rope_mixed")
  _, variables, _, rules = loaded("rope")
  with pytest.raises(ValueError, match=r"surplus rope\.freqs") as no:
    convert(state, rules, variables, unused=timm_model(CASES["rope"]).unused)
  assert "\n" not in str(no.value)


def test_neighbours_are_a_half_apart_and_come_back():
  form, x = halves(MATRIX, 2), np.arange(24).reshape(8, 3)
  assert form.read(x)[0].tolist() == [0, 6, 3, 9, 12, 18, 15, 21]
  np.testing.assert_array_equal(form.write(form.read(x)), x)


def test_a_second_token_needs_a_first():
  encoder = ViT(8, 32, 1, 4, distillation_token=True)
  with pytest.raises(ValueError, match=r"needs a class token, got pool='mean'; set class_token="):
    jax.eval_shape(encoder.init, jax.random.key(0), images(32))


@pytest.mark.thorough
@pytest.mark.parametrize("case", ["rope_mixed_ape", "eva02_clip", "pe_core", "deit"])
def test_gradients_reach_every_parameter_in_bfloat16(case):
  encoder, variables, *_ = loaded(case)
  encoder = encoder.clone(dtype=jnp.bfloat16)

  def loss(variables):
    seen = encoder.apply(variables, images(32))
    return sum(jnp.sum(x[..., 0].astype(jnp.float32) ** 2) for x in (seen.tokens, seen.pooled))

  grads = jax.tree.leaves(jax.jit(jax.grad(loss))(variables))
  assert all(np.isfinite(g).all() and g.dtype == jnp.float32 for g in grads)
  assert all(np.abs(g).max() > 0 for g in grads)
