"""Vision transformers of timm and Hugging Face: their numbers from their weights, and back."""

import functools
import json
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.pretrained import TIMM_VITS, from_config, timm_model, vit_rules
from repjax.trees import convert, find_names, revert

ORACLES = pathlib.Path(__file__).parents[1] / "oracles"
FIXTURE = np.load(ORACLES / "pretrained.npz")
weights = runpy.run_path(str(ORACLES / "encoders.py"))["weights"]
SIDE = 32
# Cases of the fixture, and a model of the same family.
TIMM = {
  "vit": "vit_base_patch16_224",
  "ijepa": "vit_huge_patch14_gap_224.in1k_ijepa",
  "dinov2": "vit_base_patch14_dinov2",
  "dinov2_reg": "vit_base_patch14_reg4_dinov2",
  "dinov2_giant": "vit_giant_patch14_dinov2",
  "siglip": "vit_base_patch16_siglip_224",
  "clip": "vit_base_patch16_clip_224",
  "clip_quick": "vit_base_patch16_clip_quickgelu_224",
  "dinov3": "vit_base_patch16_dinov3",
  "dinov3_gated": "vit_small_plus_patch16_dinov3",
  "beit": "beit_base_patch16_224",
  "deit3": "deit3_base_patch16_224",
  "miil": "vit_base_patch16_224_miil",
  "intern": "vit_intern300m_patch14_448",
  "siglip_2": "vit_so400m_patch16_siglip_384",
  "gap_reg": "vit_medium_patch16_reg4_gap_256",
  "beit3": "beit3_base_patch16_224",
}
# These differ in an option or two, and wait for --thorough.
THOROUGH = ("deit3", "miil", "intern", "siglip_2", "gap_reg", "beit3")
HF = [key.split("/")[1] for key in FIXTURE if key.startswith("hf/") and key.endswith("/config")]
# What differs from timm in more than names; the others wait for --thorough.
EVERYDAY = ("dinov2", "dinov3", "clip", "convnextv2", "swin", "resnet")
HF = [pytest.param(x, marks=() if x in EVERYDAY else pytest.mark.thorough) for x in HF]


def state_of(case):
  shapes = json.loads(str(FIXTURE[f"{case}/shapes"]))
  return {name: weights(name, tuple(shape)) for name, shape in shapes.items()}


def images(side=SIDE):
  return weights("image", (2, side, side, 3))


def shapes_of(encoder):
  image = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
  return jax.eval_shape(encoder.init, jax.random.key(0), image)


def of_timm(case):
  """A small model of a family, its rules and what else its files may hold."""
  entry = TIMM_VITS[TIMM[case]]
  model = timm_model(TIMM[case])
  mlp_dim = 64 if case == "dinov2_giant" else 128
  small = {"patch_size": 8, "dim": 32, "depth": 2, "heads": 4, "mlp_dim": mlp_dim}
  if model.encoder.image_size is not None:
    small["image_size"] = SIDE
  encoder = model.encoder.clone(**small)
  return encoder, vit_rules(encoder, entry.style.names), model.unused


def check(case, encoder, variables, image):
  seen = jax.jit(encoder.apply)(variables, image)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
  close(seen.pooled, FIXTURE[f"{case}/pooled"])
  if f"{case}/layers" in FIXTURE:
    close(np.stack(seen.layers), FIXTURE[f"{case}/layers"])


@pytest.mark.parametrize(
  "case", [pytest.param(x, marks=pytest.mark.thorough if x in THOROUGH else ()) for x in TIMM]
)
def test_equals_timm_with_its_weights_and_gives_them_back(case):
  state = state_of(f"timm/{case}")
  encoder, rules, unused = of_timm(case)
  variables = convert(state, rules, shapes_of(encoder), unused=unused)
  check(f"timm/{case}", encoder, variables, images())
  back = revert(variables, rules)
  assert back.keys() == state.keys()
  assert all(np.array_equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("case", HF)
def test_equals_hugging_face_by_its_configuration(case):
  config = json.loads(str(FIXTURE[f"hf/{case}/config"]))
  model = from_config(config)
  state = state_of(f"hf/{case}")
  rules = find_names(model.rules, state, model.prefixes)
  variables = convert(state, rules, shapes_of(model.encoder), unused=model.unused)
  check(f"hf/{case}", model.encoder, variables, images())
  back = revert(variables, rules)
  assert back.keys() <= state.keys()
  assert all(np.array_equal(back[name], state[name]) for name in back)


def test_rotary_positions_suit_any_image():
  encoder, rules, _ = of_timm("dinov3")
  variables = convert(state_of("timm/dinov3"), rules, shapes_of(encoder))
  check("timm/dinov3_wide", encoder, variables, np.concatenate([images(), images()], 2))
