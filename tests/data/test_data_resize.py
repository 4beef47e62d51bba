"""Resizing: the centre square under a triangle as wide as the scale, in either implementation."""

import numpy as np
import pytest
from PIL import Image

from repjax.data import resize


def weights(length, start, side, size):
  """``[size, length]``: a triangle over each output pixel's centre, as wide as the scale."""
  scale = side / size
  centre = start + (np.arange(size) + 0.5) * scale
  distance = np.arange(length) + 0.5 - centre[:, None]
  triangle = np.maximum(1 - np.abs(distance) / max(scale, 1), 0)
  return triangle / triangle.sum(1, keepdims=True)


def exact(image, size):
  """The resize in float64."""
  height, width, _ = image.shape
  side = min(height, width)
  rows = weights(height, (height - side) / 2, side, size)
  columns = weights(width, (width - side) / 2, side, size)
  return np.einsum("ih,hwc,jw->ijc", rows, image.astype(np.float64), columns)


def fit(image, size):
  picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
  return np.asarray(resize.fit(picture, size)).reshape(size, size, -1)


def fit_pixels_by_pillow(image, size):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(resize, "SIMD", False)
    return resize.fit_pixels(image, size)


@pytest.mark.parametrize(
  "function", [resize.fit, resize.fit_pixels, fit_pixels_by_pillow, resize.fit_array]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_resize_is_within_a_level_of_exact_arithmetic(function, channels):
  rng = np.random.default_rng(channels)
  for height, width, size in [
    (1, 1, 1), (1, 9, 4), (9, 1, 3), (7, 10, 7), (8, 16, 4), (30, 21, 64), (63, 90, 17),
    (300, 201, 8),
  ]:  # fmt: skip
    image = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    found = (fit if function is resize.fit else function)(image, size)
    assert found.shape == (size, size, channels) and found.dtype == np.uint8
    # Two passes, each rounded to whole levels: a half and a half.
    assert np.abs(found - exact(image, size)).max() <= 1 + 1e-9


def test_the_platforms_without_a_wheel_are_those_of_the_requirement():
  import tomllib
  from pathlib import Path

  from packaging.requirements import Requirement

  text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
  requirements = map(Requirement, tomllib.loads(text)["project"]["dependencies"])
  marker = next(r.marker for r in requirements if r.name == "cykooz-resizer")
  assert marker.evaluate() == resize.SIMD
  assert not marker.evaluate({"sys_platform": "linux", "platform_machine": "aarch64"})
  assert marker.evaluate({"sys_platform": "darwin", "platform_machine": "arm64"})
