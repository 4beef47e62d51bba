"""What families of vision transformers have in common: sizes, options, names, preprocessing."""

from typing import Any, NamedTuple

import jax

from repjax.encoders.vit import Size
from repjax.pretrained.preprocessing import IMAGENET
from repjax.pretrained.vit import TIMM, Names

# Sizes of timm's that several families have.
MEDIUM, MEDIUM_D = Size(512, 12, 8, 2048), Size(512, 20, 8, 2048)
BETWIXT, GIANT_GATED = Size(640, 12, 10, 2560), Size(1536, 40, 24, 4096)


class Style(NamedTuple):
  """What a family of models has in common.

  Attributes:
    options: fields of `ViT`.
    names: of its tensors.
    preprocessing: without the size.
  """

  options: dict[str, Any]
  names: Names
  preprocessing: dict[str, Any]


def style(
  names: Names = TIMM,
  statistics: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET,
  crop: float = 0.9,
  squash: bool = False,
  filter: str = "bicubic",
  **options: Any,
) -> Style:
  """A style.

  Args:
    names: of its tensors.
    statistics: mean and standard deviation of each channel.
    crop: see `Preprocessing`.
    squash: see `Preprocessing`.
    filter: see `Preprocessing`.
    **options: fields of `ViT`.

  Returns:
    The style.
  """
  mean, std = statistics
  how = {"mean": mean, "std": std, "crop": crop, "squash": squash, "filter": filter}
  return Style(options, names, how)


def but(style: Style, names: Names | None = None, **changes: Any) -> Style:
  """A style with other names, options or preprocessing.

  Args:
    style: the one to change.
    names: other names of tensors; its own if absent.
    **changes: fields of `ViT` or of `Preprocessing`.

  Returns:
    The other style.
  """
  how = {k: v for k, v in changes.items() if k in style.preprocessing}
  options = {k: v for k, v in changes.items() if k not in how}
  return Style(style.options | options, names or style.names, style.preprocessing | how)


def gated(style: Style) -> Style:
  """The style with SwiGLU."""
  return but(style, gated=True, activation=jax.nn.silu)


class Entry(NamedTuple):
  """A model: its family, its shape, the sides of a patch and of an image in pixels."""

  style: Style
  size: Size
  patch: int
  image: int
