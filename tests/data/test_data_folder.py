"""Image folders: decoded pixels, classes, splits, and every way they can be broken."""

import numpy as np
import pytest
from PIL import Image

from repjax import data

CLASSES = ("ant", "bee", "cat")


def pixels(seed, shape=(6, 8, 3)):
  return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(root, splits=("train", "test"), each=4, shape=(6, 8, 3), suffix="png"):
  """Writes CLASS folders; image ``i`` of class ``c`` in split ``s`` has a seed of its own."""
  for s, split in enumerate(splits):
    for c, name in enumerate(CLASSES):
      folder = root / split / name
      folder.mkdir(parents=True)
      for i in range(each):
        save(folder / f"{i}.{suffix}", pixels(100 * s + 10 * c + i, shape))
  return root


def save(path, image, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(image.squeeze()).save(path, **options)
  return path


def load(root, **options):
  return data.load(f"folder:{root}", **options)


@pytest.mark.parametrize("shape", [(6, 8, 3), (6, 8, 1)])
@pytest.mark.parametrize("suffix", ["png", "BMP", "tif"])
def test_what_was_written_is_read(tmp_path, shape, suffix):
  found = load(write(tmp_path, shape=shape, suffix=suffix))
  assert found.classes == CLASSES and found.skipped == ()
  for s, source in enumerate((found.train, found.test)):
    decoded = data.in_memory(source)
    wanted = [pixels(100 * s + 10 * c + i, shape) for c in range(3) for i in range(4)]
    np.testing.assert_array_equal(decoded.image, np.stack(wanted))
    np.testing.assert_array_equal(decoded.label, np.repeat([0, 1, 2], 4))
    assert source.image_shape == shape


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_stands_in_for_test(tmp_path, name):
  found = load(write(tmp_path, ("train", name)))
  np.testing.assert_array_equal(found.test[0]["image"], pixels(100))


def test_an_unlabelled_test_folder_is_passed_over(tmp_path):
  write(tmp_path, ("train", "val"))
  save(tmp_path / "test" / "0.png", pixels(0))
  np.testing.assert_array_equal(load(tmp_path).test[0]["image"], pixels(100))


@pytest.mark.parametrize("splits", [("",), ("train",)])
def test_one_level_is_split_by_the_seed_class_by_class(tmp_path, splits):
  write(tmp_path, splits, each=10)
  one, same, other = (load(tmp_path, seed=s, test_fraction=0.3) for s in (0, 0, 1))
  np.testing.assert_array_equal(np.bincount(one.test.label), [3, 3, 3])
  np.testing.assert_array_equal(np.bincount(one.train.label), [7, 7, 7])
  np.testing.assert_array_equal(one.test.indices, same.test.indices)
  assert not np.array_equal(one.test.indices, other.test.indices)


def test_strangers_among_the_files_are_ignored(tmp_path):
  write(tmp_path)
  (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
  (tmp_path / "train" / "ant" / "._0.png").write_bytes(b"left behind by a file manager")
  (tmp_path / "train" / ".cache").mkdir()
  assert len(load(tmp_path).train) == 12


def test_images_stand_upright_as_their_exif_says(tmp_path):
  upright = pixels(0, (4, 6, 3))
  turned = {1: upright, 3: np.rot90(upright, 2), 6: np.rot90(upright), 8: np.rot90(upright, -1)}
  for c in CLASSES:
    for orientation, image in turned.items():
      exif = Image.Exif()
      exif[0x0112] = orientation
      for suffix in ("png", "tif"):
        path = tmp_path / c / f"{orientation}.{suffix}"
        save(path, np.ascontiguousarray(image), exif=exif)
  found = load(tmp_path)  # Headers alone must agree on 4x6, or the sizes would be mixed.
  for row in data.in_memory(found.train).image:
    np.testing.assert_array_equal(row, upright)


def test_a_jpeg_is_read_within_its_own_loss(tmp_path):
  y, x = np.mgrid[:48, :64]
  smooth = np.stack([4 * x, 5 * y, 2 * (x + y)], -1).astype(np.uint8)
  for c in CLASSES:
    for i in range(2):
      save(tmp_path / c / f"{i}.jpg", smooth, quality=98)
  found = load(tmp_path).train[0]["image"].astype(int)
  assert np.abs(found - smooth).mean() < 2
  # Reading a sixth of the size through JPEG's own reduction gives what a block mean gives.
  small = load(tmp_path, image_size=8).train[0]["image"].astype(int)
  blocks = smooth[:, 8:56].reshape(8, 6, 8, 6, 3).mean((1, 3))
  assert np.abs(small - blocks)[1:-1, 1:-1].mean() < 3


def test_image_size_is_resizing_the_short_side_and_cropping_the_centre(tmp_path):
  for c in CLASSES:
    save(tmp_path / c / "wide.png", pixels(0, (8, 16, 3)))
    save(tmp_path / c / "tall.png", pixels(1, (24, 8, 3)))
  wide = Image.fromarray(pixels(0, (8, 16, 3))).resize((8, 4), Image.Resampling.BILINEAR)
  tall = Image.fromarray(pixels(1, (24, 8, 3))).resize((4, 12), Image.Resampling.BILINEAR)
  wanted = {"wide": np.asarray(wide)[:, 2:6], "tall": np.asarray(tall)[4:8]}
  train = load(tmp_path, image_size=4).train
  for i in range(len(train)):
    name = train.source.files[train.indices[i]].split("/")[-1].removesuffix(".png")
    np.testing.assert_array_equal(train[i]["image"], wanted[name])


def test_one_coloured_image_makes_all_rgb(tmp_path):
  write(tmp_path, shape=(6, 6, 1))
  save(tmp_path / "test" / "cat" / "red.png", np.full((6, 6, 3), [255, 0, 0], np.uint8))
  found = load(tmp_path, image_size=6)
  np.testing.assert_array_equal(found.train[0]["image"], np.tile(pixels(0, (6, 6, 1)), (1, 1, 3)))
  np.testing.assert_array_equal(found.test[11 + 1]["image"][0, 0], [255, 0, 0])


def test_palettes_and_transparency_become_rgb(tmp_path):
  image = np.full((6, 8, 3), [250, 120, 10], np.uint8)
  for c in CLASSES:
    save(tmp_path / c / "rgb.png", image)
    save(tmp_path / c / "rgba.png", np.dstack([image, np.full((6, 8, 1), 7, np.uint8)]))
    palette = Image.fromarray(image).quantize(4)
    palette.save(tmp_path / c / "palette.png", transparency=bytes([3, 4]))
  for row in data.in_memory(load(tmp_path).train).image:
    np.testing.assert_array_equal(row, image)


def truncate(path, keep=0.6):
  whole = path.read_bytes()
  path.write_bytes(whole[: int(keep * len(whole))])
  return path


def break_zero(root):
  (root / "train" / "bee" / "1.png").write_bytes(b"")


def break_text(root):
  (root / "train" / "bee" / "1.png").write_text("not an image")


def break_deep(root):
  Image.fromarray(np.zeros((6, 8), np.uint16)).save(root / "train" / "bee" / "1.png")


def break_data(root):
  truncate(save(root / "train" / "bee" / "1.png", pixels(0, (6, 8, 3))))


def break_jpeg(root):
  jpeg = truncate(save(root / "whole.jpg", pixels(0)), 0.95)
  jpeg.replace(root / "train" / "bee" / "1.png")


BROKEN = {
  break_zero: r"is empty \(0 bytes\)",
  break_text: r"is unreadable \(no image format known\)",
  break_deep: r"is unreadable \(mode I;16 has more than 8 bits a channel, not 8\)",
  break_data: r"is unreadable \(.*truncated",
  break_jpeg: r"is unreadable \(image file is truncated",
}
WAY_OUT = r"; mend or delete it, or pass --skip_unreadable$"


@pytest.mark.parametrize("spoil", BROKEN)
def test_an_unreadable_file_is_named_with_the_way_out(tmp_path, spoil):
  spoil(write(tmp_path))
  with pytest.raises(ValueError, match=rf"train/bee/1\.png {BROKEN[spoil]}.*{WAY_OUT}"):
    data.in_memory(load(tmp_path).train)


@pytest.mark.parametrize("spoil", BROKEN)
def test_skip_unreadable_goes_on_and_counts(tmp_path, spoil, caplog):
  spoil(write(tmp_path))
  found = load(tmp_path, skip_unreadable=True)
  assert found.skipped == (str(tmp_path / "train" / "bee" / "1.png"),)
  assert data.in_memory(found.train).label.tolist() == [0] * 4 + [1] * 3 + [2] * 4
  assert "left out 1 of 24 files" in caplog.text


def test_a_truncated_file_met_while_streaming_is_named(tmp_path):
  break_data(write(tmp_path))
  with pytest.raises(ValueError, match=rf"bee/1\.png .*truncated.*{WAY_OUT}"):
    list(data.once(load(tmp_path).train, 5))


def only_one_class(root):
  for split in ("train", "test"):
    save(root / split / "ant" / "0.png", pixels(0))


def mixed_sizes(root):
  save(write(root) / "test" / "bee" / "0.png", pixels(0, (5, 9, 3)))


def mixed_channels(root):
  save(write(root) / "test" / "bee" / "0.png", pixels(0, (6, 8, 1)))


def no_class_folders(root):
  save(root / "0.png", pixels(0))


def an_empty_class(root):
  (write(root) / "train" / "dog").mkdir()


def an_unknown_test_class(root):
  save(write(root) / "test" / "dog" / "0.png", pixels(0))


def an_empty_test_folder(root):
  (write(root, ("train",)) / "test").mkdir()


@pytest.mark.parametrize(
  ("make", "kind", "message"),
  [
    (lambda root: None, FileNotFoundError, "holds no class folders; put images into .*CLASS"),
    (no_class_folders, FileNotFoundError, "holds no class folders; put images into .*CLASS"),
    (an_empty_class, FileNotFoundError, r"train/dog holds no image .*fill it or remove it"),
    (an_empty_test_folder, FileNotFoundError, "test holds no class folders"),
    (only_one_class, ValueError, "one class only .'ant'.; give at least two"),
    (an_unknown_test_class, ValueError, "'dog' is in .*test but not in .*train, which has 3"),
    (mixed_sizes, ValueError, r"ant/0.png is 8x6 .* but .*bee/0.png is 9x5 .*--image_size=N"),
    (mixed_channels, ValueError, r"3 channel.*but .*bee/0.png .*1 channel.*--image_size=N"),
  ],
)
def test_bad_folders_are_refused(tmp_path, make, kind, message):
  make(tmp_path)
  with pytest.raises(kind, match=message) as error:
    load(tmp_path)
  assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_class_left_without_files_is_refused(tmp_path):
  save(write(tmp_path) / "train" / "dog" / "0.png", pixels(0)).write_bytes(b"")
  with pytest.raises(ValueError, match=r"no file of class 'dog' in .*train is readable; mend or"):
    load(tmp_path, skip_unreadable=True)


def test_a_missing_folder_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"no folder .*none; --data=folder:PATH takes"):
    load(tmp_path / "none")
