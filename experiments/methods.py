"""Methods of pretraining by name, as flags describe them."""

import functools
from collections.abc import Sequence

from absl import flags

from experiments import reconstructions
from experiments.setup import Method, Setup, whole_numbers
from repjax import learners
from repjax.augment import Augmentation, affine_augment, compose, crop_flip, simclr_augment
from repjax.augment import random_resized_crop as crop
from repjax.encoders import MLP, Prototypes
from repjax.encoders.transformer import gelu
from repjax.learners import Crops, Objective, rising_momentum
from repjax.train.launch import Settings

# --- views ----------------------------------------------------------------------------------------
flags.DEFINE_enum("augment", None, ["affine", "simclr"], "Views; affine for grey images if absent.")
flags.DEFINE_float("colour", 0.5, "Strength of colour jitter, for --augment=simclr.")
flags.DEFINE_integer("local_crops", 0, "Small crops an image, beside two large ones.")
flags.DEFINE_integer("local_size", None, "Side of small crops in pixels; half a large one's.")
# --- heads and losses; what is absent is the method's ---------------------------------------------
flags.DEFINE_list("projector", None, "Widths of the projector's layers.")
flags.DEFINE_enum("projector_norm", None, ["none", "batch", "layer"], "Between its layers.")
flags.DEFINE_list("predictor", None, "Widths of the predictor's layers.")
flags.DEFINE_float("temperature", None, "Of the softmax.", lower_bound=0)
flags.DEFINE_float("teacher_momentum", None, "Of the teacher in the beginning.", lower_bound=0)
flags.DEFINE_integer("queue", None, "Embeddings kept from earlier batches.", lower_bound=1)
flags.DEFINE_integer("prototypes", None, "Number of prototypes.", lower_bound=1)
flags.DEFINE_float("label_smoothing", 0.0, "Share of the target spread over all classes.")
# --- masks ----------------------------------------------------------------------------------------
flags.DEFINE_float("ratio", 0.6, "Share of the image that is hidden.", lower_bound=0, upper_bound=1)
flags.DEFINE_integer("unit", 1, "Side of a hidden square in patches.", lower_bound=1)


def simclr(settings: Settings, setup: Setup) -> Objective:
  """Two views agree, all others differ."""
  return learners.simclr(
    setup.encoder,
    _mlp(settings, setup, (128, 64), None),
    _view(settings, setup),
    temperature=settings.temperature or 0.2,
    **_shared(setup),
  )


def moco(settings: Settings, setup: Setup) -> Objective:
  """The teacher's key out of a queue."""
  return learners.moco(
    setup.encoder,
    _mlp(settings, setup, (128, 64), None),
    _view(settings, setup),
    momentum=settings.teacher_momentum or 0.99,
    queue_size=settings.queue or 4096,
    temperature=settings.temperature or 0.2,
    **_shared(setup),
  )


def moco_v3(settings: Settings, setup: Setup) -> Objective:
  """The teacher's key out of the batch, by a predictor."""
  return learners.moco_v3(
    setup.encoder,
    *_mlp_and_predictor(settings, setup),
    _view(settings, setup),
    momentum=_momentum(settings, setup, 0.99),
    temperature=settings.temperature or 0.2,
    **_shared(setup),
  )


def byol(settings: Settings, setup: Setup) -> Objective:
  """The teacher's projection, by a predictor."""
  return learners.byol(
    setup.encoder,
    *_mlp_and_predictor(settings, setup),
    _view(settings, setup),
    momentum=_momentum(settings, setup, 0.99),
    **_shared(setup),
  )


def dino(settings: Settings, setup: Setup) -> Objective:
  """The teacher's prototypes."""
  head = Prototypes(
    settings.prototypes or 1024, _mlp(settings, setup, (256, 64), None, activation=gelu)
  )
  return learners.dino(
    setup.encoder,
    head,
    _crops(settings, setup),
    momentum=_momentum(settings, setup, 0.99),
    student_temperature=settings.temperature or 0.1,
    **_shared(setup),
  )


def simmim(settings: Settings, setup: Setup) -> Objective:
  """Pixels of hidden patches."""
  return learners.simmim(
    setup.encoder,
    _masked_view(settings, setup),
    patch_size=setup.encoder.patch_size,
    ratio=settings.ratio,
    unit=settings.unit,
    **_shared(setup),
  )


def supervised(settings: Settings, setup: Setup) -> Objective:
  """Labels."""
  if setup.channels == 1:
    view = affine_augment()
  else:
    view = crop_flip(setup.image_size, min_area=settings.min_area or 0.5)
  return learners.supervised(
    setup.encoder,
    len(setup.classes),
    view,
    label_smoothing=settings.label_smoothing,
    **_shared(setup),
  )


_LISTED = (
  Method(
    "simclr", simclr, stem="conv", launcher="simclr", next_command="python -m experiments.simmim"
  ),
  Method("moco", moco, stem="conv"),
  Method("moco_v3", moco_v3, stem="conv"),
  Method("byol", byol, stem="conv"),
  Method("dino", dino, stem="conv"),
  Method(
    "simmim",
    simmim,
    views=1,
    launcher="simmim",
    next_command="python -m experiments.supervised",
    reconstruct=reconstructions.of_simmim,
  ),
  Method(
    "supervised",
    supervised,
    labels=True,
    views=1,
    launcher="supervised",
    next_command="python -m experiments.simclr",
  ),
)

#: What ``--method`` names.
METHODS = {method.name: method for method in _LISTED}


def _shared(setup: Setup) -> dict:
  return {"normalize": setup.normalize, "axis_name": setup.axis_name}


def _mlp(settings: Settings, setup: Setup, dims: Sequence[int], norm: str | None, **options) -> MLP:
  """The projector: the method's, or the flags'."""
  if settings.projector is not None:
    dims = whole_numbers("projector", settings.projector)
  norm = settings.projector_norm or norm
  return MLP(
    dims,
    norm=None if norm == "none" else norm,
    axis_name=setup.axis_name,
    dtype=setup.dtype,
    **options,
  )


def _mlp_and_predictor(settings: Settings, setup: Setup) -> tuple[MLP, MLP]:
  """BYOL's two heads, at a width for small images."""
  projector = _mlp(settings, setup, (256, 64), "batch")
  dims = (projector.dims[0], projector.dims[-1])
  if settings.predictor is not None:
    dims = whole_numbers("predictor", settings.predictor)
  return projector, MLP(dims, norm="batch", axis_name=setup.axis_name, dtype=setup.dtype)


def _momentum(settings: Settings, setup: Setup, start: float):
  return rising_momentum(settings.teacher_momentum or start, setup.steps)


def _view(
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
    return compose(functools.partial(crop, size=size, area=area), view)
  return simclr_augment(
    size,
    strength=settings.colour,
    blur=setup.image_size > 64,
    min_area=area[0] if area else settings.min_area or 0.2,
    max_area=area[1] if area else 1.0,
  )


def _crops(settings: Settings, setup: Setup) -> list[Crops]:
  """Two large crops and, if asked for, some small ones."""
  crops = [Crops(_view(settings, setup), 2)]
  if settings.local_crops:
    size = settings.local_size or setup.image_size // 2
    crops.append(Crops(_view(settings, setup, size, (0.05, 0.4)), settings.local_crops))
  return crops


def _masked_view(settings: Settings, setup: Setup) -> Augmentation:
  """The light augmentation of masked learners."""
  if not settings.encoder.startswith("vit"):
    raise ValueError(
      f"--encoder={settings.encoder} has no patches to hide; choose a ViT, such as vit_b16"
    )
  if setup.channels == 1:
    return affine_augment(brightness=0, contrast=0, noise=0)
  return crop_flip(setup.image_size, min_area=settings.min_area or 0.67)
