"""Views of images, as flags describe them."""

import functools

from absl import flags

from experiments.setup import Setup
from repjax.augment import (
  Augmentation,
  affine_augment,
  compose,
  crop_flip,
  random_resized_crop,
  simclr_augment,
)
from repjax.learners import Crops
from repjax.train.launch import Settings

flags.DEFINE_enum("augment", None, ["affine", "simclr"], "Views; affine for grey images if absent.")
flags.DEFINE_float("colour", 0.5, "Strength of colour jitter, for --augment=simclr.")
flags.DEFINE_integer("local_crops", 0, "Small crops an image, beside two large ones.")
flags.DEFINE_integer("local_size", None, "Side of small crops in pixels; half a large one's.")


def strong(
  settings: Settings, setup: Setup, size: int | None = None, area: tuple[float, float] | None = None
) -> Augmentation:
  """One view: crops and colours, or affine maps for characters."""
  size = size or setup.image_size
  if (settings.augment or ("affine" if setup.channels == 1 else "simclr")) == "affine":
    view = affine_augment(
      degrees=25,
      scale=(0.75, 1.25),
      shear=20,
      translate=0.15,
      brightness=0.2,
      contrast=0.2,
      noise=0.1,
    )
    if area is None:
      return view
    return compose(functools.partial(random_resized_crop, size=size, area=area), view)
  return simclr_augment(
    size,
    strength=settings.colour,
    blur=setup.image_size > 64,
    min_area=area[0] if area else settings.min_area or 0.2,
    max_area=area[1] if area else 1.0,
  )


def multi_crop(settings: Settings, setup: Setup) -> list[Crops]:
  """Two large crops and, if asked for, some small ones."""
  crops = [Crops(strong(settings, setup), 2)]
  if settings.local_crops:
    size = settings.local_size or setup.image_size // 2
    crops.append(Crops(strong(settings, setup, size, (0.05, 0.4)), settings.local_crops))
  return crops


def light(settings: Settings, setup: Setup) -> Augmentation:
  """The light augmentation of masked learners."""
  if setup.channels == 1:
    return affine_augment(brightness=0, contrast=0, noise=0)
  return crop_flip(setup.image_size, min_area=settings.min_area or 0.67)
