"""Pretrained encoders from files: preprocessing, other image sizes, and what does not fit."""

import json
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from repjax.pretrained import (
  TIMM_OTHERS,
  TIMM_VITS,
  Preprocessing,
  cut,
  load_encoder,
  standardize,
  timm_model,
)
from repjax.trees import revert, write_state

FIXTURE = np.load(pathlib.Path(__file__).parents[1] / "oracles/pretrained.npz")
NAMES = np.load(pathlib.Path(__file__).parents[1] / "oracles/timm_names.npz")
COUNTS, SHAPES, HOW = (json.loads(str(NAMES[k])) for k in ("parameters", "shapes", "preprocessing"))
TINY = "timm/vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
  """A file of weights of the smallest model that has a name."""
  model = timm_model("vit_tiny_patch16_224")
  shapes = shapes_of(model)
  draw = np.random.default_rng(0)
  variables = jax.tree.map(lambda x: 0.05 * draw.standard_normal(x.shape, np.float32), shapes)
  path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
  write_state(path, revert(variables, model.rules) | {"head.weight": np.zeros(2, np.float32)})
  return path


def shapes_of(model):
  side = model.preprocessing.corner or model.preprocessing.size
  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  return jax.eval_shape(model.encoder.init, jax.random.key(0), image)


def vits():
  """All names; those whose style another has before them wait for --thorough."""
  first = {id(entry.style): name for name, entry in reversed(TIMM_VITS.items())}.values()
  marks = lambda name: () if name in first else pytest.mark.thorough
  return [pytest.param(name, marks=marks(name)) for name in TIMM_VITS]


@pytest.mark.parametrize("name", vits())
def test_every_transformer_has_as_many_parameters_as_timm_s(name):
  model = timm_model(name)
  # Scanned, since a block is as large as the next.
  scanned = model._replace(encoder=model.encoder.clone(scan=True))
  filled = sum(len(rule.ours) for rule in model.rules if rule.theirs is None)
  ours = sum(x.size for x in jax.tree.leaves(shapes_of(scanned))) - filled * model.encoder.dim
  assert ours == COUNTS[name]


@pytest.mark.parametrize("name", TIMM_VITS)
def test_every_transformer_has_timm_s_shape(name):
  vit = timm_model(name).encoder
  shape = [vit.dim, vit.depth, vit.heads, vit.mlp_dim, vit.patch_size, TIMM_VITS[name].image]
  assert shape == SHAPES[name]


def test_every_tag_has_timm_s_preprocessing():
  """Of all weights that timm offers under a name that is known here."""
  found, wanted = {}, {}
  for tag, how in HOW.items():
    if tag.partition(".")[0] in (*TIMM_VITS, *TIMM_OTHERS) or tag in TIMM_VITS:
      wanted[tag] = how | {"mean": tuple(how["mean"]), "std": tuple(how["std"])}
      ours = timm_model(tag).preprocessing._asdict()
      found[tag] = {key: ours[key] for key in how}
  assert found == wanted
  assert len(found) > 200


# Of each kind one; the others' sizes are tested against the papers' tables.
SOME = ("resnet18", "resnet50.tv_in1k", "convnext_tiny", "convnextv2_atto")
SOME = (*SOME, "swin_tiny_patch4_window7_224", "crossvit_9_dagger_240", "mobilenetv2_050")


@pytest.mark.parametrize(
  "name",
  [pytest.param(n, marks=() if n in SOME else pytest.mark.thorough) for n in TIMM_OTHERS],
)
def test_every_net_with_stages_has_as_many_parameters_as_timm_s(name):
  model = timm_model(name)
  shapes = shapes_of(model)
  assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == COUNTS[name]
  paths = traverse_util.flatten_dict(shapes, sep="/").keys()
  assert sorted(paths) == sorted(path for rule in model.rules for path in rule.ours)


@pytest.mark.parametrize("case", sorted(k for k in FIXTURE if k.startswith("cut/")))
def test_images_are_cut_to_torchvision_s_bits(case):
  how = {
    "bicubic": Preprocessing(24, 24 / 28),
    "bilinear": Preprocessing(24, filter="bilinear"),
    "squash": Preprocessing(24, filter="lanczos", squash=True),
    "enlarge": Preprocessing(63, 63 / 71),
  }[case.split("/")[1]]
  height, width = map(int, case.split("/")[2].split("x"))
  image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
  np.testing.assert_array_equal(cut(image, how), FIXTURE[case])


def test_pixels_have_mean_and_deviation_of_the_model():
  how = Preprocessing(2, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
  image = np.random.default_rng(0).integers(0, 256, (2, 2, 2, 3), dtype=np.uint8)
  wanted = (image / 255 - np.array(how.mean)) / np.array(how.std)
  np.testing.assert_allclose(standardize(image, how), wanted, rtol=1e-6, atol=1e-6)


def test_a_patch_that_does_not_divide_sees_the_upper_left_corner():
  how = timm_model("vit_so400m_patch14_siglip_384").preprocessing
  image = np.random.default_rng(0).integers(0, 256, (384, 384, 3), dtype=np.uint8)
  np.testing.assert_array_equal(cut(image, how._replace(crop=1.0)), image[:378, :378])


def test_another_image_size_keeps_the_weights(tiny):
  own, small = load_encoder(TINY, tiny), load_encoder(TINY, tiny, image_size=32)
  jax.tree.map(np.testing.assert_array_equal, own.variables, small.variables)
  image = small.prepare(np.full((50, 40, 3), 9, np.uint8))
  features = jax.jit(small.encode)(small.variables, image[None])
  assert features.tokens.shape == (1, 4, 192)
  assert np.all(np.isfinite(features.pooled))


@pytest.mark.parametrize(
  "name, options, said",
  [
    ("vit_b16", {}, "say timm/NAME or hf/OWNER/NAME"),
    ("timm/vit_tini_patch16_224", {}, "vit_tiny_patch16_224"),
    ("timm/eva02_enormous_patch14_clip_224", {}, "try eva02_large_patch14_clip_224"),
    ("timm/vit_pe_core_huge_patch14_336", {}, "vit_pe_core_large_patch14_336"),
    ("timm/vit_small_patch16_224", {}, "gives"),
    (TINY, {"image_size": 100}, "image of 100x100 is not divisible by patch_size 16x16"),
    ("timm/beit_base_patch16_224", {"image_size": 32}, "relative positions for images of 224"),
    ("timm/crossvit_9_240", {"image_size": 480}, "has positions for images of 240 pixels alone"),
  ],
)
def test_what_does_not_fit_is_said_in_one_line(tiny, name, options, said):
  with pytest.raises(ValueError, match=re.escape(said)) as no:
    load_encoder(name, tiny, **options)
  assert "\n" not in str(no.value)


def test_without_the_hub_s_library_its_installation_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "huggingface_hub", None)
  with pytest.raises(
    ImportError, match=r"pip install 'repjax\[pretrained\]', or name a file"
  ) as no:
    load_encoder(TINY)
  assert "\n" not in str(no.value)
