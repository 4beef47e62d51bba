"""Encoders: inputs to features, as Flax modules."""

from repjax.encoders.autoencoder import Autoencoder
from repjax.encoders.convnet import ConvNet
from repjax.encoders.convnext import ConvNeXt, GlobalResponseNorm, convnext
from repjax.encoders.crossvit import CrossViT, crossvit
from repjax.encoders.cswin import CSWin, CSWinBlock, StripeAttention, cswin
from repjax.encoders.deep_sets import DeepSets
from repjax.encoders.dhvt import DHVT, HeadInteraction, dhvt
from repjax.encoders.features import Features
from repjax.encoders.flat import Flat
from repjax.encoders.glmix import GLMix, GLNet, glnet, pool_slots
from repjax.encoders.glsim import GLSim, box_of_best, global_local_similarity, zoom
from repjax.encoders.location import (
  LocationEncoder,
  SirenNet,
  double_fourier_sphere,
  grid,
  spherical_harmonics,
  theory,
)
from repjax.encoders.mlp import MLP
from repjax.encoders.path_ensemble import PathEnsemble, vit_paths
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
from repjax.encoders.swin import PatchMerging, Swin, WindowAttention, swin
from repjax.encoders.table import TableTransformer
from repjax.encoders.text import TEXT_SIZES, TextTransformer, text_transformer
from repjax.encoders.tnt import TNT, tnt
from repjax.encoders.umbc import UMBC, SlotSums, Stream, stream, unbiased
from repjax.encoders.urpe import RelativeAttention, RelativeTransformer, toeplitz
from repjax.encoders.video import VideoTransformer
from repjax.encoders.vit import SIZES, ViT, stack_blocks, unstack_blocks, vit

__all__ = [
  "DEPTHS",
  "DHVT",
  "GRU",
  "MLP",
  "SIZES",
  "TEXT_SIZES",
  "TNT",
  "UMBC",
  "Autoencoder",
  "CSWin",
  "CSWinBlock",
  "ConvNeXt",
  "ConvNet",
  "CrossViT",
  "Decoded",
  "DeepSets",
  "DenseDecoder",
  "Features",
  "Flat",
  "GLMix",
  "GLNet",
  "GLSim",
  "Gaussian",
  "GaussianEncoder",
  "GlobalResponseNorm",
  "HeadInteraction",
  "InducedAttention",
  "LocationEncoder",
  "PatchMLP",
  "PatchMerging",
  "PathEnsemble",
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
  "SirenNet",
  "SlotSums",
  "Stream",
  "StripeAttention",
  "Swin",
  "TableTransformer",
  "TextTransformer",
  "TokenPredictor",
  "ViT",
  "VideoTransformer",
  "WindowAttention",
  "box_of_best",
  "class_attention",
  "convnext",
  "crossvit",
  "cswin",
  "dhvt",
  "double_fourier_sphere",
  "glnet",
  "global_local_similarity",
  "grid",
  "interpolate",
  "patchify",
  "pool_slots",
  "resnet",
  "sincos_2d",
  "spherical_harmonics",
  "stack_blocks",
  "stream",
  "swin",
  "text_transformer",
  "theory",
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
