"""Features of a folder: the same whether interrupted or not, on one device or on all."""

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import extract, outcome
from repjax.data import Arrays
from repjax.encoders import Features
from repjax.pretrained import load_encoder, timm_model
from repjax.train import launch, make_mesh
from repjax.train.launch import Settings
from repjax.trees import revert, write_state

NAME = "vit_tiny_patch16_224"


@pytest.fixture(scope="module", autouse=True)
def quick():
  # Twelve blocks for eight devices take long to compile well.
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
  """Flags: a folder of images of many sizes, and a file of weights."""
  folder = tmp_path_factory.mktemp("extract")
  draw = np.random.default_rng(0)
  for split, count in (("train", 5), ("test", 3)):
    for name in ("cat", "dog"):
      place = folder / "images" / split / name
      place.mkdir(parents=True)
      for i in range(count):
        pixels = draw.integers(0, 256, (*draw.integers(30, 60, 2), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{i}.png")
  model = timm_model(NAME)
  image = np.zeros((1, 224, 224, 3), np.float32)
  shapes = jax.eval_shape(model.encoder.init, jax.random.key(0), image)
  variables = jax.tree.map(lambda x: 0.05 * draw.standard_normal(x.shape, np.float32), shapes)
  write_state(folder / "tiny.safetensors", revert(variables, model.rules))
  return {
    "encoder": f"timm/{NAME}",
    "weights": str(folder / "tiny.safetensors"),
    "data": f"folder:{folder / 'images'}",
    "image_size": 32,
    "eval_batch_size": 4,
    "part": 4,
    "features": ["pooled", "mean_3", "class_11", "tokens"],
  }


def run(given, **changes):
  given = given | changes
  extract.main(
    Settings(launch.flag_defaults() | {"compile_cache": "", "progress": False} | given, given)
  )
  return dict(np.load(given["out"]))


def alone(given, split):
  """Features of a split, image by image on one device."""
  loaded = load_encoder(given["encoder"], given["weights"], image_size=32)
  files = sorted(Path(given["data"].removeprefix("folder:"), split).glob("*/*.png"))
  encode = jax.jit(loaded.encode)
  seen = [encode(loaded.variables, loaded.prepare(np.asarray(Image.open(f)))[None]) for f in files]
  return {
    "pooled": np.concatenate([x.pooled for x in seen]),
    "mean_3": np.concatenate([x.layers[3][:, 1:].mean(1) for x in seen]),
    "class_11": np.concatenate([x.layers[11][:, 0] for x in seen]),
    "tokens": np.concatenate([x.tokens for x in seen]),
  }


def test_a_run_that_was_stopped_goes_on_and_equals_one_image_at_a_time(
  given, tmp_path, monkeypatch
):
  encode, encoded = extract._encode, []

  def stops(frozen, encoder, shapes, span, *rest):
    if len(encoded) == 2:
      raise KeyboardInterrupt
    encoded.append(len(span))
    return encode(frozen, encoder, shapes, span, *rest)

  monkeypatch.setattr(extract, "_encode", stops)
  with pytest.raises(KeyboardInterrupt):
    run(given, out=str(tmp_path / "parts.npz"))
  encoded.clear()
  monkeypatch.setattr(extract, "_encode", lambda *x: encoded.append(len(x[3])) or encode(*x))
  resumed = run(given, out=str(tmp_path / "parts.npz"))
  assert encoded == [2, 4, 2]
  for split, labels in (("train", [0] * 5 + [1] * 5), ("test", [0] * 3 + [1] * 3)):
    assert resumed[f"{split}_label"].tolist() == labels
    for name, value in alone(given, split).items():
      np.testing.assert_allclose(resumed[f"{split}_{name}"], value, rtol=2e-4, atol=2e-4)
  assert not (tmp_path / "parts.npz.parts").exists()


def test_maps_have_means_and_no_class_token():
  draw = np.random.default_rng(0).standard_normal
  layers = tuple(draw(shape) for shape in ((2, 4, 4, 3), (2, 2, 2, 5)))
  features = Features(draw((2, 5)), layers[1].reshape(2, 4, 5), layers)
  places = [extract._place(name, features) for name in ("pooled", "mean_0")]
  found = extract._pick(places, features)
  np.testing.assert_array_equal(found["pooled"], features.pooled)
  np.testing.assert_allclose(found["mean_0"], layers[0].mean((1, 2)), rtol=1e-5, atol=1e-6)
  with pytest.raises(ValueError, match="has no class token; choose mean_1"):
    extract._pick([extract._place("class_1", features)], features)


@pytest.mark.parametrize(
  "change, said",
  [
    ({"features": ["mean_12"]}, "--features=mean_12 is none of pooled, tokens, mean_0 to mean_11"),
    ({"encoder": "vit_b16"}, "--encoder=vit_b16 was not trained elsewhere"),
    ({"out": "features.txt"}, "--out=features.txt is no .npz file"),
  ],
)
def test_flags_that_do_not_fit_are_named(given, tmp_path, change, said):
  with pytest.raises(ValueError, match=said):
    run(given, **({"out": str(tmp_path / "x.npz")} | change))


def test_parts_of_another_run_are_not_mixed_in(given, tmp_path, monkeypatch):
  def stops(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(extract, "_encode", stops)
  out = str(tmp_path / "x.npz")
  with pytest.raises(KeyboardInterrupt):
    run(given, out=out)
  with pytest.raises(
    ValueError, match="holds parts of a run with --image_size=32, this one has 48"
  ):
    run(given, out=out, image_size=48)


@pytest.mark.parametrize(("count", "size"), [(1, 8), (12, 16), (40, 64), (300, 512), (600, 512)])
def test_a_small_split_is_not_filled_up_to_a_large_batch(count, size):
  seen = []

  def encode(state, image):
    seen.append(len(image))  # once, when it is traced
    return Features(image[:, 0, 0], None, ())

  image = (np.arange(count) % 256).astype(np.uint8)[:, None, None, None]
  split = Arrays(image, np.zeros(count, np.int32))
  found = outcome.encode_split(encode, None, split, 512, make_mesh("data:8"))
  np.testing.assert_array_equal(found.features, image[:, 0, 0])
  assert seen == [size]
