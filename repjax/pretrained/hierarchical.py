"""Names of ResNet's, ConvNeXt's and Swin's parameters in other libraries."""

from typing import NamedTuple

import numpy as np

from repjax.encoders import ConvNeXt, ResNet, Swin
from repjax.encoders.positions import pair
from repjax.trees import (
  CONVOLUTION,
  SAME,
  Form,
  Rule,
  dense_rules,
  joined_rules,
  norm_rules,
  patches,
)

#: Three leading axes of one less.
_FLAT = Form(np.ravel, lambda x: x[None, None, None])


class ResNetNames(NamedTuple):
  """What the parts of a ResNet are called; ``{}`` are stage and block, or the number in a block.

  Attributes:
    stem: convolution and norm.
    first: number of the first stage.
    block: prefix of a block's names.
    layer: convolution and norm in a block.
    start: number of the first.
    shortcut: convolution and norm.
  """

  stem: tuple[str, str] = ("conv1", "bn1")
  first: int = 1
  block: str = "layer{}.{}."
  layer: tuple[str, str] = ("conv{}", "bn{}")
  start: int = 1
  shortcut: tuple[str, str] = ("downsample.0", "downsample.1")


#: timm's and torchvision's.
TIMM_RESNET = ResNetNames()
HF_RESNET = ResNetNames(
  stem=("embedder.embedder.convolution", "embedder.embedder.normalization"),
  first=0,
  block="encoder.stages.{}.layers.{}.",
  layer=("layer.{}.convolution", "layer.{}.normalization"),
  start=0,
  shortcut=("shortcut.convolution", "shortcut.normalization"),
)


def resnet_rules(net: ResNet, names: ResNetNames) -> list[Rule]:
  """Rules of a ResNet's parameters and running statistics.

  Args:
    net: the encoder.
    names: what its parts are called.

  Returns:
    Rules for `repjax.trees.convert`.
  """

  def pair_of(theirs, ours, end=""):
    conv, norm = theirs
    return [
      Rule(f"{conv}.weight", (f"params/{ours}conv{end}/kernel",), CONVOLUTION),
      *norm_rules(norm, f"params/{ours}norm{end}"),
      Rule(f"{norm}.running_mean", (f"batch_stats/{ours}norm{end}/mean",)),
      Rule(f"{norm}.running_var", (f"batch_stats/{ours}norm{end}/var",)),
    ]

  rules = pair_of(names.stem, "stem_")
  for i, blocks in enumerate(net.stages):
    for j in range(blocks):
      theirs, ours = names.block.format(i + names.first, j), f"stage_{i}_block_{j}/"
      for k in range(3 if net.bottleneck else 2):
        layer = [theirs + name.format(k + names.start) for name in names.layer]
        rules += pair_of(layer, ours, f"_{k}")
      if j == 0 and (i or net.bottleneck):
        rules += pair_of([theirs + name for name in names.shortcut], f"{ours}shortcut_")
  return rules


class ConvNeXtNames(NamedTuple):
  """What the parts of a ConvNeXt are called; ``{}`` are stage and block.

  Attributes:
    stem: convolution and norm.
    reduce: norm and convolution before a stage.
    block: prefix of a block's names.
    conv, norm, up, down: in a block.
    scale: version 1's.
    grn, grn_form: version 2's.
    last: the norm of the mean.
  """

  stem: tuple[str, str] = ("stem.0", "stem.1")
  reduce: tuple[str, str] = ("stages.{}.downsample.0", "stages.{}.downsample.1")
  block: str = "stages.{}.blocks.{}."
  conv: str = "conv_dw"
  norm: str = "norm"
  up: str = "mlp.fc1"
  down: str = "mlp.fc2"
  scale: str = "gamma"
  grn: str = "mlp.grn"
  grn_form: Form = SAME
  last: str = "head.norm"


TIMM_CONVNEXT = ConvNeXtNames()
HF_CONVNEXT = ConvNeXtNames(
  stem=("embeddings.patch_embeddings", "embeddings.layernorm"),
  reduce=("encoder.stages.{}.downsampling_layer.0", "encoder.stages.{}.downsampling_layer.1"),
  block="encoder.stages.{}.layers.{}.",
  conv="dwconv",
  norm="layernorm",
  up="pwconv1",
  down="pwconv2",
  scale="layer_scale_parameter",
  grn="grn",
  grn_form=_FLAT,
  last="layernorm",
)


def convnext_rules(net: ConvNeXt, names: ConvNeXtNames) -> list[Rule]:
  """Rules of a ConvNeXt's parameters.

  Args:
    net: the encoder.
    names: what its parts are called.

  Returns:
    Rules for `repjax.trees.convert`.
  """

  def conv(theirs, ours):
    return [
      Rule(f"{theirs}.weight", (f"params/{ours}/kernel",), CONVOLUTION),
      Rule(f"{theirs}.bias", (f"params/{ours}/bias",)),
    ]

  rules = conv(names.stem[0], "stem_conv") + norm_rules(names.stem[1], "params/stem_norm")
  for i, blocks in enumerate(net.depths):
    if i:
      rules += norm_rules(names.reduce[0].format(i), f"params/stage_{i}_norm")
      rules += conv(names.reduce[1].format(i), f"stage_{i}_conv")
    for j in range(blocks):
      theirs, ours = names.block.format(i, j), f"stage_{i}_block_{j}"
      rules += conv(theirs + names.conv, f"{ours}/conv")
      rules += norm_rules(theirs + names.norm, f"params/{ours}/norm")
      rules += dense_rules(theirs + names.up, f"params/{ours}/up")
      rules += dense_rules(theirs + names.down, f"params/{ours}/down")
      if net.grn:
        for part, leaf in (("weight", "scale"), ("bias", "bias")):
          place = f"params/{ours}/grn/{leaf}"
          rules.append(Rule(f"{theirs}{names.grn}.{part}", (place,), names.grn_form))
      else:
        rules.append(Rule(theirs + names.scale, (f"params/{ours}/layer_scale",)))
  return rules + norm_rules(names.last, "params/norm")


class SwinNames(NamedTuple):
  """What the parts of a Swin transformer are called; ``{}`` are stage and block.

  Attributes:
    patch, patch_norm: the embedding.
    merge: prefix of what merges patches before a stage.
    ahead: whether merging is counted to the stage before.
    block: prefix of a block's names.
    norm_1, qkv, table, out, norm_2, up, down: in a block.
    last: the final norm.
  """

  patch: str = "patch_embed.proj"
  patch_norm: str = "patch_embed.norm"
  merge: str = "layers.{}.downsample."
  ahead: bool = False
  block: str = "layers.{}.blocks.{}."
  norm_1: str = "norm1"
  qkv: tuple[str, ...] = ("attn.qkv",)
  table: str = "attn.relative_position_bias_table"
  out: str = "attn.proj"
  norm_2: str = "norm2"
  up: str = "mlp.fc1"
  down: str = "mlp.fc2"
  last: str = "norm"


TIMM_SWIN = SwinNames()
HF_SWIN = SwinNames(
  patch="embeddings.patch_embeddings.projection",
  patch_norm="embeddings.norm",
  merge="encoder.layers.{}.downsample.",
  ahead=True,
  block="encoder.layers.{}.blocks.{}.",
  norm_1="layernorm_before",
  qkv=tuple(f"attention.self.{x}" for x in ("query", "key", "value")),
  table="attention.self.relative_position_bias_table",
  out="attention.output.dense",
  norm_2="layernorm_after",
  up="intermediate.dense",
  down="output.dense",
  last="layernorm",
)


def swin_rules(net: Swin, names: SwinNames) -> list[Rule]:
  """Rules of a Swin transformer's parameters.

  Args:
    net: the encoder.
    names: what its parts are called.

  Returns:
    Rules for `repjax.trees.convert`.
  """
  patch = ("params/patch/kernel",)
  rules = [
    Rule(f"{names.patch}.weight", patch, patches(pair(net.patch_size))),
    Rule(f"{names.patch}.bias", ("params/patch/bias",)),
    *norm_rules(names.patch_norm, "params/patch_norm"),
  ]
  for i, blocks in enumerate(net.depths):
    if i:
      theirs, ours = names.merge.format(i - names.ahead), f"params/stage_{i}_merge"
      rules += norm_rules(f"{theirs}norm", f"{ours}/norm")
      rules += dense_rules(f"{theirs}reduction", f"{ours}/out", bias=False)
    for j in range(blocks):
      theirs, ours = names.block.format(i, j), f"params/stage_{i}_block_{j}"
      rules += norm_rules(theirs + names.norm_1, f"{ours}/norm_1")
      parts = [f"{ours}/attention/{x}" for x in ("query", "key", "value")]
      rules += joined_rules([theirs + name for name in names.qkv], parts)
      rules.append(Rule(theirs + names.table, (f"{ours}/attention/position_bias",)))
      rules += dense_rules(theirs + names.out, f"{ours}/attention/out")
      rules += norm_rules(theirs + names.norm_2, f"{ours}/norm_2")
      rules += dense_rules(theirs + names.up, f"{ours}/mlp/up")
      rules += dense_rules(theirs + names.down, f"{ours}/mlp/down")
  return rules + norm_rules(names.last, "params/norm")
