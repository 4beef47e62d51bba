"""Encoders: inputs to features, as Flax modules."""

from repjax.encoders.autoencoder import Autoencoder
from repjax.encoders.features import Features
from repjax.encoders.flat import Flat
from repjax.encoders.mlp import MLP
from repjax.encoders.positions import interpolate, patchify, sincos_2d, unpatchify
from repjax.encoders.prototypes import Prototypes
from repjax.encoders.resnet import DEPTHS, ResNet, resnet
from repjax.encoders.vit import SIZES, ViT, stack_blocks, unstack_blocks, vit

__all__ = [
  "DEPTHS",
  "MLP",
  "SIZES",
  "Autoencoder",
  "Features",
  "Flat",
  "Prototypes",
  "ResNet",
  "ViT",
  "interpolate",
  "patchify",
  "resnet",
  "sincos_2d",
  "stack_blocks",
  "unpatchify",
  "unstack_blocks",
  "vit",
]
