"""Encoders: inputs to features, as Flax modules."""

from repjax.encoders.autoencoder import Autoencoder
from repjax.encoders.clca import CLCA
from repjax.encoders.compander import Companded, compand_tree, expand_tree
from repjax.encoders.convnet import ConvNet
from repjax.encoders.convnext import ConvNeXt, GlobalResponseNorm, convnext
from repjax.encoders.crossvit import CrossViT, crossvit
from repjax.encoders.cswin import CSWin, CSWinBlock, StripeAttention, cswin
from repjax.encoders.deep_sets import DeepSets
from repjax.encoders.dhvt import DHVT, HeadInteraction, dhvt
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
from repjax.encoders.glmix import GLMix, GLNet, glnet, pool_slots
from repjax.encoders.glsim import (
  GLSim,
  box_most_alike,
  box_of_best,
  global_local_similarity,
  zoom,
)
from repjax.encoders.location import (
  LocationEncoder,
  SirenNet,
  double_fourier_sphere,
  grid_waves,
  spherical_harmonics,
  theory_waves,
)
from repjax.encoders.mlp import MLP
from repjax.encoders.mobilenet import MOBILENETS, MobileNet, mobilenet
from repjax.encoders.path_ensemble import PathEnsemble, vit_paths
from repjax.encoders.perceiver import Perceiver, fourier_positions
from repjax.encoders.pixels import PixelDecoder
from repjax.encoders.point import PointNet
from repjax.encoders.pointer import Pointed, PointerNetwork
from repjax.encoders.positions import interpolate, patchify, sincos_2d, unpatchify
from repjax.encoders.predictor import TokenPredictor
from repjax.encoders.probabilistic import Decoded, DenseDecoder, Gaussian, GaussianEncoder
from repjax.encoders.prototypes import Prototypes
from repjax.encoders.relations import Relations, class_attention, with_relations
from repjax.encoders.resnet import DEPTHS, ResNet, resnet
from repjax.encoders.reweighting import Reweighting
from repjax.encoders.sequence import GRU, PatchMLP
from repjax.encoders.set_transformer import InducedAttention, SetAttention, SetTransformer
from repjax.encoders.sharpdarts import (
  CellNet,
  Genotype,
  SharpSepConv,
  derive_cells,
  mixing_weights,
)
from repjax.encoders.swin import PatchMerging, Swin, WindowAttention, swin
from repjax.encoders.table import TableTransformer
from repjax.encoders.text import TEXT_SIZES, TextTransformer, text_transformer
from repjax.encoders.tnt import TNT, tnt
from repjax.encoders.ulsam import SubspaceAttention
from repjax.encoders.umbc import UMBC, SlotSums, Stream, stream, unbiased
from repjax.encoders.unified_norm import UnifiedNorm, fuse_norm, keep_statistics
from repjax.encoders.urpe import RelativeAttention, RelativeTransformer, toeplitz
from repjax.encoders.video import VideoTransformer
from repjax.encoders.vit import SIZES, ViT, stack_blocks, unstack_blocks, vit

__all__ = [
  "CLCA",
  "DEPTHS",
  "DHVT",
  "GRU",
  "MLP",
  "MOBILENETS",
  "SIZES",
  "TEXT_SIZES",
  "TNT",
  "UMBC",
  "Autoencoder",
  "CSWin",
  "CSWinBlock",
  "CellNet",
  "Companded",
  "ConvNeXt",
  "ConvNet",
  "CrossViT",
  "Decoded",
  "DeepSets",
  "DenseDecoder",
  "DynPerceiver",
  "Features",
  "Flat",
  "GLMix",
  "GLNet",
  "GLSim",
  "GaborBank",
  "GaborTexture",
  "Gaussian",
  "GaussianEncoder",
  "Genotype",
  "GlobalResponseNorm",
  "HeadInteraction",
  "InducedAttention",
  "LocationEncoder",
  "MobileNet",
  "PatchMLP",
  "PatchMerging",
  "PathEnsemble",
  "Perceiver",
  "PixelDecoder",
  "PointNet",
  "Pointed",
  "PointerNetwork",
  "Prototypes",
  "Relations",
  "RelativeAttention",
  "RelativeTransformer",
  "ResNet",
  "Reweighting",
  "SetAttention",
  "SetTransformer",
  "SharpSepConv",
  "SirenNet",
  "SlotSums",
  "Stream",
  "StripeAttention",
  "SubspaceAttention",
  "Swin",
  "TableTransformer",
  "TextTransformer",
  "TokenPredictor",
  "UnifiedNorm",
  "ViT",
  "VideoTransformer",
  "Waves",
  "WindowAttention",
  "box_most_alike",
  "box_of_best",
  "class_attention",
  "compand_tree",
  "convnext",
  "crossvit",
  "cswin",
  "derive_cells",
  "dhvt",
  "double_fourier_sphere",
  "dyn_perceiver",
  "exit_early",
  "exit_thresholds",
  "expand_tree",
  "fourier_positions",
  "fuse_norm",
  "gabor_kernels",
  "glnet",
  "global_local_similarity",
  "grid_waves",
  "interpolate",
  "keep_statistics",
  "mixing_weights",
  "mobilenet",
  "patchify",
  "pool_slots",
  "resnet",
  "sincos_2d",
  "spherical_harmonics",
  "stack_blocks",
  "stream",
  "swin",
  "text_transformer",
  "texture_statistics",
  "theory_waves",
  "tnt",
  "toeplitz",
  "unbiased",
  "unpatchify",
  "unstack_blocks",
  "vit",
  "vit_paths",
  "with_relations",
  "zoom",
]
