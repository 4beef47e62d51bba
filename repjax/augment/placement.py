"""Where a view lies in its image, so that what is found in one view can be found in another.

A placement is ``[2, 3]``: it maps ``(row, column, 1)`` of a view to ``(row, column)`` of the image,
both from -1 at the first edge to 1 at the last, so that maps of any resolution can be moved by it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from repjax.augment.compose import Augmentation
from repjax.augment.geometry import check_image, crop_and_resize, random_affine, random_box, warp

Placing = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def place_crop(
  key: jax.Array,
  image: jax.Array,
  *,
  size: int,
  area: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
  flip: float = 0.5,
) -> tuple[jax.Array, jax.Array]:
  """Crops, resizes and sometimes mirrors, and says where; see `random_resized_crop` and `flip`.

  Args:
    key: for one image.
    image: ``[h, w, c]``, floating.
    size: side of the result in pixels.
    area: least and greatest share of the image's area, in (0, 1].
    ratio: least and greatest width over height, > 0.
    flip: probability of mirroring left and right, in [0, 1].

  Returns:
    The view ``[size, size, c]`` and its placement.

  Raises:
    ValueError: if ``image`` is not one floating image, or a range is not one.
  """
  check_image(image)
  k_box, k_flip = jax.random.split(key)
  extent = jnp.array(image.shape[:2], jnp.float32)
  box = random_box(k_box, image.shape[0], image.shape[1], area=area, ratio=ratio)
  view = crop_and_resize(image, *box, size)
  mirrored = jax.random.bernoulli(k_flip, flip)
  view = jnp.where(mirrored, view[:, ::-1], view)
  scale = box[2:] / extent
  middle = (2 * box[:2] + box[2:]) / extent - 1
  scale = scale * jnp.where(mirrored, jnp.array([1.0, -1.0]), 1.0)
  return view, jnp.concatenate([jnp.diag(scale), middle[:, None]], 1)


def place_affine(
  key: jax.Array,
  image: jax.Array,
  *,
  degrees: float = 0.0,
  scale: tuple[float, float] = (1.0, 1.0),
  shear: float = 0.0,
  translate: float = 0.0,
  fill: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
  """Turns, zooms, slants and moves the image, and says how; see `affine`.

  Args:
    key: for one image.
    image: ``[h, w, c]``, floating.
    degrees: greatest angle either way.
    scale: least and greatest zoom, > 0.
    shear: greatest slant either way, in degrees below 90.
    translate: greatest shift either way, as a share of height and of width.
    fill: value of what lies outside the image.

  Returns:
    The view, of the shape of ``image``, and its placement.

  Raises:
    ValueError: if ``image`` is not one floating image, or ``scale`` is not an increasing pair.
  """
  check_image(image)
  options = {"degrees": degrees, "scale": scale, "shear": shear, "translate": translate}
  matrix = random_affine(key, *image.shape[:2], **options)
  return warp(image, matrix, fill=fill), matrix / _pixels(*image.shape[:2])


def place_whole(key: jax.Array, image: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The image as it is.

  Args:
    key: not used.
    image: ``[h, w, c]``.

  Returns:
    The image and its placement, the identity.
  """
  del key
  return image, jnp.eye(2, 3)


def placed(place: Placing, augmentation: Augmentation) -> Placing:
  """A placed view that is changed afterwards in ways that move nothing, such as in its colours.

  Args:
    place: ``(key, image) -> (view, placement)``.
    augmentation: ``(key, view) -> view``.

  Returns:
    ``(key, image) -> (view, placement)``.
  """

  def augment(key, image):
    k_place, k_change = jax.random.split(key)
    view, placement = place(k_place, image)
    return augmentation(k_change, view), placement

  return augment


def overlap(placement_1: jax.Array, placement_2: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The box that two upright views share, mirrored or not.

  Args:
    placement_1: of one view, from `place_crop`.
    placement_2: of another view of the same image.

  Returns:
    The placement of the box, upright and not mirrored, and its share of the smaller view's area, 0
    if they share nothing, where the placement is of no use.
  """
  middles = jnp.stack([placement_1[:, 2], placement_2[:, 2]])
  halves = jnp.stack([jnp.abs(jnp.diagonal(p[:, :2])) for p in (placement_1, placement_2)])
  low, high = jnp.max(middles - halves, 0), jnp.min(middles + halves, 0)
  half = jnp.maximum(high - low, 0) / 2
  share = jnp.prod(half) / jnp.min(jnp.prod(halves, 1))
  return jnp.concatenate([jnp.diag(half), ((low + high) / 2)[:, None]], 1), share


def bring(
  values: jax.Array, source: jax.Array, target: jax.Array, *, extend: bool = False
) -> jax.Array:
  """Moves a map over one view to where another view, or a box, lies.

  Args:
    values: ``[h, w, c]``, floating, over the source view.
    source: placement of the view that the map covers.
    target: placement of what it is to cover.
    extend: whether values at the edge go on up to a place beyond; 0 comes in otherwise.

  Returns:
    ``[h, w, c]`` over the target, read bilinearly.
  """
  back = jnp.linalg.inv(source[:, :2])
  matrix = jnp.concatenate([back @ target[:, :2], back @ (target - source)[:, 2:]], 1)
  matrix = matrix * _pixels(*values.shape[:2])
  if not extend:
    return warp(values, matrix)
  return warp(jnp.pad(values, ((1, 1), (1, 1), (0, 0)), "edge"), matrix)[1:-1, 1:-1]


def _pixels(height: int, width: int) -> jax.Array:
  """What turns a map of coordinates from -1 to 1 into one of pixels from the centre."""
  return jnp.array([[1.0, height / width, height / 2], [width / height, 1.0, width / 2]])
