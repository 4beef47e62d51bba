"""Encoders: inputs to features, as Flax modules."""

from repjax.encoders.autoencoder import Autoencoder
from repjax.encoders.compander import Companded, compand_tree, expand_tree
from repjax.encoders.convnet import ConvNet
from repjax.encoders.dyn_perceiver import (
  DynPerceiver,
  dyn_perceiver,
  exit_early,
  exit_thresholds,
)
from repjax.encoders.features import Features
from repjax.encoders.flat import Flat
from repjax.encoders.gabor import (
  GaborBank,
  GaborTexture,
  Waves,
  gabor_kernels,
  texture_statistics,
)
from repjax.encoders.mlp import MLP
from repjax.encoders.mobilenet import MOBILENETS, MobileNet, mobilenet
from repjax.encoders.perceiver import Perceiver, fourier_positions
from repjax.encoders.pixels import PixelDecoder
from repjax.encoders.point import PointNet
from repjax.encoders.positions import interpolate, patchify, sincos_2d, unpatchify
from repjax.encoders.predictor import TokenPredictor
from repjax.encoders.probabilistic import Decoded, DenseDecoder, Gaussian, GaussianEncoder
from repjax.encoders.prototypes import Prototypes
from repjax.encoders.relations import Relations, class_attention, with_relations
from repjax.encoders.resnet import DEPTHS, ResNet, resnet
from repjax.encoders.reweighting import Reweighting
from repjax.encoders.sequence import GRU, PatchMLP
from repjax.encoders.sharpdarts import (
  CellNet,
  Genotype,
  SharpSepConv,
  derive_cells,
  mixing_weights,
)
from repjax.encoders.table import TableTransformer
from repjax.encoders.ulsam import SubspaceAttention
from repjax.encoders.unified_norm import UnifiedNorm, fuse_norm, keep_statistics
from repjax.encoders.video import VideoTransformer
from repjax.encoders.vit import SIZES, ViT, stack_blocks, unstack_blocks, vit

__all__ = [
  "DEPTHS",
  "GRU",
  "MLP",
  "MOBILENETS",
  "SIZES",
  "Autoencoder",
  "CellNet",
  "Companded",
  "ConvNet",
  "Decoded",
  "DenseDecoder",
  "DynPerceiver",
  "Features",
  "Flat",
  "GaborBank",
  "GaborTexture",
  "Gaussian",
  "GaussianEncoder",
  "Genotype",
  "MobileNet",
  "PatchMLP",
  "Perceiver",
  "PixelDecoder",
  "PointNet",
  "Prototypes",
  "Relations",
  "ResNet",
  "Reweighting",
  "SharpSepConv",
  "SubspaceAttention",
  "TableTransformer",
  "TokenPredictor",
  "UnifiedNorm",
  "ViT",
  "VideoTransformer",
  "Waves",
  "class_attention",
  "compand_tree",
  "derive_cells",
  "dyn_perceiver",
  "exit_early",
  "exit_thresholds",
  "expand_tree",
  "fourier_positions",
  "fuse_norm",
  "gabor_kernels",
  "interpolate",
  "keep_statistics",
  "mixing_weights",
  "mobilenet",
  "patchify",
  "resnet",
  "sincos_2d",
  "stack_blocks",
  "texture_statistics",
  "unpatchify",
  "unstack_blocks",
  "vit",
  "with_relations",
]
