"""From an image file to pixels.

JPEG is decoded by simplejpeg, which hands the whole file to libjpeg-turbo at once, and resized by
`repjax.data.resize.fit_pixels`; together they take some 0.6 of Pillow's time
(benchmarks/NOTES.md). Pillow reads the headers, every other format, and the JPEGs that simplejpeg
finds fault with or that are CMYK, so its word is the last on what is readable.
"""

import io
import os

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from repjax.data.resize import fit, fit_pixels

GREY = ("1", "L", "LA")
DEEP = ("I", "F")  # And I;16 and its kin: more than 8 bits a channel.
_UPRIGHT = {  # What brings an image of each EXIF orientation upright.
  1: lambda x: x,
  2: lambda x: x[:, ::-1],
  3: lambda x: x[::-1, ::-1],
  4: lambda x: x[::-1],
  5: lambda x: x.swapaxes(0, 1),
  6: lambda x: x[::-1].swapaxes(0, 1),
  7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
  8: lambda x: x[:, ::-1].swapaxes(0, 1),
}


def decode(file: str, channels: int, image_size: int | None = None) -> np.ndarray:
  """Pixels of an image file, upright as its EXIF says.

  A JPEG at its own size has the very pixels that Pillow gives. One that is resized is within one
  level of Pillow's bilinear filter.

  Args:
    file: path.
    channels: 1 for grey, 3 for RGB; transparency is dropped.
    image_size: side to resize the centre square to; the image as it is if absent.

  Returns:
    uint8 ``[height, width, channels]``.

  Raises:
    ValueError: one line that names the file and why it is unreadable.
    ImportError: if a package of the dependencies is missing.
  """
  try:
    with open(file, "rb") as stream:
      content = stream.read()
  except Exception as error:
    raise _unreadable(file, error) from None
  with _open(file, io.BytesIO(content)) as image:
    try:
      if image_size is not None:
        # JPEG can leave out the finest frequencies; a factor of two is left to the resize.
        image.draft(None, (2 * image_size, 2 * image_size))
      pixels = _jpeg(image, content, channels, image_size)
      if pixels is None:
        pixels = _any(image, channels, image_size)
    except ImportError:  # What is missing is a package; the file may be whole.
      raise
    except Exception as error:  # Decoders raise some ten types between them.
      raise _unreadable(file, error) from None
  return pixels


def read_shape(file: str) -> tuple[int, int, int]:
  """Shape of an image file, upright, from its header alone.

  Args:
    file: path.

  Returns:
    ``(height, width, channels)``; 1 channel is grey, 3 are anything else.

  Raises:
    ValueError: one line that names the file and why it is unreadable.
  """
  with _open(file, file) as image:
    width, height = image.size
    # TIFF sizes are upright already.
    if image.format != "TIFF" and _orientation(image) in (5, 6, 7, 8):
      width, height = height, width
    return height, width, 1 if image.mode in GREY else 3


def _open(file, content):
  try:
    image = Image.open(content)
  except Exception as error:
    raise _unreadable(file, error) from None
  if image.mode in DEEP or image.mode.startswith("I;"):
    image.close()
    raise _unreadable(file, f"mode {image.mode} has more than 8 bits a channel, not 8")
  return image


def _jpeg(image, content, channels, image_size):
  """Pixels of a JPEG whose header is read, or nothing where Pillow is to decide."""
  modes = ("L",) if channels == 1 else ("L", "RGB")
  if image.format not in ("JPEG", "MPO") or image.mode not in modes:
    return None
  width, height = image.size  # After the draft: 1, 1/2, 1/4 or 1/8 of what the file holds.
  import simplejpeg

  try:
    pixels = simplejpeg.decode_jpeg(
      content, "GRAY" if channels == 1 else "RGB", min_height=height, min_width=width
    )
  except ValueError:  # Of libjpeg's warnings too, such as data that end early.
    return None
  if image_size is not None:
    pixels = fit_pixels(pixels, image_size)
  return np.ascontiguousarray(_UPRIGHT.get(_orientation(image), _UPRIGHT[1])(pixels))


def _any(image, channels, image_size):
  """Pixels of any image that Pillow knows."""
  upright = image if _orientation(image) == 1 else ImageOps.exif_transpose(image)
  if upright.mode in ("P", "PA"):  # Straight to RGB warns where the palette is transparent.
    upright = upright.convert("RGBA")
  mode = "L" if channels == 1 else "RGB"
  if upright.mode != mode:  # Or it would be copied.
    upright = upright.convert(mode)
  if image_size is not None:
    upright = fit(upright, image_size)
  pixels = np.array(upright)
  return pixels if channels == 3 else pixels[..., None]


def _orientation(image):
  # Asking a PNG for tags that its header lacks would decode it.
  if image.format == "PNG" and "exif" not in image.info:
    return 1
  try:
    return image.getexif().get(0x0112, 1)
  except Exception:  # Damaged tags leave the pixels whole.
    return 1


def _unreadable(file, error):
  way_out = "mend or delete it, or pass --skip_unreadable"
  if isinstance(error, FileNotFoundError):
    return ValueError(f"{file} is gone; start again")
  if os.path.isfile(file) and os.path.getsize(file) == 0:
    return ValueError(f"{file} is empty (0 bytes); {way_out}")
  if isinstance(error, UnidentifiedImageError):
    error = "no image format known"
  reason = (str(error).splitlines() or [type(error).__name__])[0]
  return ValueError(f"{file} is unreadable ({reason}); {way_out}")
