"""Encoders that were trained elsewhere: names and files to modules with their weights."""

from repjax.pretrained.catalog import TIMM_OTHERS, TIMM_VITS, Model, timm_model
from repjax.pretrained.hugging import from_config, read_config
from repjax.pretrained.load import Pretrained, load_encoder
from repjax.pretrained.preprocessing import Preprocessing, cut, standardize
from repjax.pretrained.vit import Names, PoolNames, vit_rules

__all__ = [
  "TIMM_OTHERS",
  "TIMM_VITS",
  "Model",
  "Names",
  "PoolNames",
  "Preprocessing",
  "Pretrained",
  "cut",
  "from_config",
  "load_encoder",
  "read_config",
  "standardize",
  "timm_model",
  "vit_rules",
]
