"""What pixels show: brightness, contrast, hue, blur and noise of one image in [0, 1].

Grey images ``[h, w, 1]`` pass everywhere; saturation, hue and greyscale leave them as they are.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from repjax.augment.geometry import check_image


def jitter(
  key: jax.Array,
  image: jax.Array,
  *,
  brightness: float = 0.0,
  contrast: float = 0.0,
  saturation: float = 0.0,
  hue: float = 0.0,
) -> jax.Array:
  """Changes brightness, contrast, saturation and hue by random factors in random order.

  Factors are uniform in ``[max(0, 1 - strength), 1 + strength]``, the hue's shift in
  ``[-hue, hue]``, as in torchvision's ``ColorJitter``.

  Args:
    key: for one image.
    image: ``[h, w, c]``, floating, in [0, 1], 1 or 3 channels.
    brightness: strength, >= 0.
    contrast: strength, >= 0.
    saturation: strength, >= 0.
    hue: greatest shift either way in turns of the colour circle, in [0, 0.5].

  Returns:
    Same shape as ``image``, in [0, 1]; ``image`` itself at strength 0.

  Raises:
    ValueError: if ``image`` is not one floating image of 1 or 3 channels, or a strength is outside
      its range.
  """
  strength = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
  for name, value in strength.items():
    if value < 0:
      raise ValueError(f"{name}={value} is negative; choose 0 for none")
  if not 0 <= hue <= 0.5:
    raise ValueError(f"hue={hue} is outside [0, 0.5]; choose 0 for none, 0.5 for any hue")
  u = jax.random.uniform(key, (8,))  # one call: it compiles and runs faster than several
  low = jnp.array([max(0.0, 1.0 - s) for s in strength.values()])
  high = jnp.array([1.0 + s for s in strength.values()])
  shift = (2 * u[3] - 1) * hue if hue else None
  return adjust_in_order(image, low + u[:3] * (high - low), shift, jnp.argsort(u[4:]))


def adjust_in_order(
  image: jax.Array, factors: jax.Array, shift: jax.Array | None, order: jax.Array
) -> jax.Array:
  """Adjusts brightness, contrast, saturation and hue in a given order.

  Args:
    image: ``[h, w, c]``, floating, in [0, 1], 1 or 3 channels.
    factors: ``[3]``, of brightness, contrast and saturation, >= 0.
    shift: of hue in turns, in [-0.5, 0.5]; hue is left alone if absent.
    order: ``[4]`` integers, a permutation of 0 (brightness), 1 (contrast), 2 (saturation) and
      3 (hue), first comes first.

  Returns:
    Same shape as ``image``, in [0, 1].

  Raises:
    ValueError: if ``image`` is not one floating image of 1 or 3 channels.
  """
  check_image(image)
  if image.shape[-1] == 1:
    shift, factors = None, factors.at[2].set(1)
  padded = jnp.append(factors, 1)  # what hue's own turn blends with

  def blends(image, slots, active):
    for slot in slots:
      kind, grey = order[slot], luma(image)
      towards = jnp.where(kind == 0, 0, jnp.where(kind == 1, jnp.mean(grey), grey))
      image = _blend(image, towards, jnp.where(active(slot), padded[kind], 1))
    return image

  if shift is None:
    return blends(image, range(4), lambda slot: True)
  # Hue costs more than the rest together and its turn differs between the images of a batch:
  # it is worked out once, between the blends that come before and those that come after. The
  # barriers hold XLA from fusing, and so repeating, the three parts.
  turn = jnp.argmax(order == 3)
  image = lax.optimization_barrier(blends(image, range(3), lambda slot: slot < turn))
  image = lax.optimization_barrier(adjust_hue(image, shift))
  return blends(image, range(1, 4), lambda slot: slot > turn)


def adjust_brightness(image: jax.Array, factor: jax.Array | float) -> jax.Array:
  """Multiplies by a factor.

  Args:
    image: ``[h, w, c]``, floating, in [0, 1].
    factor: 0 is black, 1 the image, above 1 brighter.

  Returns:
    Same shape as ``image``, clipped to [0, 1].
  """
  return _blend(image, 0.0, factor)


def adjust_contrast(image: jax.Array, factor: jax.Array | float) -> jax.Array:
  """Scales the distance from the mean luma.

  Args:
    image: ``[h, w, c]``, floating, in [0, 1], 1 or 3 channels.
    factor: 0 is flat grey, 1 the image, above 1 starker.

  Returns:
    Same shape as ``image``, clipped to [0, 1].
  """
  return _blend(image, jnp.mean(luma(image)), factor)


def adjust_saturation(image: jax.Array, factor: jax.Array | float) -> jax.Array:
  """Scales the distance from each pixel's luma.

  Args:
    image: ``[h, w, c]``, floating, in [0, 1], 1 or 3 channels.
    factor: 0 is grey, 1 the image, above 1 more vivid.

  Returns:
    Same shape as ``image``, clipped to [0, 1]; ``image`` itself if it is grey.
  """
  return image if image.shape[-1] == 1 else _blend(image, luma(image), factor)


def adjust_hue(image: jax.Array, shift: jax.Array | float) -> jax.Array:
  """Turns the colour circle.

  Args:
    image: ``[h, w, c]``, floating, in [0, 1], 1 or 3 channels.
    shift: in turns; a whole turn is none.

  Returns:
    Same shape as ``image``, in [0, 1]; ``image`` itself if it is grey.
  """
  if image.shape[-1] == 1:
    return image
  hsv = rgb_to_hsv(image)
  return hsv_to_rgb(jnp.concatenate([hsv[..., :1] + shift, hsv[..., 1:]], -1))


def rgb_to_hsv(image: jax.Array) -> jax.Array:
  """Red, green, blue to hue, saturation, value.

  Args:
    image: ``[..., 3]``, floating, in [0, 1].

  Returns:
    ``[..., 3]``: hue in turns in [0, 1), 0 for greys; saturation and value in [0, 1].

  References:
    Smith, `Color Gamut Transform Pairs <https://doi.org/10.1145/965139.807361>`_, 1978.
  """
  red, green, blue = image[..., 0], image[..., 1], image[..., 2]
  value = jnp.maximum(jnp.maximum(red, green), blue)
  chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
  per_chroma = 1 / jnp.where(chroma > 0, chroma, 1)
  hue = jnp.where(
    value == red,
    (green - blue) * per_chroma,
    jnp.where(value == green, 2 + (blue - red) * per_chroma, 4 + (red - green) * per_chroma),
  )
  hue = jnp.where(hue < 0, hue + 6, hue) / 6
  # A hue just under a whole turn rounds up to it.
  hue = jnp.where(hue >= 1, 0, hue)
  return jnp.stack([hue, chroma / jnp.where(value > 0, value, 1), value], -1)


def hsv_to_rgb(image: jax.Array) -> jax.Array:
  """Hue, saturation, value to red, green, blue.

  Each channel is ``value - value * saturation * clip(min(k, 4 - k), 0, 1)`` with
  ``k = (n + 6 hue) mod 6`` and ``n`` of 5, 3, 1 for red, green, blue.

  Args:
    image: ``[..., 3]``, floating: hue in turns, of any size; saturation and value in [0, 1].

  Returns:
    ``[..., 3]`` in [0, 1].

  References:
    Smith, `Color Gamut Transform Pairs <https://doi.org/10.1145/965139.807361>`_, 1978.
  """
  hue, saturation, value = image[..., 0], image[..., 1], image[..., 2]
  chroma = value * saturation

  def channel(n):
    turns = hue + n / 6
    k = 6 * (turns - jnp.floor(turns))
    return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

  return jnp.stack([channel(5), channel(3), channel(1)], -1)


def luma(image: jax.Array) -> jax.Array:
  """Perceived lightness, weighted as in ITU-R Rec. BT.601.

  Args:
    image: ``[..., c]``, floating, 1 or 3 channels.

  Returns:
    ``[..., 1]``; ``image`` itself if it has one channel.

  Raises:
    ValueError: for another number of channels.
  """
  if image.shape[-1] == 1:
    return image
  if image.shape[-1] != 3:
    raise ValueError(f"image has {image.shape[-1]} channels; colour is defined for 1 or 3")
  return 0.299 * image[..., :1] + 0.587 * image[..., 1:2] + 0.114 * image[..., 2:]


def greyscale(key: jax.Array, image: jax.Array, *, probability: float = 0.2) -> jax.Array:
  """Replaces every channel by the luma, sometimes.

  Args:
    key: for one image.
    image: ``[h, w, c]``, floating, in [0, 1], 1 or 3 channels.
    probability: of doing so, in [0, 1].

  Returns:
    Same shape as ``image``.

  Raises:
    ValueError: if ``image`` is not one floating image of 1 or 3 channels.
  """
  check_image(image)
  return jnp.where(jax.random.bernoulli(key, probability), luma(image), image)


def solarize(
  key: jax.Array, image: jax.Array, *, threshold: float = 0.5, probability: float = 0.2
) -> jax.Array:
  """Inverts what is bright, sometimes.

  Args:
    key: for one image.
    image: ``[h, w, c]``, floating, in [0, 1].
    threshold: the value from which on pixels are inverted.
    probability: of doing so, in [0, 1].

  Returns:
    Same shape as ``image``.

  Raises:
    ValueError: if ``image`` is not one floating image.

  References:
    Grill et al., `Bootstrap Your Own Latent <https://arxiv.org/abs/2006.07733>`_, 2020,
    appendix B.
  """
  check_image(image)
  inverted = jnp.where(image >= threshold, 1 - image, image)
  return jnp.where(jax.random.bernoulli(key, probability), inverted, image)


def gaussian_blur(
  key: jax.Array, image: jax.Array, *, kernel: int, sigma: tuple[float, float] = (0.1, 2.0)
) -> jax.Array:
  """Blurs with a Gaussian of random width; see `blur`.

  Args:
    key: for one image.
    image: ``[h, w, c]``, floating.
    kernel: taps on each axis, odd.
    sigma: least and greatest standard deviation in pixels, > 0.

  Returns:
    Same shape as ``image``, in the range of ``image``.

  Raises:
    ValueError: if ``image`` is not one floating image, ``kernel`` is not odd, or ``sigma`` is not
      an increasing pair.

  References:
    Chen et al., `A Simple Framework for Contrastive Learning of Visual Representations
    <https://arxiv.org/abs/2002.05709>`_, 2020, appendix A.
  """
  if not 0 < sigma[0] <= sigma[1]:
    raise ValueError(f"sigma={sigma} is not an increasing pair above 0; choose e.g. (0.1, 2.0)")
  drawn = jax.random.uniform(key, minval=sigma[0], maxval=sigma[1])
  return blur(image, drawn, kernel=kernel)


def blur(image: jax.Array, sigma: jax.Array | float, *, kernel: int) -> jax.Array:
  """Blurs with a truncated Gaussian; beyond the edge the image is mirrored.

  The mirror runs through the centre of the edge's pixels and does not repeat them: "reflect" to
  NumPy and PyTorch, "mirror" to SciPy.

  Args:
    image: ``[h, w, c]``, floating.
    sigma: standard deviation in pixels, > 0.
    kernel: taps on each axis, odd; 1 leaves the image as it is.

  Returns:
    Same shape as ``image``, in the range of ``image``.

  Raises:
    ValueError: if ``image`` is not one floating image or ``kernel`` is not odd.
  """
  check_image(image)
  if kernel < 1 or kernel % 2 == 0:
    raise ValueError(f"kernel={kernel} is not odd; choose {max(kernel - 1, 1)} or {kernel + 1}")
  offsets = jnp.arange(kernel, dtype=image.dtype) - kernel // 2
  weights = jax.nn.softmax(-0.5 * jnp.square(offsets / sigma))

  def matrix(side):
    source = np.pad(np.arange(side), kernel // 2, mode="reflect")
    window = source[np.arange(side)[:, None] + np.arange(kernel)]  # [side, kernel]
    taps = window[..., None] == np.arange(side)  # [side, kernel, side]
    return jnp.einsum("k,iks->is", weights, taps.astype(image.dtype), precision="highest")

  height, width, _ = image.shape
  return jnp.einsum("ih,hwc,jw->ijc", matrix(height), image, matrix(width), precision="highest")


def gaussian_noise(key: jax.Array, image: jax.Array, *, std: float) -> jax.Array:
  """Adds independent normal noise to every value.

  Args:
    key: for one image.
    image: ``[h, w, c]``, floating, in [0, 1].
    std: the noise's standard deviation, >= 0.

  Returns:
    Same shape as ``image``, clipped to [0, 1].

  Raises:
    ValueError: if ``image`` is not one floating image.
  """
  check_image(image)
  return jnp.clip(image + std * jax.random.normal(key, image.shape, image.dtype), 0, 1)


def _blend(image, towards, factor):
  return jnp.clip(factor * image + (1 - factor) * towards, 0, 1)
