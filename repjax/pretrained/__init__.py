"""Encoders that were trained elsewhere: names and files to modules with their weights."""

from repjax.pretrained.catalog import TIMM_OTHERS, TIMM_VITS, Model, timm_model
from repjax.pretrained.crossvit import crossvit_rules
from repjax.pretrained.hugging import from_config, read_config
from repjax.pretrained.load import Pretrained, load_encoder
from repjax.pretrained.mobilenet import mobilenet_rules
from repjax.pretrained.preprocessing import Preprocessing, cut, standardize
from repjax.pretrained.tnt import tnt_rules
from repjax.pretrained.tokenizer import Words, canonical, read_tokenizer
from repjax.pretrained.towers import (
  OPEN_CLIP,
  PretrainedText,
  Towers,
  load_text,
  load_towers,
)
from repjax.pretrained.vit import Names, PoolNames, vit_rules

__all__ = [
  "OPEN_CLIP",
  "TIMM_OTHERS",
  "TIMM_VITS",
  "Model",
  "Names",
  "PoolNames",
  "Preprocessing",
  "Pretrained",
  "PretrainedText",
  "Towers",
  "Words",
  "canonical",
  "crossvit_rules",
  "cut",
  "from_config",
  "load_encoder",
  "load_text",
  "load_towers",
  "mobilenet_rules",
  "read_config",
  "read_tokenizer",
  "standardize",
  "timm_model",
  "tnt_rules",
  "vit_rules",
]
