"""Where pixels come from: crops, flips and affine maps of one image."""

import math

import jax
import jax.numpy as jnp


def check_image(image: jax.Array) -> None:
  """Raises unless ``image`` is one floating image.

  Args:
    image: what should be ``[h, w, c]``.

  Raises:
    ValueError: naming the shape or dtype found; a batch flipped or cropped along the wrong axes,
      or bytes clipped to [0, 1], would otherwise train silently.
  """
  if image.ndim != 3:
    raise ValueError(f"image has shape {image.shape}, not [h, w, c]; jax.vmap over the batch")
  if not jnp.issubdtype(image.dtype, jnp.floating):
    raise ValueError(f"image is {image.dtype}, not floating; call augment.to_float first")


def crop_and_resize(
  image: jax.Array,
  top: jax.Array | float,
  left: jax.Array | float,
  height: jax.Array | float,
  width: jax.Array | float,
  size: int,
) -> jax.Array:
  """Resamples a box of the image to a square, bilinearly and with antialiasing.

  The box may begin and end inside a pixel. As in Pillow's ``resize(box=...)``, the filter at the
  box's edge sees the pixels just outside, where the image has any; cutting first, as torchvision
  does, would repeat the box's edge instead.

  Args:
    image: ``[h, w, c]``, floating.
    top: upper edge of the box in pixels, in ``[0, h)``.
    left: left edge, in ``[0, w)``.
    height: the box's height in pixels, > 0.
    width: the box's width in pixels, > 0.
    size: side of the result in pixels.

  Returns:
    ``[size, size, c]``, in the range of ``image``; ``image`` itself if the box is the whole image
    and has that size.

  Raises:
    ValueError: if ``image`` is not one floating image.
  """
  check_image(image)
  scale = size / jnp.stack([jnp.float32(height), jnp.float32(width)])
  shift = -scale * jnp.stack([jnp.float32(top), jnp.float32(left)])
  return jax.image.scale_and_translate(
    image, (size, size, image.shape[2]), (0, 1), scale, shift, "linear", antialias=True
  )


def random_box(
  key: jax.Array,
  height: int,
  width: int,
  *,
  area: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> jax.Array:
  """Draws a box inside an image, the way Inception crops.

  Area is uniform, aspect ratio log-uniform, place uniform. Of ten draws the first that fits is
  taken; if none does, the largest central box whose ratio is allowed. The rule is torchvision's,
  but the box is not rounded to whole pixels, so that areas stay uniform in small images.

  Args:
    key: for one box.
    height: the image's height in pixels.
    width: the image's width in pixels.
    area: least and greatest share of the image's area, in (0, 1].
    ratio: least and greatest width over height, > 0.

  Returns:
    ``[4]`` float32: top, left, height, width, in pixels.

  Raises:
    ValueError: if ``area`` or ``ratio`` is not an increasing pair in its range.

  References:
    Szegedy et al., `Going Deeper with Convolutions <https://arxiv.org/abs/1409.4842>`_, 2014,
    section 6.
  """
  if not 0 < area[0] <= area[1] <= 1:
    raise ValueError(f"area={area} is not an increasing pair in (0, 1]; choose e.g. (0.08, 1.0)")
  if not 0 < ratio[0] <= ratio[1]:
    raise ValueError(f"ratio={ratio} is not an increasing pair above 0; choose e.g. (0.75, 1.33)")
  u = jax.random.uniform(key, (22,))  # one call: it compiles and runs faster than three
  pixels = height * width * (area[0] + u[:10] * (area[1] - area[0]))
  log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
  ratios = jnp.exp(log_low + u[10:20] * (log_high - log_low))
  sides = jnp.stack([jnp.sqrt(pixels / ratios), jnp.sqrt(pixels * ratios)], 1)  # [10, 2]

  image = jnp.array([height, width], jnp.float32)
  fits = jnp.all(sides <= image[None], 1)
  closest = min(max(width / height, ratio[0]), ratio[1])
  fallback = jnp.array([min(height, width / closest), min(width, height * closest)], jnp.float32)
  side = jnp.where(jnp.any(fits), sides[jnp.argmax(fits)], fallback)
  corner = jnp.where(jnp.any(fits), u[20:], 0.5) * (image - side)
  return jnp.concatenate([corner, side])


def random_resized_crop(
  key: jax.Array,
  image: jax.Array,
  *,
  size: int,
  area: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> jax.Array:
  """Resamples a random box of the image to a square; see `random_box` and `crop_and_resize`.

  Args:
    key: for one image.
    image: ``[h, w, c]``, floating.
    size: side of the result in pixels.
    area: least and greatest share of the image's area, in (0, 1].
    ratio: least and greatest width over height, > 0.

  Returns:
    ``[size, size, c]``, in the range of ``image``.

  Raises:
    ValueError: if ``image`` is not one floating image, or a range is not one.
  """
  check_image(image)
  box = random_box(key, image.shape[0], image.shape[1], area=area, ratio=ratio)
  return crop_and_resize(image, *box, size)


def flip(key: jax.Array, image: jax.Array, *, probability: float = 0.5) -> jax.Array:
  """Mirrors left and right, sometimes.

  Args:
    key: for one image.
    image: ``[h, w, c]``, floating.
    probability: of mirroring, in [0, 1].

  Returns:
    Same shape as ``image``.

  Raises:
    ValueError: if ``image`` is not one floating image.
  """
  check_image(image)
  return jnp.where(jax.random.bernoulli(key, probability), image[:, ::-1], image)


def quarter_turns(image: jax.Array) -> jax.Array:
  """The image at all four quarters of a turn.

  Args:
    image: ``[size, size, c]``, floating.

  Returns:
    ``[4, size, size, c]``; entry k is turned by k quarters anticlockwise, as by ``np.rot90``.

  Raises:
    ValueError: if ``image`` is not one floating image, or not square.
  """
  check_image(image)
  if image.shape[0] != image.shape[1]:
    raise ValueError(f"image has shape {image.shape}, not [size, size, c]; crop it square")
  return jnp.stack([jnp.rot90(image, k) for k in range(4)])


def warp(image: jax.Array, matrix: jax.Array, *, fill: float = 0.0) -> jax.Array:
  """Samples the image bilinearly at affinely mapped places.

  Args:
    image: ``[h, w, c]``, floating.
    matrix: ``[2, 3]``; maps ``(row, column, 1)`` of a result's pixel to the ``(row, column)`` it
      is read from, both in pixels from the image's centre.
    fill: value of what lies outside the image.

  Returns:
    Same shape as ``image``, in the range of ``image`` and ``fill``.

  Raises:
    ValueError: if ``image`` is not one floating image.
  """
  check_image(image)
  height, width, channels = image.shape
  middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
  row, column = jnp.meshgrid(
    jnp.arange(height) - middle_row, jnp.arange(width) - middle_column, indexing="ij"
  )
  y = matrix[0, 0] * row + matrix[0, 1] * column + matrix[0, 2] + middle_row
  x = matrix[1, 0] * row + matrix[1, 1] * column + matrix[1, 2] + middle_column
  pixels = image.reshape(height * width, channels)
  total, covered = 0.0, 0.0
  # Four gathers: several times faster on a CPU than a dense sampling matrix.
  for i in (jnp.floor(y), jnp.floor(y) + 1):
    for j in (jnp.floor(x), jnp.floor(x) + 1):
      inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
      weight = jnp.where(inside, (1 - jnp.abs(y - i)) * (1 - jnp.abs(x - j)), 0)
      index = jnp.clip(i, 0, height - 1) * width + jnp.clip(j, 0, width - 1)
      total += weight[..., None] * pixels[index.astype(jnp.int32)]
      covered += weight
  return total if fill == 0 else total + (fill * (1 - covered))[..., None]


def affine(
  key: jax.Array,
  image: jax.Array,
  *,
  degrees: float = 0.0,
  scale: tuple[float, float] = (1.0, 1.0),
  shear: float = 0.0,
  translate: float = 0.0,
  fill: float = 0.0,
) -> jax.Array:
  """Turns, zooms, slants and moves the image about its centre, each uniformly at random.

  Args:
    key: for one image.
    image: ``[h, w, c]``, floating.
    degrees: greatest angle either way; a positive angle turns anticlockwise, as ``np.rot90``.
    scale: least and greatest zoom, > 0; above 1 enlarges what is seen.
    shear: greatest slant of the columns either way, in degrees below 90.
    translate: greatest shift either way, as a share of height and of width.
    fill: value of what lies outside the image.

  Returns:
    Same shape as ``image``, in the range of ``image`` and ``fill``.

  Raises:
    ValueError: if ``image`` is not one floating image, or ``scale`` is not an increasing pair.
  """
  check_image(image)
  options = {"degrees": degrees, "scale": scale, "shear": shear, "translate": translate}
  return warp(image, random_affine(key, *image.shape[:2], **options), fill=fill)


def random_affine(
  key: jax.Array,
  height: int,
  width: int,
  *,
  degrees: float = 0.0,
  scale: tuple[float, float] = (1.0, 1.0),
  shear: float = 0.0,
  translate: float = 0.0,
) -> jax.Array:
  """Draws the map of `affine`, for `warp`.

  Args:
    key: for one image.
    height: the image's height in pixels.
    width: the image's width in pixels.
    degrees: see `affine`; so of the others.
    scale: least and greatest zoom, > 0.
    shear: greatest slant either way, in degrees below 90.
    translate: greatest shift either way, as a share of height and of width.

  Returns:
    ``[2, 3]``, from a result's pixel to the one it is read from, in pixels from the centre.

  Raises:
    ValueError: if ``scale`` is not an increasing pair.
  """
  if not 0 < scale[0] <= scale[1]:
    raise ValueError(f"scale={scale} is not an increasing pair above 0; choose e.g. (0.9, 1.1)")
  u = jax.random.uniform(key, (5,), minval=-1.0, maxval=1.0)
  angle = u[0] * math.radians(degrees)
  zoom = (scale[0] + scale[1]) / 2 + u[1] * (scale[1] - scale[0]) / 2
  slant = jnp.tan(u[2] * math.radians(shear))
  shift = u[3:] * translate * jnp.array([height, width], jnp.float32)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  # The map is written in its inverse, from result to source: unshift, unturn, unslant, unzoom.
  linear = jnp.array([[cos, sin], [slant * cos - sin, slant * sin + cos]]) / zoom
  return jnp.concatenate([linear, -(linear @ shift)[:, None]], 1)
