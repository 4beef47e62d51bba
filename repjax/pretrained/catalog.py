"""timm's models by name: their shape, their names of tensors, their preprocessing."""

import difflib
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from repjax.encoders import DEPTHS, ViT, convnext, crossvit, mobilenet, resnet, swin, tnt
from repjax.pretrained.crossvit import crossvit_rules
from repjax.pretrained.eva import EVA_VITS
from repjax.pretrained.hierarchical import (
  TIMM_CONVNEXT,
  TIMM_RESNET,
  TIMM_SWIN,
  convnext_rules,
  resnet_rules,
  swin_rules,
)
from repjax.pretrained.mobilenet import mobilenet_rules
from repjax.pretrained.plain import PLAIN_VITS
from repjax.pretrained.preprocessing import HALF, IMAGENET, Preprocessing
from repjax.pretrained.tags import TAGS
from repjax.pretrained.tnt import tnt_rules
from repjax.pretrained.vit import vit_rules
from repjax.trees import Rule


class Model(NamedTuple):
  """An encoder as another library has it, without its weights.

  Attributes:
    encoder: the module.
    rules: where each tensor belongs.
    preprocessing: of its images.
    prefixes: of which one may stand before all names, the longest first.
    unused: patterns of tensors that may be there and are not asked for: heads, decoders, counters.
  """

  encoder: Any
  rules: Sequence[Rule]
  preprocessing: Preprocessing
  prefixes: tuple[str, ...] = ()
  unused: tuple[str, ...] = ()


#: timm's names. What stands behind a dot is timm's tag, for weights that were trained otherwise
#: than the name alone says; other tags may stand there.
TIMM_VITS = PLAIN_VITS | EVA_VITS
# Heads, decoders and tables that are computed, in files of timm's and of the authors.
_UNUSED = (r"head\..*", r"head_dist\..*", r"fc_norm\..*", r"mask_token", r"decoder.*")
# The frequencies of mixed rotary positions are learned, and asked for where they are.
_BUFFERS = (r".*relative_position_index", r".*k_bias", r".*rope\.(?!freqs$).*", r".*periods")


# What stands before the names in checkpoints of pretraining.
_PREFIXES = ("module.", "backbone.", "module.backbone.", "encoder.", "visual.trunk.")


def timm_vit(name: str) -> Model:
  """A vision transformer by timm's name.

  Args:
    name: a key of `TIMM_VITS`.

  Returns:
    The model, without weights.
  """
  entry = TIMM_VITS[name]
  options = dict(entry.style.options)
  if options["positions"] == "learned":
    options["image_size"] = divided(entry.image, entry.patch)
  encoder = ViT(entry.patch, *entry.size, **options)
  return Model(
    encoder,
    vit_rules(encoder, entry.style.names),
    Preprocessing(
      entry.image, **entry.style.preprocessing, corner=divided(entry.image, entry.patch)
    ),
    prefixes=_PREFIXES,
    unused=_UNUSED + _BUFFERS,
  )


def _resnet(name, crop=0.95, kind="bicubic"):
  encoder = resnet(name)
  how = Preprocessing(224, crop, filter=kind)
  return Model(encoder, resnet_rules(encoder, TIMM_RESNET), how, _PREFIXES, _COUNTERS)


def _convnext(name):
  encoder = convnext(name)
  how = Preprocessing(224, 0.875)
  return Model(encoder, convnext_rules(encoder, TIMM_CONVNEXT), how, _PREFIXES, _CLASSIFIER)


def _swin(name, window=7, image=224):
  encoder = swin(name, window=window)
  how = Preprocessing(image, 0.9 if image == 224 else 1.0)
  unused = (*_CLASSIFIER, r".*relative_position_index", r".*attn_mask")
  return Model(encoder, swin_rules(encoder, TIMM_SWIN), how, _PREFIXES, unused)


def _crossvit(name, image=240, other=224, crop=0.875):
  encoder = crossvit(name, image_size=(image, other))
  how = Preprocessing(image, crop)
  return Model(encoder, crossvit_rules(encoder), how, _PREFIXES, (r"head\.\d\..*",))


def _tnt(name):
  encoder = tnt(name, image_size=224)
  how = Preprocessing(224, 0.9, *HALF)
  return Model(encoder, tnt_rules(encoder), how, _PREFIXES, (r"head\..*",))


def _mobilenet(name, multiplier, crop=0.875, statistics=IMAGENET):
  encoder = mobilenet(name, multiplier=multiplier)
  how = Preprocessing(224, crop, *statistics)
  unused = (r"classifier\..*", r".*num_batches_tracked")
  return Model(encoder, mobilenet_rules(encoder), how, _PREFIXES, unused)


_COUNTERS = (r"fc\..*", r".*num_batches_tracked")
_CLASSIFIER = (r"head\.fc\..*",)
_SIZED = {"tiny": "t", "small": "s", "base": "b", "large": "l"}

#: The rest of timm's names that are known here, each with what makes the model.
TIMM_OTHERS = {
  **{name: functools.partial(_resnet, name) for name in DEPTHS},
  **{f"{name}.tv_in1k": functools.partial(_resnet, name, 0.875, "bilinear") for name in DEPTHS},
  **{
    f"convnext_{size}": functools.partial(_convnext, f"convnext_{letter}")
    for size, letter in (_SIZED | {"xlarge": "xl"}).items()
  },
  **{
    f"convnextv2_{size}": functools.partial(_convnext, f"convnextv2_{size[0]}")
    for size in ("atto", "femto", "pico", "nano", "tiny", "base", "large", "huge")
  },
  **{
    f"swin_{size}_patch4_window7_224": functools.partial(_swin, f"swin_{letter}")
    for size, letter in _SIZED.items()
  },
  **{
    f"swin_{size}_patch4_window12_384": functools.partial(_swin, f"swin_{size[0]}", 12, 384)
    for size in ("base", "large")
  },
  **{
    f"crossvit_{size}_240": functools.partial(_crossvit, f"crossvit_{name}")
    for size, name in (("tiny", "ti"), ("small", "s"), ("base", "b"))
  },
  **{
    f"crossvit_{size}_240": functools.partial(_crossvit, f"crossvit_{size}")
    for size in ("9", "15", "18", "9_dagger", "15_dagger", "18_dagger")
  },
  **{
    f"crossvit_{size}_408": functools.partial(_crossvit, f"crossvit_{size}", 408, 384, 1.0)
    for size in ("15_dagger", "18_dagger")
  },
  **{f"tnt_{size}_patch16_224": functools.partial(_tnt, f"tnt_{size}") for size in "sb"},
  "mobilenetv1_100": functools.partial(_mobilenet, "mobilenet_v1", 1.0, statistics=HALF),
  "mobilenetv1_125": functools.partial(_mobilenet, "mobilenet_v1", 1.25, 0.9, HALF),
  **{
    f"mobilenetv2_{percent}": functools.partial(_mobilenet, "mobilenet_v2", int(percent) / 100)
    for percent in ("050", "100", "140")
  },
}


def timm_model(name: str) -> Model:
  """A model by timm's name.

  Args:
    name: a key of `TIMM_VITS` or `TIMM_OTHERS`; another tag may follow behind a dot.

  Returns:
    The model, without weights.

  Raises:
    ValueError: if there is none of this name; the nearest are named.
  """
  for known in (name, name.partition(".")[0]):
    if known in TIMM_VITS or known in TIMM_OTHERS:
      model = timm_vit(known) if known in TIMM_VITS else TIMM_OTHERS[known]()
      return model._replace(preprocessing=model.preprocessing._replace(**TAGS.get(name, {})))
  names = [*TIMM_VITS, *TIMM_OTHERS]
  near = difflib.get_close_matches(name, names, 3, 0.4) or names[:3]
  raise ValueError(f"{name!r} is not a model of timm's known here; try {', '.join(near)}")


def divided(size: int, patch: int) -> int:
  """The largest multiple of a patch in an image: what a strided convolution sees."""
  return size // patch * patch
