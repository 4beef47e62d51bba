"""Encoders: inputs to features, as Flax modules."""

from repjax.encoders.autoencoder import Autoencoder
from repjax.encoders.convnet import ConvNet
from repjax.encoders.deep_sets import DeepSets
from repjax.encoders.features import Features
from repjax.encoders.flat import Flat
from repjax.encoders.location import (
  LocationEncoder,
  SirenNet,
  double_fourier_sphere,
  grid_waves,
  spherical_harmonics,
  theory_waves,
)
from repjax.encoders.mlp import MLP
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
from repjax.encoders.table import TableTransformer
from repjax.encoders.text import TEXT_SIZES, TextTransformer, quick_gelu, text_transformer
from repjax.encoders.umbc import UMBC, SlotSums, Stream, stream, unbiased
from repjax.encoders.urpe import RelativeAttention, RelativeTransformer, toeplitz
from repjax.encoders.video import VideoTransformer
from repjax.encoders.vit import SIZES, ViT, stack_blocks, unstack_blocks, vit

__all__ = [
  "DEPTHS",
  "GRU",
  "MLP",
  "SIZES",
  "TEXT_SIZES",
  "UMBC",
  "Autoencoder",
  "ConvNet",
  "Decoded",
  "DeepSets",
  "DenseDecoder",
  "Features",
  "Flat",
  "Gaussian",
  "GaussianEncoder",
  "InducedAttention",
  "LocationEncoder",
  "PatchMLP",
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
  "TableTransformer",
  "TextTransformer",
  "TokenPredictor",
  "ViT",
  "VideoTransformer",
  "class_attention",
  "double_fourier_sphere",
  "grid_waves",
  "interpolate",
  "patchify",
  "quick_gelu",
  "resnet",
  "sincos_2d",
  "spherical_harmonics",
  "stack_blocks",
  "stream",
  "text_transformer",
  "theory_waves",
  "toeplitz",
  "unbiased",
  "unpatchify",
  "unstack_blocks",
  "vit",
  "with_relations",
]
