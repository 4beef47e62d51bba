"""Methods of pretraining by name, as flags describe them."""

from collections.abc import Sequence

from absl import flags

from experiments import reconstructions, views
from experiments.reconstructions import token_predictor
from experiments.setup import Method, Setup, whole_numbers
from repjax import learners
from repjax.augment import affine_augment, crop_flip
from repjax.encoders import MLP, Prototypes, ViT
from repjax.encoders.transformer import gelu
from repjax.learners import Crops, Objective, rising_momentum, rising_temperature
from repjax.train.launch import Settings

# Heads and numbers of losses; what is absent is the method's, at a size for small images.
flags.DEFINE_list("projector", None, "Widths of the projector's layers.")
flags.DEFINE_enum("projector_norm", None, ["none", "batch", "layer"], "Between its layers.")
flags.DEFINE_list("predictor", None, "Widths of the predictor's layers.")
flags.DEFINE_float("temperature", None, "Of the softmax, the student's.", lower_bound=0)
flags.DEFINE_float("teacher_momentum", None, "Of the teacher in the beginning.", lower_bound=0)
flags.DEFINE_integer("queue", None, "Embeddings kept from earlier batches.", lower_bound=1)
flags.DEFINE_integer("prototypes", None, "Number of prototypes or words.", lower_bound=1)
flags.DEFINE_float("label_smoothing", 0.0, "Share of the target spread over all classes.")
flags.DEFINE_float("ratio", None, "Share of the image to hide.", lower_bound=0, upper_bound=1)
flags.DEFINE_integer("unit", 1, "Side of a hidden square in patches.", lower_bound=1)

# --- two views: contrast --------------------------------------------------------------------------


def simclr(settings: Settings, setup: Setup) -> Objective:
  """Two views agree, all others differ."""
  return learners.simclr(
    setup.encoder,
    _projector(settings, setup, (128, 64), None),
    views.strong(settings, setup),
    temperature=settings.temperature or 0.2,
    **_shared(setup),
  )


def llave(settings: Settings, setup: Setup) -> Objective:
  """SimCLR's pairs, hard negatives heavier."""
  return learners.llave(
    setup.encoder,
    _projector(settings, setup, (128, 64), None),
    views.strong(settings, setup),
    temperature=settings.temperature or 0.2,
    **_shared(setup),
  )


def sup_con(settings: Settings, setup: Setup) -> Objective:
  """Images of a class agree."""
  return learners.sup_con(
    setup.encoder,
    _projector(settings, setup, (128, 64), None),
    views.strong(settings, setup),
    temperature=settings.temperature or 0.1,
    **_shared(setup),
  )


def moco(settings: Settings, setup: Setup) -> Objective:
  """The teacher's key out of a queue."""
  return learners.moco(
    setup.encoder,
    _projector(settings, setup, (128, 64), None),
    views.strong(settings, setup),
    momentum=settings.teacher_momentum or 0.99,
    queue_size=settings.queue or 4096,
    temperature=settings.temperature or 0.2,
    **_shared(setup),
  )


def moco_v3(settings: Settings, setup: Setup) -> Objective:
  """The teacher's key out of the batch, by a predictor."""
  return learners.moco_v3(
    setup.encoder,
    *_projector_and_predictor(settings, setup),
    views.strong(settings, setup),
    momentum=_momentum(settings, setup, 0.99),
    temperature=settings.temperature or 0.2,
    **_shared(setup),
  )


def nnclr(settings: Settings, setup: Setup) -> Objective:
  """The nearest of a queue, by a predictor."""
  return learners.nnclr(
    setup.encoder,
    *_projector_and_predictor(settings, setup),
    views.strong(settings, setup),
    queue_size=settings.queue or 4096,
    temperature=settings.temperature or 0.1,
    **_shared(setup),
  )


# --- two views: no negatives ----------------------------------------------------------------------


def byol(settings: Settings, setup: Setup) -> Objective:
  """The teacher's projection, by a predictor."""
  return learners.byol(
    setup.encoder,
    *_projector_and_predictor(settings, setup),
    views.strong(settings, setup),
    momentum=_momentum(settings, setup, 0.99),
    **_shared(setup),
  )


def simsiam(settings: Settings, setup: Setup) -> Objective:
  """The other view's projection, by a predictor with a bottleneck."""
  projector = _projector(settings, setup, (256, 256, 256), "batch", norm_last=True, bias_last=False)
  return learners.simsiam(
    setup.encoder,
    projector,
    _predictor(settings, setup, (projector.dims[-1] // 4, projector.dims[-1])),
    views.strong(settings, setup),
    **_shared(setup),
  )


def barlow_twins(settings: Settings, setup: Setup) -> Objective:
  """Dimensions of two views correlate with themselves alone."""
  return learners.barlow_twins(
    setup.encoder,
    _projector(settings, setup, (512, 512, 512), "batch", bias_last=False),
    views.strong(settings, setup),
    **_shared(setup),
  )


def vicreg(settings: Settings, setup: Setup) -> Objective:
  """Views agree, dimensions vary and do not covary."""
  return learners.vicreg(
    setup.encoder,
    _projector(settings, setup, (512, 512, 512), "batch", bias_last=False),
    views.strong(settings, setup),
    **_shared(setup),
  )


def lejepa(settings: Settings, setup: Setup) -> Objective:
  """Views agree, embeddings are normal."""
  return learners.lejepa(
    setup.encoder,
    _projector(settings, setup, (512, 512, 64), "batch"),
    views.multi_crop(settings, setup),
    slices=256,
    **_shared(setup),
  )


# --- prototypes -----------------------------------------------------------------------------------


def swav(settings: Settings, setup: Setup) -> Objective:
  """The other view's balanced assignment."""
  return learners.swav(
    setup.encoder,
    _projector(settings, setup, (256, 64), "batch"),
    Prototypes(settings.prototypes or 512),
    views.multi_crop(settings, setup),
    temperature=settings.temperature or 0.1,
    queue_size=settings.queue or 0,
    **_shared(setup),
  )


def dino(settings: Settings, setup: Setup) -> Objective:
  """The teacher's prototypes."""
  return learners.dino(
    setup.encoder,
    _prototypes(settings, setup),
    views.multi_crop(settings, setup),
    **_distilled(settings, setup),
  )


def ibot(settings: Settings, setup: Setup) -> Objective:
  """The teacher's prototypes, of images and of hidden patches."""
  return learners.ibot(
    _vit(settings, setup),
    _prototypes(settings, setup),
    views.multi_crop(settings, setup),
    patch_size=setup.encoder.patch_size,
    **_distilled(settings, setup),
  )


def dinov2(settings: Settings, setup: Setup) -> Objective:
  """The teacher's balanced prototypes, of images and of hidden patches, and embeddings apart."""
  return learners.dinov2(
    _vit(settings, setup),
    _prototypes(settings, setup),
    _prototypes(settings, setup),
    views.multi_crop(settings, setup),
    patch_size=setup.encoder.patch_size,
    **_distilled(settings, setup),
  )


def msn(settings: Settings, setup: Setup) -> Objective:
  """The teacher's prototypes of a whole view, from a part of another."""
  large, *small = views.multi_crop(settings, setup)
  return learners.msn(
    _vit(settings, setup),
    _projector(settings, setup, (256, 256, 64), "batch"),
    [Crops(large.augment, 1), *small],
    large.augment,
    patch_size=setup.encoder.patch_size,
    prototypes=settings.prototypes or 512,
    ratio=0.15 if settings.ratio is None else settings.ratio,
    momentum=_momentum(settings, setup, 0.99),
    temperature=settings.temperature or 0.1,
    **_shared(setup),
  )


def obow(settings: Settings, setup: Setup) -> Objective:
  """The whole image's visual words."""
  return learners.obow(
    setup.encoder,
    views.multi_crop(settings, setup),
    views.light(settings, setup),
    words=settings.prototypes or 1024,
    momentum=_momentum(settings, setup, 0.99),
    border=0,
    **_shared(setup),
  )


# --- parts of an image ----------------------------------------------------------------------------


def simmim(settings: Settings, setup: Setup) -> Objective:
  """Pixels of hidden patches, from all places."""
  return learners.simmim(
    _vit(settings, setup),
    views.light(settings, setup),
    patch_size=setup.encoder.patch_size,
    ratio=0.6 if settings.ratio is None else settings.ratio,
    unit=settings.unit,
    **_shared(setup),
  )


def mae(settings: Settings, setup: Setup) -> Objective:
  """Pixels of hidden patches, from those that are seen."""
  encoder = _vit(settings, setup)
  return learners.mae(
    encoder,
    reconstructions.mae_decoder(setup),
    views.light(settings, setup),
    patch_size=encoder.patch_size,
    ratio=0.75 if settings.ratio is None else settings.ratio,
    **_shared(setup),
  )


def data2vec(settings: Settings, setup: Setup) -> Objective:
  """The teacher's layers at hidden places."""
  encoder = _vit(settings, setup)
  return learners.data2vec(
    encoder,
    MLP((encoder.dim,), dtype=setup.dtype),
    views.light(settings, setup),
    patch_size=encoder.patch_size,
    layers=max(encoder.depth // 2, 1),
    ratio=0.6 if settings.ratio is None else settings.ratio,
    min_block=2,
    momentum=_momentum(settings, setup, 0.99),
    **_shared(setup),
  )


def ijepa(settings: Settings, setup: Setup) -> Objective:
  """The teacher's tokens of blocks."""
  encoder = _vit(settings, setup)
  return learners.ijepa(
    encoder,
    token_predictor(setup, encoder.dim),
    views.light(settings, setup),
    patch_size=encoder.patch_size,
    momentum=_momentum(settings, setup, 0.99),
    **_shared(setup),
  )


def dmt_jepa(settings: Settings, setup: Setup) -> Objective:
  """The teacher's tokens of blocks, each gathered from its like."""
  encoder = _vit(settings, setup)
  return learners.dmt_jepa(
    encoder,
    learners.Aggregator(encoder.heads, depth=1),
    token_predictor(setup, encoder.dim),
    views.light(settings, setup),
    patch_size=encoder.patch_size,
    momentum=_momentum(settings, setup, 0.99),
    **_shared(setup),
  )


# --- pretexts and labels --------------------------------------------------------------------------


def rotnet(settings: Settings, setup: Setup) -> Objective:
  """By which quarter of a turn."""
  return learners.rotnet(setup.encoder, views.light(settings, setup), **_shared(setup))


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
  Method("llave", llave, stem="conv"),
  Method("sup_con", sup_con, stem="conv", labels=True),
  Method("moco", moco, stem="conv"),
  Method("moco_v3", moco_v3, stem="conv"),
  Method("nnclr", nnclr, stem="conv"),
  Method("byol", byol, stem="conv"),
  Method("simsiam", simsiam, stem="conv"),
  Method("barlow_twins", barlow_twins, stem="conv"),
  Method("vicreg", vicreg, stem="conv"),
  Method("lejepa", lejepa, stem="conv"),
  Method("swav", swav, stem="conv"),
  Method("dino", dino, stem="conv"),
  Method("ibot", ibot),
  Method("dinov2", dinov2),
  Method("msn", msn, views=1),
  Method("obow", obow),
  Method(
    "simmim",
    simmim,
    views=1,
    launcher="simmim",
    next_command="python -m experiments.supervised",
    reconstruct=reconstructions.of_simmim,
  ),
  Method("mae", mae, views=1, reconstruct=reconstructions.of_mae),
  Method("data2vec", data2vec, views=1),
  Method("ijepa", ijepa, views=1),
  Method("dmt_jepa", dmt_jepa, views=1),
  Method("rotnet", rotnet, stem="conv", views=4),
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


def _projector(
  settings: Settings, setup: Setup, dims: Sequence[int], norm: str | None, **options
) -> MLP:
  """The method's projector, or the flags'."""
  if settings.projector is not None:
    dims = whole_numbers("projector", settings.projector)
  norm = settings.projector_norm or norm
  norm = None if norm == "none" else norm
  return MLP(dims, norm=norm, axis_name=setup.axis_name, dtype=setup.dtype, **options)


def _predictor(settings: Settings, setup: Setup, dims: Sequence[int]) -> MLP:
  """The method's predictor, or the flags'."""
  if settings.predictor is not None:
    dims = whole_numbers("predictor", settings.predictor)
  return MLP(dims, norm="batch", axis_name=setup.axis_name, dtype=setup.dtype)


def _projector_and_predictor(settings: Settings, setup: Setup) -> tuple[MLP, MLP]:
  """BYOL's two heads."""
  projector = _projector(settings, setup, (256, 64), "batch")
  return projector, _predictor(settings, setup, (projector.dims[0], projector.dims[-1]))


def _prototypes(settings: Settings, setup: Setup) -> Prototypes:
  """DINO's head."""
  mlp = _projector(settings, setup, (256, 64), None, activation=gelu)
  return Prototypes(settings.prototypes or 1024, mlp)


def _distilled(settings: Settings, setup: Setup) -> dict:
  """Numbers of DINO and its like, which warm the teacher up."""
  warmup = max(setup.steps // 10, 1)
  return {
    "momentum": _momentum(settings, setup, 0.99),
    "student_temperature": settings.temperature or 0.1,
    "teacher_temperature": rising_temperature(0.04, 0.07, warmup),
    **_shared(setup),
  }


def _momentum(settings: Settings, setup: Setup, start: float):
  return rising_momentum(settings.teacher_momentum or start, setup.steps)


def _vit(settings: Settings, setup: Setup) -> ViT:
  """The encoder, if it has patches to hide."""
  if not isinstance(setup.encoder, ViT):
    raise ValueError(
      f"--encoder={settings.encoder} has no patches to hide; choose a ViT, such as vit_b16"
    )
  return setup.encoder
