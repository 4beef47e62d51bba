"""The augmentations of `repjax.augment` in PyTorch: a batch at a time, on the device.

Written for the benchmark, as fast as we know how: crops and blurs are products with small matrices,
every image has draws of its own. Of what users have at hand, torchvision's transforms draw once for
a batch, and Kornia's crops sample without antialiasing and jitter a whole batch in one order.
"""

import math

import numpy as np
import torch

HUE = 3  # the place of hue among brightness, contrast, saturation and hue


def to_float(image):
  """Bytes ``[batch, height, width, channels]`` to ``[batch, channels, ...]`` in [0, 1]."""
  return image.permute(0, 3, 1, 2).float() / 255


def normalize(image, mean, std):
  """Subtracts a mean and divides by a deviation, channel by channel."""
  shape = (1, -1, 1, 1)
  mean, std = (torch.tensor(x, device=image.device).reshape(shape) for x in (mean, std))
  return (image - mean) / std


def random_boxes(batch, side, area, device):
  """Top, left, height and width of Inception's crops, each ``[batch]``; see `random_box`."""
  u = torch.rand(batch, 22, device=device)
  pixels = side * side * (area[0] + u[:, :10] * (area[1] - area[0]))
  low, high = math.log(3 / 4), math.log(4 / 3)
  ratio = torch.exp(low + u[:, 10:20] * (high - low))
  sides = torch.stack([(pixels / ratio).sqrt(), (pixels * ratio).sqrt()], -1)
  fits = (sides <= side).all(-1)
  first = sides[torch.arange(batch, device=device), fits.int().argmax(1)]
  some = fits.any(1, keepdim=True)
  chosen = torch.where(some, first, torch.full_like(first, side))
  corner = torch.where(some, u[:, 20:], 0.5) * (side - chosen)
  return *corner.unbind(1), *chosen.unbind(1)


def crop_and_resize(image, top, left, height, width, size):
  """Resamples boxes to squares, bilinearly and with antialiasing."""

  def matrix(start, length, before):
    reach = (length / size).clamp(min=1)[:, None, None]
    at = torch.arange(size, device=image.device) + 0.5
    at = start[:, None] + at * (length / size)[:, None] - 0.5
    distance = (at[..., None] - torch.arange(before, device=image.device)).abs() / reach
    weight = (1 - distance).clamp(min=0)
    return weight / weight.sum(-1, keepdim=True)  # [batch, size, before]

  rows, columns = (
    matrix(start, length, before)
    for start, length, before in ((top, height, image.shape[2]), (left, width, image.shape[3]))
  )
  return torch.einsum("bih,bchw,bjw->bcij", rows, image, columns)


def chosen(probability, changed, image):
  """Takes each image changed with some probability."""
  gate = torch.rand(len(image), 1, 1, 1, device=image.device) < probability
  return torch.where(gate, changed, image)


def random_crop_flip(image, *, area):
  """Crop and flip of `repjax.augment.crop_flip`."""
  boxes = random_boxes(len(image), image.shape[2], area, image.device)
  image = crop_and_resize(image, *boxes, image.shape[2])
  return chosen(0.5, image.flip(3), image)


def luma(image):
  """Perceived lightness, ``[batch, 1, height, width]``."""
  red, green, blue = image.split(1, 1)
  return 0.299 * red + 0.587 * green + 0.114 * blue


def adjust_in_order(image, factors, shift, order):
  """Brightness, contrast, saturation (``factors [batch, 3]``) and hue in each image's order."""
  turn = (order == HUE).int().argmax(1)
  padded = torch.cat([factors, torch.ones_like(factors[:, :1])], 1)

  def blends(image, slots, active):
    for slot in slots:
      kind = order[:, slot].reshape(-1, 1, 1, 1)
      grey = luma(image)
      towards = torch.where(kind == 1, grey.mean((2, 3), keepdim=True), grey)
      towards = torch.where(kind == 0, 0.0, towards)
      factor = padded.gather(1, order[:, slot : slot + 1]).reshape(-1, 1, 1, 1)
      factor = torch.where(active(slot).reshape(-1, 1, 1, 1), factor, 1.0)
      image = (factor * image + (1 - factor) * towards).clamp(0, 1)
    return image

  image = blends(image, range(3), lambda slot: slot < turn)
  image = adjust_hue(image, shift.reshape(-1, 1, 1))
  return blends(image, range(1, 4), lambda slot: slot > turn)


def adjust_hue(image, shift):
  """Turns the colour circle by ``shift`` turns, through hue, saturation and value."""
  red, green, blue = image.unbind(1)
  value = image.amax(1)
  chroma = value - image.amin(1)
  safe = torch.where(chroma > 0, chroma, 1.0)
  hue = torch.where(
    value == red,
    (green - blue) / safe,
    torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
  )
  hue = hue / 6 + shift

  def channel(n):
    k = 6 * torch.remainder(hue + n / 6, 1)
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)

  return torch.stack([channel(5), channel(3), channel(1)], 1)


def blur(image, sigma, kernel):
  """Gaussian blur, mirrored at the edge; ``sigma [batch]``."""
  offsets = torch.arange(kernel, device=image.device) - kernel // 2
  weights = torch.softmax(-0.5 * (offsets / sigma[:, None]) ** 2, -1)

  def matrix(side):
    source = np.pad(np.arange(side), kernel // 2, mode="reflect")
    window = source[np.arange(side)[:, None] + np.arange(kernel)]
    taps = torch.from_numpy(window[..., None] == np.arange(side)).float().to(image.device)
    return torch.einsum("bk,iks->bis", weights, taps)

  rows, columns = matrix(image.shape[2]), matrix(image.shape[3])
  return torch.einsum("bih,bchw,bjw->bcij", rows, image, columns)


def simclr_view(image, *, area, strength, blurred):
  """One view of `repjax.augment.simclr_augment`."""
  batch, device = len(image), image.device
  image = random_crop_flip(image, area=area)
  u = torch.rand(batch, 9, device=device)
  factors = 1 + (2 * u[:, :3] - 1) * 0.8 * strength
  shift = (2 * u[:, 3] - 1) * 0.2 * strength
  image = chosen(0.8, adjust_in_order(image, factors, shift, u[:, 4:8].argsort(1)), image)
  image = chosen(0.2, luma(image).expand_as(image), image)
  if blurred:
    sigma = 0.1 + u[:, 8] * 1.9
    image = chosen(0.5, blur(image, sigma, 2 * (image.shape[2] // 20) + 1), image)
  return image


def largest_difference(images):
  """What the two sides make of the same draws.

  Args:
    images: NumPy bytes ``[batch, height, width, 3]``.

  Returns:
    The largest difference of a value in [0, 1], by augmentation.
  """
  import jax
  import jax.numpy as jnp

  from repjax import augment

  rng = np.random.default_rng(1)
  count, side = images.shape[:2]
  draw = lambda low, high, *shape: rng.uniform(low, high, (count, *shape)).astype(np.float32)
  box = np.stack([draw(0, side / 4), draw(0, side / 4), draw(3, 0.7 * side), draw(3, 0.7 * side)])
  factors, shift, sigma = draw(0.2, 1.8, 3), draw(-0.2, 0.2), draw(0.1, 2.0)
  order = np.argsort(draw(0, 1, 4), 1)
  kernel = 2 * (side // 20) + 1

  ours = augment.to_float(jnp.asarray(images))
  theirs = to_float(torch.from_numpy(images))
  tensors = [torch.from_numpy(x) for x in (factors, shift, order)]
  pairs = {
    "crop": (
      jax.vmap(lambda x, b: augment.crop_and_resize(x, *b, side))(ours, box.T),
      crop_and_resize(theirs, *torch.from_numpy(box), side),
    ),
    "colour": (
      jax.vmap(augment.adjust_in_order)(ours, factors, shift, order),
      adjust_in_order(theirs, *tensors),
    ),
    "blur": (
      jax.vmap(lambda x, s: augment.blur(x, s, kernel=kernel))(ours, sigma),
      blur(theirs, torch.from_numpy(sigma), kernel),
    ),
  }
  return {
    name: float(np.abs(np.asarray(a) - b.permute(0, 2, 3, 1).numpy()).max())
    for name, (a, b) in pairs.items()
  }
