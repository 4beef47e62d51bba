"""Chains of augmentations, and the chains that papers use."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from repjax.augment.colour import gaussian_blur, gaussian_noise, greyscale, jitter
from repjax.augment.geometry import affine, flip, random_resized_crop

Augmentation = Callable[[jax.Array, jax.Array], jax.Array]


def compose(*augmentations: Augmentation) -> Augmentation:
  """Applies augmentations one after another, each with a key of its own.

  Args:
    *augmentations: ``(key, image) -> image``, first comes first.

  Returns:
    ``(key, image) -> image``.
  """

  def augment(key, image):
    for f, k in zip(augmentations, jax.random.split(key, len(augmentations)), strict=True):
      # Left to fuse the steps, XLA on a CPU works out the earlier ones once for each use.
      image = lax.optimization_barrier(f(k, image))
    return image

  return augment


def with_probability(probability: float, augmentation: Augmentation) -> Augmentation:
  """Applies an augmentation to some of the images.

  Args:
    probability: of applying it, in [0, 1].
    augmentation: ``(key, image) -> image`` that keeps the shape. It is worked out for every image
      and dropped for some: under ``vmap`` a branch would be no cheaper.

  Returns:
    ``(key, image) -> image``.
  """

  def augment(key, image):
    key_gate, key = jax.random.split(key)
    return jnp.where(jax.random.bernoulli(key_gate, probability), augmentation(key, image), image)

  return augment


def to_float(image: jax.Array) -> jax.Array:
  """Maps bytes to [0, 1]; floats pass.

  Args:
    image: any shape, uint8 in [0, 255] or floating.

  Returns:
    Same shape as ``image``, float32 from bytes.

  Raises:
    ValueError: for another dtype.
  """
  if jnp.issubdtype(image.dtype, jnp.floating):
    return image
  if image.dtype != jnp.uint8:
    raise ValueError(f"image is {image.dtype}, neither uint8 nor floating; convert it to one")
  return image.astype(jnp.float32) / 255


def normalize(
  image: jax.Array, mean: Sequence[float] | jax.Array, std: Sequence[float] | jax.Array
) -> jax.Array:
  """Subtracts a mean and divides by a deviation, channel by channel.

  Args:
    image: ``[..., c]``, floating.
    mean: ``[c]``.
    std: ``[c]``, > 0.

  Returns:
    Same shape as ``image``.

  Raises:
    ValueError: if ``mean`` or ``std`` does not have one number a channel.
  """
  mean, std = jnp.asarray(mean, image.dtype), jnp.asarray(std, image.dtype)
  for name, value in (("mean", mean), ("std", std)):
    if value.shape != image.shape[-1:]:
      raise ValueError(
        f"{name} has shape {value.shape} for {image.shape[-1]} channels; give one number a channel"
      )
  channelwise = (1,) * (image.ndim - 1) + (-1,)
  return (image - mean.reshape(channelwise)) / std.reshape(channelwise)


def simclr_augment(
  size: int,
  *,
  strength: float = 1.0,
  blur: bool = True,
  min_area: float = 0.08,
  max_area: float = 1.0,
) -> Augmentation:
  """Crop, flip, colour jitter, greyscale, blur: one view of SimCLR.

  Args:
    size: side of the result in pixels.
    strength: of the colour jitter, in [0, 2.5]; the paper has 1 for ImageNet and 0.5 for CIFAR-10.
    blur: whether to blur, with probability 0.5 and a kernel of a tenth of the image; not on
      CIFAR-10 in the paper, and without effect below 20 pixels.
    min_area: least share of the image's area in a crop, in (0, 1].
    max_area: greatest share; below 1 for the small crops of a multi-crop.

  Returns:
    ``(key, image) -> image``, ``[h, w, c] -> [size, size, c]``, 1 or 3 channels, in [0, 1].

  References:
    Chen et al., `A Simple Framework for Contrastive Learning of Visual Representations
    <https://arxiv.org/abs/2002.05709>`_, 2020, appendices A and B.9; kernel from ``data_util.py``
    of https://github.com/google-research/simclr. Brightness is multiplied, as in the paper's
    PyTorch listing.
  """
  s = 0.8 * strength
  colours = partial(jitter, brightness=s, contrast=s, saturation=s, hue=0.2 * strength)
  return compose(
    partial(random_resized_crop, size=size, area=(min_area, max_area)),
    flip,
    with_probability(0.8, colours),
    greyscale,
    *([with_probability(0.5, partial(gaussian_blur, kernel=2 * (size // 20) + 1))] * blur),
  )


def crop_flip(size: int, *, min_area: float = 0.67) -> Augmentation:
  """Crop and flip: the light augmentation of masked learners and of supervised ones.

  Args:
    size: side of the result in pixels.
    min_area: least share of the image's area in a crop, in (0, 1]; 0.67 in SimMIM.

  Returns:
    ``(key, image) -> image``, ``[h, w, c] -> [size, size, c]``.

  References:
    Xie et al., `SimMIM: A Simple Framework for Masked Image Modeling
    <https://arxiv.org/abs/2111.09886>`_, 2021, section 4.1.
  """
  return compose(partial(random_resized_crop, size=size, area=(min_area, 1.0)), flip)


def affine_augment(
  *,
  degrees: float = 15.0,
  scale: tuple[float, float] = (0.85, 1.15),
  shear: float = 10.0,
  translate: float = 0.1,
  brightness: float = 0.3,
  contrast: float = 0.3,
  noise: float = 0.05,
) -> Augmentation:
  """Affine map, brightness, contrast, noise: for characters, which a flip or a crop would change.

  Args:
    degrees: greatest angle either way.
    scale: least and greatest zoom, > 0.
    shear: greatest slant either way in degrees.
    translate: greatest shift either way, as a share of height and of width.
    brightness: strength, >= 0; see `jitter`.
    contrast: strength, >= 0.
    noise: standard deviation, >= 0.

  Returns:
    ``(key, image) -> image``, shape kept, in [0, 1]. What comes in from outside is black.
  """
  return compose(
    partial(affine, degrees=degrees, scale=scale, shear=shear, translate=translate),
    partial(jitter, brightness=brightness, contrast=contrast),
    partial(gaussian_noise, std=noise),
  )
