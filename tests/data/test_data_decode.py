"""Decoding: JPEG not by Pillow, and yet with Pillow's pixels, orientation and errors."""

import io
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from repjax.data import decode as decoding
from repjax.data import resize
from repjax.data.decode import decode, read_shape


def photograph(height, width, seed=0):
  """Smooth colours under some noise, as JPEG meets them."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:height, :width]
  waves = [np.sin(x / a + y / b) for a, b in rng.uniform(3, 20, (3, 2))]
  image = 128 + 90 * np.stack(waves, -1) + rng.normal(0, 8, (height, width, 3))
  return np.clip(image, 0, 255).astype(np.uint8)


def jpeg(path, image, **options):
  Image.fromarray(image).save(path, "JPEG", **{"quality": 92} | options)
  return str(path)


def by_pillow(path, mode="RGB", size=None):
  """What Pillow alone makes of a file, by its own means."""
  with Image.open(path) as image:
    if size is not None:
      image.draft(None, (2 * size, 2 * size))
    image = ImageOps.exif_transpose(image).convert(mode)
    if size is not None:
      image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.array(image).reshape(image.height, image.width, -1)


@pytest.fixture
def no_pillow(monkeypatch):
  """Fails where pixels are left to Pillow."""

  def refuse(*_):
    raise AssertionError("left to Pillow")

  monkeypatch.setattr(decoding, "_any", refuse)


@pytest.mark.parametrize("options", [
  {"subsampling": "4:4:4"}, {"subsampling": "4:2:2"}, {"subsampling": "4:2:0"},
  {"progressive": True}, {"keep_rgb": True}, {"restart_marker_blocks": 2},
])  # fmt: skip
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (33, 17), (64, 96)])
def test_a_jpeg_has_the_pixels_that_pillow_gives(tmp_path, no_pillow, shape, options):
  path = jpeg(tmp_path / "a.jpg", photograph(*shape), **options)
  np.testing.assert_array_equal(decode(path, 3), by_pillow(path))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grey_jpeg_has_the_pixels_that_pillow_gives(tmp_path, no_pillow, channels):
  path = jpeg(tmp_path / "a.jpg", photograph(20, 30)[..., 0])
  wanted = by_pillow(path, "L" if channels == 1 else "RGB")
  np.testing.assert_array_equal(decode(path, channels), wanted)


@pytest.mark.parametrize("reduced", [1, 2, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_resized_jpeg_is_within_a_level_of_pillow(tmp_path, no_pillow, reduced, channels):
  image = photograph(reduced * 50, reduced * 75 + 1)
  path = jpeg(tmp_path / "a.jpg", image if channels == 3 else image[..., 0])
  with Image.open(path) as probe:
    probe.draft(None, (42, 42))
    assert probe.size == (-(-image.shape[1] // reduced), 50)  # JPEG's own reduction is at work.
  ours = decode(path, channels, 21)
  wanted = by_pillow(path, "RGB" if channels == 3 else "L", 21)
  assert ours.shape == (21, 21, channels)
  assert np.abs(ours - wanted.astype(int)).max() <= 1


@pytest.mark.parametrize("image_size", [None, 32])
def test_a_jpeg_differs_from_its_original_by_its_loss_alone(tmp_path, no_pillow, image_size):
  original = photograph(120, 180)
  Image.fromarray(original).save(tmp_path / "a.png")
  path = jpeg(tmp_path / "a.jpg", original, quality=95, subsampling="4:4:4")
  loss = np.abs(by_pillow(path).astype(int) - original).mean()
  with pytest.raises(ValueError, match="left to Pillow"):
    decode(str(tmp_path / "a.png"), 3)
  whole = by_pillow(tmp_path / "a.png", size=image_size)
  # A mean over pixels does not grow by the resize, which averages; rounding adds at most a half.
  assert np.abs(decode(path, 3, image_size).astype(int) - whole).mean() <= loss + 0.5


@pytest.mark.parametrize("image_size", [None, 16])
@pytest.mark.parametrize("orientation", range(10))
def test_a_jpeg_stands_upright_as_its_exif_says(tmp_path, no_pillow, orientation, image_size):
  exif = Image.Exif()
  exif[0x0112] = orientation  # 0 and 9 mean nothing.
  path = jpeg(tmp_path / "a.jpg", photograph(40, 72), exif=exif)
  ours, wanted = decode(path, 3, image_size), by_pillow(path, size=image_size)
  assert ours.shape == wanted.shape and (image_size or ours.shape == read_shape(path))
  assert np.abs(ours - wanted.astype(int)).max() <= (0 if image_size is None else 1)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_leaves_the_pixels_whole(tmp_path, no_pillow):
  path = jpeg(tmp_path / "a.jpg", photograph(20, 30), exif=b"Exif\0\0II*\0\xff\xff\xff\xff\xff")
  np.testing.assert_array_equal(decode(path, 3), decode(jpeg(path, photograph(20, 30)), 3))


@pytest.mark.parametrize("image_size", [None, 12])
def test_what_simplejpeg_does_not_do_is_left_to_pillow(tmp_path, image_size):
  image = photograph(30, 40)
  Image.fromarray(image).convert("CMYK").save(tmp_path / "cmyk.jpg")
  Image.fromarray(image).save(tmp_path / "png.jpg", "PNG")
  for path, mode in [
    (tmp_path / "cmyk.jpg", "RGB"),
    (tmp_path / "png.jpg", "RGB"),
    (jpeg(tmp_path / "colour.jpg", image), "L"),
  ]:
    ours = decode(str(path), 3 if mode == "RGB" else 1, image_size)
    np.testing.assert_array_equal(ours, by_pillow(path, mode, image_size))


def test_the_first_picture_of_several_is_read(tmp_path, no_pillow):
  first, second = (Image.fromarray(photograph(30, 40, seed)) for seed in (0, 1))
  first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
  np.testing.assert_array_equal(decode(str(tmp_path / "a.jpg"), 3), by_pillow(tmp_path / "a.jpg"))


def test_damage_is_judged_by_pillow(tmp_path):
  path = tmp_path / "a.jpg"
  jpeg(path, photograph(60, 80))
  content = path.read_bytes()
  verdicts = set()
  for seed in range(20):
    rng = np.random.default_rng(seed)
    damaged = bytearray(content)
    for place in rng.integers(len(content) // 2, len(content), 4):
      damaged[place] = rng.integers(256)
    if seed % 4 == 0:
      del damaged[rng.integers(len(content) // 2, len(content)) :]
    path.write_bytes(damaged)
    try:
      with Image.open(io.BytesIO(damaged)) as image:
        wanted = np.array(image)
    except OSError as error:
      verdicts.add("unreadable")
      with pytest.raises(ValueError, match=r"a\.jpg is unreadable .*mend or delete it") as ours:
        decode(str(path), 3)
      assert str(error) in str(ours.value) and "\n" not in str(ours.value)
    else:
      verdicts.add("readable")
      np.testing.assert_array_equal(decode(str(path), 3), wanted)
  assert verdicts == {"readable", "unreadable"}


def test_a_file_that_went_away_is_named(tmp_path):
  with pytest.raises(ValueError, match=r"a\.jpg is gone; start again"):
    decode(str(tmp_path / "a.jpg"), 3)


@pytest.mark.parametrize("package, size", [("simplejpeg", None), ("cykooz_resizer", 16)])
def test_a_missing_package_is_not_the_fault_of_the_file(package, size, tmp_path, monkeypatch):
  if package == "cykooz_resizer" and not resize.SIMD:
    pytest.skip("not used here")
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(ImportError, match=package):
    decode(jpeg(tmp_path / "a.jpg", photograph(60, 80)), 3, size)
