"""Encoders by Hugging Face's configuration, which lies beside their weights."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from repjax.encoders import ConvNeXt, ResNet, Swin, ViT
from repjax.pretrained.catalog import Model, divided
from repjax.pretrained.hierarchical import (
  HF_CONVNEXT,
  HF_RESNET,
  HF_SWIN,
  convnext_rules,
  resnet_rules,
  swin_rules,
)
from repjax.pretrained.preprocessing import CLIP, HALF, Preprocessing
from repjax.pretrained.text import ACTIVATIONS
from repjax.pretrained.vit import (
  HF,
  HF_BEIT,
  HF_CLIP,
  HF_DINOV2,
  HF_DINOV3,
  HF_SIGLIP,
  PROJECTIONS,
  Names,
  vit_rules,
)
from repjax.trees import MATRIX

# Heads, poolers, decoders and tables that are computed.
_UNUSED = (
  r"pooler\..*",
  r"(head|classifier|lm_head|layernorm).*",
  r"decoder.*",
  r".*mask_token",
  r".*relative_position_index",
  r".*position_ids",
  r"logit_(scale|bias)",
  r"(text_model|text_projection)\..*",
)


_PREFIXES = (
  "vit.",
  "beit.",
  "dinov2.",
  "dinov3_vit.",
  "ijepa.",
  "vision_model.",
  "resnet.",
  "convnext.",
  "convnextv2.",
  "swin.",
)
# Pillow's numbers of its filters.
_FILTERS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}


def read_config(folder: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads ``config.json`` and ``preprocessor_config.json``, if there is one.

  Args:
    folder: that of a model.

  Returns:
    Both; the second empty if absent.

  Raises:
    FileNotFoundError: if there is no configuration.
    ValueError: if a file is no JSON.
  """
  found = []
  for name in ("config.json", "preprocessor_config.json"):
    path = Path(folder) / name
    if not path.exists() and name == "config.json":
      raise FileNotFoundError(f"{folder} has no config.json; give the folder of a whole model")
    try:
      found.append(json.loads(path.read_text()) if path.exists() else {})
    except json.JSONDecodeError as error:
      raise ValueError(f"{path} is no JSON ({error}); copy it again") from None
  return found[0], found[1]


def from_config(config: Mapping[str, Any], processor: Mapping[str, Any] | None = None) -> Model:
  """An encoder by its configuration.

  Args:
    config: of ``config.json``.
    processor: of ``preprocessor_config.json``; the family's usual preprocessing if absent.

  Returns:
    The model, without weights.

  Raises:
    ValueError: if the family or one of its options is not known here.
  """
  kind = config.get("model_type")
  if kind not in FAMILIES:
    raise ValueError(f"model_type {kind!r} is not known; one of {', '.join(FAMILIES)} is")
  return FAMILIES[kind](config, processor or {})


def _of_image_tower(family):
  """The same, of a configuration that has one for each tower."""
  return lambda config, processor: family(
    dict(config["vision_config"]) | {"projection": config.get("projection_dim", 512)}, processor
  )


def _vit(config, processor, **options) -> Model:
  """ViT and ViTMAE: the class token stands for the image."""
  options = {"positions": "learned", "pool": "cls", "epsilon": 1e-12} | options
  default = Preprocessing(_side(config), mean=HALF[0], std=HALF[1], filter="bilinear", squash=True)
  return _model(config, processor, default, HF, **options)


def _vit_mae(config, processor) -> Model:
  model = _vit(config, processor)
  default = Preprocessing(_side(config), crop=224 / 256)
  return model._replace(preprocessing=_preprocessing(processor, default, model.encoder.patch_size))


def _ijepa(config, processor) -> Model:
  """The mean of the tokens stands for the image."""
  return _vit(config, processor, pool="mean", class_token=False)


def _beit(config, processor) -> Model:
  if not config.get("use_relative_position_bias") or config.get("use_absolute_position_embeddings"):
    raise ValueError(
      "BEiT with positions other than relative ones in every block is not known here"
    )
  if not config.get("use_mean_pooling", True):
    raise ValueError("BEiT with use_mean_pooling false is not known here")
  options = {"positions": "relative", "pool": "mean", "class_token": True, "epsilon": 1e-12}
  scale = config.get("layer_scale_init_value", 0.1) or None
  default = Preprocessing(_side(config), mean=HALF[0], std=HALF[1], filter="bilinear", squash=True)
  return _model(
    config, processor, default, HF_BEIT, norm_after_pool=True, layer_scale=scale, **options
  )


def _dinov2(config, processor) -> Model:
  names, options = HF_DINOV2, {"layer_scale": 1.0}
  if config.get("use_swiglu_ffn"):
    names = names._replace(mlp=("mlp.weights_in", "mlp.weights_out"))
    hidden = int(config["hidden_size"] * config.get("mlp_ratio", 4))
    options |= {"gated": True, "activation": jax.nn.silu, "mlp_dim": (hidden * 2 // 3 + 7) // 8 * 8}
  registers = config.get("num_register_tokens", 0)
  default = Preprocessing(224, crop=224 / 256)
  return _model(
    config, processor, default, names,
    positions="learned", pool="cls", registers=registers, **options,
  )  # fmt: skip


def _dinov2_with_registers(config, processor) -> Model:
  return _dinov2({"num_register_tokens": 4} | dict(config), processor)


def _dinov3(config, processor) -> Model:
  names, options = HF_DINOV3, {}
  if config.get("use_gated_mlp"):
    names = names._replace(mlp=tuple(f"mlp.{x}_proj" for x in ("gate", "up", "down")))
    options = {"gated": True}
  lacking = [x for x in PROJECTIONS if not config.get(f"{x}_bias", x != "key")]
  default = Preprocessing(_side(config), squash=True)
  return _model(
    config, processor, default, names._replace(unbiased=tuple(lacking)),
    positions="rotary", pool="cls", epsilon=1e-5, layer_scale=1.0,
    registers=config.get("num_register_tokens", 0), **options,
  )  # fmt: skip


def _clip(config, processor) -> Model:
  names = HF_CLIP._replace(projection="visual_projection.weight", projection_form=MATRIX)
  default = Preprocessing(_side(config), mean=CLIP[0], std=CLIP[1])
  config = {"patch_size": 32, "intermediate_size": 3072, "hidden_act": "quick_gelu"} | dict(config)
  if "CLIPVisionModelWithProjection" in config.get("architectures", ()):
    config["projection"] = config.get("projection_dim", 512)
  return _model(
    config, processor, default, names,
    positions="learned", pool="cls", epsilon=1e-5, embedding_norm=True, patch_bias=False,
    projection=config.get("projection"),
  )  # fmt: skip


def _siglip(config, processor) -> Model:
  default = Preprocessing(_side(config), mean=HALF[0], std=HALF[1], squash=True)
  config = {"hidden_act": "gelu_pytorch_tanh", "intermediate_size": 3072} | dict(config)
  return _model(
    config, processor, default, HF_SIGLIP,
    positions="learned", pool="attention", class_token=False,
  )  # fmt: skip


def _resnet(config, processor) -> Model:
  if config.get("downsample_in_bottleneck") or config.get("downsample_in_first_stage"):
    raise ValueError("a ResNet that halves elsewhere than in 3x3 convolutions is not known here")
  widths, bottleneck = config["hidden_sizes"], config.get("layer_type") != "basic"
  first = widths[0] // 4 if bottleneck else widths[0]
  if widths != [widths[0] * 2**i for i in range(len(widths))]:
    raise ValueError(f"a ResNet whose hidden_sizes do not double, {widths}, is not known here")
  if config.get("embedding_size", 64) != first:
    raise ValueError(f"embedding_size {config['embedding_size']} is not {first}, as it is here")
  encoder = ResNet(tuple(config["depths"]), bottleneck, first)
  default = Preprocessing(224, 0.875)
  return _hierarchical(encoder, resnet_rules(encoder, HF_RESNET), processor, default)


def _convnext(config, processor) -> Model:
  widths = config["hidden_sizes"]
  if widths != [widths[0] * 2**i for i in range(len(widths))]:
    raise ValueError(f"a ConvNeXt whose hidden_sizes do not double, {widths}, is not known here")
  encoder = ConvNeXt(
    tuple(config["depths"]),
    widths[0],
    grn=config["model_type"] == "convnextv2",
    patch_size=config.get("patch_size", 4),
  )
  default = Preprocessing(224, 0.875)
  return _hierarchical(encoder, convnext_rules(encoder, HF_CONVNEXT), processor, default)


def _swin(config, processor) -> Model:
  heads = config["num_heads"]
  if heads != [heads[0] * 2**i for i in range(len(heads))]:
    raise ValueError(
      f"a Swin transformer whose num_heads do not double, {heads}, is not known here"
    )
  encoder = Swin(
    tuple(config["depths"]),
    config.get("embed_dim", 96),
    heads[0],
    window=config.get("window_size", 7),
    patch_size=config.get("patch_size", 4),
    mlp_ratio=config.get("mlp_ratio", 4.0),
  )
  default = Preprocessing(_side(config), squash=True)
  return _hierarchical(encoder, swin_rules(encoder, HF_SWIN), processor, default)


def _hierarchical(encoder, rules, processor, default: Preprocessing) -> Model:
  how = _preprocessing(processor, default, 1)
  return Model(encoder, rules, how, _PREFIXES, (*_UNUSED, r".*num_batches_tracked"))


#: What ``model_type`` names.
FAMILIES: dict[str, Callable[..., Model]] = {
  "vit": _vit,
  "vit_mae": _vit_mae,
  "ijepa": _ijepa,
  "beit": _beit,
  "dinov2": _dinov2,
  "dinov2_with_registers": _dinov2_with_registers,
  "dinov3_vit": _dinov3,
  "clip": _of_image_tower(_clip),
  "clip_vision_model": _clip,
  "siglip": _of_image_tower(_siglip),
  "siglip_vision_model": _siglip,
  "resnet": _resnet,
  "convnext": _convnext,
  "convnextv2": _convnext,
  "swin": _swin,
}


def _model(config, processor, default: Preprocessing, names: Names, **options) -> Model:
  """What all families say alike."""
  if (act := config.get("hidden_act", "gelu")) not in ACTIVATIONS:
    raise ValueError(f"hidden_act {act!r} is not known here; one of {', '.join(ACTIVATIONS)} is")
  patch, dim = config.get("patch_size", 16), config.get("hidden_size", 768)
  if options["positions"] == "learned":
    options["image_size"] = divided(_side(config), patch)
  if not config.get("qkv_bias", True):
    names = names._replace(unbiased=PROJECTIONS)
  if "epsilon" in options or "layer_norm_eps" in config:
    options["epsilon"] = config.get("layer_norm_eps", options.get("epsilon"))
  shape = {
    "patch_size": patch,
    "dim": dim,
    "depth": config.get("num_hidden_layers", 12),
    "heads": config.get("num_attention_heads", 12),
    "mlp_dim": config.get("intermediate_size") or int(dim * config.get("mlp_ratio", 4)),
    "activation": ACTIVATIONS[act],
  }
  encoder = ViT(**(shape | options))
  return Model(
    encoder,
    vit_rules(encoder, names),
    _preprocessing(processor, default, patch),
    prefixes=_PREFIXES,
    unused=_UNUSED,
  )


def _side(config) -> int:
  return config.get("image_size", 224)


def _preprocessing(processor, default: Preprocessing, patch: int) -> Preprocessing:
  """The processor's, where it says something."""
  size, crop = processor.get("size"), processor.get("crop_size")
  side = lambda x: x if isinstance(x, int) else x.get("shortest_edge", x.get("height"))
  how = default
  if size is not None:
    cropped = crop is not None and processor.get("do_center_crop", True)
    seen = side(crop) if cropped else side(size)
    squash = not cropped and not (isinstance(size, dict) and "shortest_edge" in size)
    how = how._replace(size=seen, crop=seen / side(size), squash=squash)
  if "image_mean" in processor:
    how = how._replace(mean=tuple(processor["image_mean"]), std=tuple(processor["image_std"]))
  if "resample" in processor:
    how = how._replace(filter=_FILTERS[processor["resample"]])
  return how._replace(corner=divided(how.size, patch))
