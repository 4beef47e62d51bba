"""Names of a text transformer's parameters in other libraries, and its shape by configuration."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from repjax.encoders import TextTransformer
from repjax.encoders.transformer import gelu, gelu_tanh, quick_gelu
from repjax.trees import MATRIX, SAME, Form, Rule, dense_rules, joined_rules, norm_rules

ACTIVATIONS = {
  "gelu": gelu,
  "gelu_pytorch_tanh": gelu_tanh,
  "quick_gelu": quick_gelu,
  "silu": jax.nn.silu,
}


class TextNames(NamedTuple):
  """What the parts of a text transformer are called; names in a block are below ``block``.

  Attributes:
    word, positions, type: tables of the embedding, whole names.
    embedding_norm: after their sum.
    block: with ``{}`` for its number.
    norm_1, norm_2: of attention and of the feed-forward layer.
    qkv: queries, keys and values in one layer, or in three.
    out, up, down: layers.
    norm: after the last block.
    projection, projection_form: the matrix of the last map, a whole name; its bias, if there is
      one, is beside it.
  """

  word: str = "text_model.embeddings.token_embedding.weight"
  positions: str = "text_model.embeddings.position_embedding.weight"
  type: str = ""
  embedding_norm: str = ""
  block: str = "text_model.encoder.layers.{}."
  norm_1: str = "layer_norm1"
  norm_2: str = "layer_norm2"
  qkv: tuple[str, ...] = tuple(f"self_attn.{x}_proj" for x in "qkv")
  out: str = "self_attn.out_proj"
  up: str = "mlp.fc1"
  down: str = "mlp.fc2"
  norm: str = "text_model.final_layer_norm"
  projection: str = "text_projection.weight"
  projection_form: Form = MATRIX


HF_CLIP_TEXT = TextNames()
HF_SIGLIP_TEXT = TextNames(projection="text_model.head.weight")
#: OpenAI's CLIP and OpenCLIP.
OPENAI_TEXT = TextNames(
  word="token_embedding.weight",
  positions="positional_embedding",
  block="transformer.resblocks.{}.",
  norm_1="ln_1",
  norm_2="ln_2",
  qkv=("attn.in_proj_",),
  out="attn.out_proj",
  up="mlp.c_fc",
  down="mlp.c_proj",
  norm="ln_final",
  projection="text_projection",
  projection_form=SAME,
)
HF_BERT = TextNames(
  word="embeddings.word_embeddings.weight",
  positions="embeddings.position_embeddings.weight",
  type="embeddings.token_type_embeddings.weight",
  embedding_norm="embeddings.LayerNorm",
  block="encoder.layer.{}.",
  norm_1="attention.output.LayerNorm",
  norm_2="output.LayerNorm",
  qkv=tuple(f"attention.self.{x}" for x in ("query", "key", "value")),
  out="attention.output.dense",
  up="intermediate.dense",
  down="output.dense",
)


def text_rules(text: TextTransformer, names: TextNames) -> list[Rule]:
  """Rules of a text transformer's parameters.

  Args:
    text: the encoder.
    names: what its parts are called.

  Returns:
    Rules for `repjax.trees.convert`.
  """
  rules = [
    Rule(names.word, ("params/word/embedding",)),
    Rule(names.positions, ("params/positions",)),
  ]
  if text.token_types:
    rules.append(Rule(names.type, ("params/type/embedding",)))
  if text.embedding_norm:
    rules += norm_rules(names.embedding_norm, "params/embedding_norm")
  for i in range(text.depth):
    theirs, ours = names.block.format(i), f"params/block_{i}"
    rules += norm_rules(theirs + names.norm_1, f"{ours}/norm_1")
    rules += norm_rules(theirs + names.norm_2, f"{ours}/norm_2")
    parts = [f"{ours}/attention/{x}" for x in ("query", "key", "value")]
    rules += joined_rules([theirs + name for name in names.qkv], parts)
    rules += dense_rules(theirs + names.out, f"{ours}/attention/out")
    rules += dense_rules(theirs + names.up, f"{ours}/mlp/up")
    rules += dense_rules(theirs + names.down, f"{ours}/mlp/down")
  if text.norm_first:
    rules += norm_rules(names.norm, "params/norm")
  if text.projection is not None:
    rules.append(Rule(names.projection, ("params/projection/kernel",), names.projection_form))
    if text.projection_bias:
      bias = names.projection.removesuffix("weight") + "bias"
      rules.append(Rule(bias, ("params/projection/bias",)))
  return rules


def text_from_config(config: Mapping[str, Any], **options: Any) -> TextTransformer:
  """A text transformer of Hugging Face's by its configuration.

  Args:
    config: of the text model.
    **options: fields of `TextTransformer` that belong to the family.

  Returns:
    The module.

  Raises:
    ValueError: if its activation is not known.
  """
  act = config.get("hidden_act", "gelu")
  if act not in ACTIVATIONS:
    raise ValueError(f"hidden_act {act!r} is not known here; one of {', '.join(ACTIVATIONS)} is")
  return TextTransformer(
    vocabulary=config["vocab_size"],
    length=config["max_position_embeddings"],
    dim=config["hidden_size"],
    depth=config["num_hidden_layers"],
    heads=config["num_attention_heads"],
    mlp_dim=config["intermediate_size"],
    activation=ACTIVATIONS[act],
    epsilon=config["layer_norm_eps"],
    **options,
  )


def bert_from_config(config: Mapping[str, Any]) -> TextTransformer:
  """BERT, whose first token stands for the text.

  Args:
    config: of ``config.json``.

  Returns:
    The module.

  Raises:
    ValueError: if its positions are other than learned ones.
  """
  kind = config.get("position_embedding_type", "absolute")
  if kind != "absolute":
    raise ValueError(f"position_embedding_type {kind!r} is not known here; 'absolute' is")
  defaults = {"layer_norm_eps": 1e-12, "type_vocab_size": 2, "hidden_act": "gelu"}
  config = defaults | dict(config)
  return text_from_config(
    config, norm_first=False, embedding_norm=True, token_types=config["type_vocab_size"]
  )


# What a configuration of either tower leaves out if it is the family's usual value.
_CLIP = {
  "vocab_size": 49408, "max_position_embeddings": 77, "hidden_size": 512, "num_hidden_layers": 12,
  "num_attention_heads": 8, "intermediate_size": 2048, "hidden_act": "quick_gelu",
  "layer_norm_eps": 1e-5,
}  # fmt: skip
_SIGLIP = {
  "vocab_size": 32000, "max_position_embeddings": 64, "hidden_size": 768, "num_hidden_layers": 12,
  "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu_pytorch_tanh",
  "layer_norm_eps": 1e-6,
}  # fmt: skip


def clip_text_from_config(config: Mapping[str, Any], projection: int) -> TextTransformer:
  """CLIP's text tower.

  Args:
    config: of the text model.
    projection: width that both towers are mapped to.

  Returns:
    The module.
  """
  config = _CLIP | dict(config)
  end = config.get("eos_token_id", 49407)
  # The first models were written down with an end of 2, and find it as the highest word.
  end = None if end == 2 else end
  return text_from_config(config, causal=True, pool="end", end_token=end, projection=projection)


def siglip_text_from_config(config: Mapping[str, Any]) -> TextTransformer:
  """SigLIP's text tower.

  Args:
    config: of the text model.

  Returns:
    The module.
  """
  config = _SIGLIP | dict(config)
  width = config.get("projection_size", config["hidden_size"])
  return text_from_config(config, pool="last", projection=width, projection_bias=True)
