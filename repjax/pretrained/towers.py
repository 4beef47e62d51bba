"""Pretrained pairs of an image and a text encoder, and text encoders alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from repjax.encoders import Features, TextTransformer, ViT
from repjax.encoders.transformer import gelu, quick_gelu
from repjax.encoders.vit import SIZES, Size
from repjax.pretrained.hugging import from_config, read_config
from repjax.pretrained.load import Pretrained, download, finished
from repjax.pretrained.preprocessing import CLIP, Preprocessing
from repjax.pretrained.text import (
  HF_BERT,
  HF_CLIP_TEXT,
  HF_SIGLIP_TEXT,
  OPENAI_TEXT,
  bert_from_config,
  clip_text_from_config,
  siglip_text_from_config,
  text_rules,
)
from repjax.pretrained.tokenizer import Tokenize, read_tokenizer
from repjax.pretrained.vit import OPENAI_CLIP, vit_rules
from repjax.trees import Rule, convert, find_names, read_state

Tree = Any


class PretrainedText(NamedTuple):
  """A text encoder and what it learned elsewhere.

  Attributes:
    encoder: the module.
    variables: its parameters, as NumPy arrays.
    tokenize: texts to `Words`; none if there was no tokenizer beside the weights.
    encode: ``(variables, words [batch, length], where) -> Features``, pure; ``where`` is None for
      encoders that see their padding, as CLIP's and SigLIP's do.
    rules: by which `repjax.trees.revert` gives the weights back.
  """

  encoder: TextTransformer
  variables: Tree
  tokenize: Tokenize | None
  encode: Callable[..., Features]
  rules: Sequence[Rule]


class Towers(NamedTuple):
  """An image and a text encoder whose pooled features are compared by their cosine.

  Attributes:
    image: the image tower.
    text: the text tower.
    logit_scale: factor of the cosines, 1 / temperature.
    logit_bias: added to them; 0 for CLIP.
  """

  image: Pretrained
  text: PretrainedText
  logit_scale: float
  logit_bias: float


#: Words that CLIP knows, and the length of a text.
WORDS = (49408, 77)


class Shape(NamedTuple):
  """An OpenCLIP model: image tower, patch, image, width in common, text tower."""

  size: Size
  patch: int
  image: int
  embed: int
  text: tuple[int, int, int]


#: OpenCLIP's names; with ``-quickgelu`` behind them for weights that were trained with it, such as
#: OpenAI's. Text towers: width, blocks, heads.
OPEN_CLIP = {
  "ViT-B-32": Shape(SIZES["b"], 32, 224, 512, (512, 12, 8)),
  "ViT-B-16": Shape(SIZES["b"], 16, 224, 512, (512, 12, 8)),
  "ViT-L-14": Shape(SIZES["l"], 14, 224, 768, (768, 12, 12)),
  "ViT-L-14-336": Shape(SIZES["l"], 14, 336, 768, (768, 12, 12)),
  "ViT-H-14": Shape(SIZES["h"], 14, 224, 1024, (1024, 24, 16)),
}


def load_towers(
  name: str,
  weights: str | Path | None = None,
  *,
  key: str | None = None,
  dtype: DTypeLike = jnp.float32,
) -> Towers:
  """Loads CLIP or SigLIP.

  Args:
    name: ``hf/OWNER/NAME``, by its configuration, or ``open_clip/NAME`` with a key of `OPEN_CLIP`.
    weights: a folder of Hugging Face's, or a file for OpenCLIP; from the hub if absent.
    key: which of several state dictionaries in a file of PyTorch's.
    dtype: of the computation; parameters are float32.

  Returns:
    Both towers with their weights. Pooled features are not yet of unit length.

  Raises:
    FileNotFoundError: if there are no such weights.
    ImportError: naming a package that is missing.
    ValueError: if the name is unknown or the weights do not fit it.
  """
  owner, _, rest = name.partition("/")
  if owner == "open_clip":
    encoder, how, text, rules = _open_clip(rest)
    if weights is None:
      raise FileNotFoundError(f"weights of {name} are not looked for on the hub; name their file")
    folder = Path(weights).expanduser().parent
  elif owner == "hf" and rest:
    folder = Path(download(rest) if weights is None else weights).expanduser()
    weights = folder
    folder = folder if folder.is_dir() else folder.parent
    encoder, how, text, rules = _hugging_face(*read_config(folder))
  else:
    raise ValueError(f"{name!r} is not a pair of encoders; say hf/OWNER/NAME or open_clip/NAME")
  state = read_state(weights, key=key)
  encoder, text = encoder.clone(dtype=dtype), text.clone(dtype=dtype)
  like = {"image": _shapes(encoder, _image(how)), "text": _shapes(text, _words(text))}
  rules = find_names(rules, state, ("module.",))
  scalars = {
    rule.ours[0]: np.shape(state[rule.theirs]) for rule in rules if "/" not in rule.ours[0]
  }
  like |= {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in scalars.items()}
  found = convert(state, rules, like, unused=_UNUSED, name=str(weights))
  of = lambda tower: [
    rule._replace(ours=tuple(x.removeprefix(tower) for x in rule.ours))
    for rule in rules
    if rule.ours[0].startswith(tower)
  ]
  return Towers(
    finished(encoder, found["image"], how, of("image/")),
    _finished_text(text, found["text"], folder, of("text/")),
    float(np.exp(found["logit_scale"]).squeeze()),
    float(np.squeeze(found.get("logit_bias", 0.0))),
  )


def load_text(
  name: str, weights: str | Path | None = None, *, dtype: DTypeLike = jnp.float32
) -> PretrainedText:
  """Loads a text encoder of BERT's kind.

  Args:
    name: ``hf/OWNER/NAME``.
    weights: its folder, with ``config.json``; from the hub if absent.
    dtype: of the computation; parameters are float32.

  Returns:
    The encoder with its weights.

  Raises:
    FileNotFoundError: if there are no such weights.
    ImportError: naming a package that is missing.
    ValueError: if the model is of another kind or the weights do not fit it.
  """
  owner, _, rest = name.partition("/")
  if owner != "hf" or not rest:
    raise ValueError(f"{name!r} is not a text encoder; say hf/OWNER/NAME")
  folder = Path(download(rest) if weights is None else weights).expanduser()
  config, _ = read_config(folder if folder.is_dir() else folder.parent)
  if config.get("model_type") != "bert":
    raise ValueError(
      f"model_type {config.get('model_type')!r} is no text encoder known here; 'bert' is, and "
      "CLIP and SigLIP by load_towers"
    )
  text = bert_from_config(config).clone(dtype=dtype)
  state = read_state(folder)
  rules = find_names(text_rules(text, HF_BERT), state, ("bert.",))
  unused = (r"(bert\.)?pooler\..*", r"cls\..*", r".*position_ids")
  variables = convert(state, rules, _shapes(text, _words(text)), unused=unused, name=str(folder))
  folder = folder if folder.is_dir() else folder.parent
  return _finished_text(text, variables, folder, rules)


_UNUSED = (r".*position_ids", r".*attn_mask", r"input_resolution|context_length|vocab_size")


def _hugging_face(config, processor):
  kind = config.get("model_type")
  if kind not in ("clip", "siglip"):
    raise ValueError(f"model_type {kind!r} is no pair of encoders known here; clip and siglip are")
  image = from_config(config, processor)
  if kind == "clip":
    text = clip_text_from_config(config["text_config"], config.get("projection_dim", 512))
    names = HF_CLIP_TEXT
  else:
    text, names = siglip_text_from_config(config["text_config"]), HF_SIGLIP_TEXT
  whole = ("visual_projection.weight",)
  rules = [
    *_placed(image.rules, "vision_model.", "image/", whole),
    *_placed(text_rules(text, names), "", "text/"),
    Rule("logit_scale", ("logit_scale",)),
  ]
  if kind == "siglip":
    rules.append(Rule("logit_bias", ("logit_bias",)))
  return image.encoder, image.preprocessing, text, rules


def _open_clip(name):
  plain = name.removesuffix("-quickgelu")
  if plain not in OPEN_CLIP:
    raise ValueError(
      f"{name!r} is not a model of OpenCLIP's known here; {', '.join(OPEN_CLIP)} are"
    )
  shape, activation = OPEN_CLIP[plain], gelu if plain == name else quick_gelu
  encoder = ViT(
    shape.patch,
    *shape.size,
    pool="cls",
    positions="learned",
    image_size=shape.image,
    patch_bias=False,
    embedding_norm=True,
    projection=shape.embed,
    activation=activation,
    epsilon=1e-5,
  )
  text = TextTransformer(
    *WORDS, *shape.text, causal=True, pool="end", projection=shape.embed, activation=activation
  )
  rules = [
    *_placed(vit_rules(encoder, OPENAI_CLIP), "visual.", "image/"),
    *_placed(text_rules(text, OPENAI_TEXT), "", "text/"),
    Rule("logit_scale", ("logit_scale",)),
  ]
  return encoder, Preprocessing(shape.image, mean=CLIP[0], std=CLIP[1]), text, rules


def _placed(rules, theirs: str, ours: str, whole: Sequence[str] = ()) -> list[Rule]:
  """Rules of a part, as rules of the whole; some names are whole already."""
  return [
    rule._replace(
      theirs=rule.theirs if rule.theirs is None or rule.theirs in whole else theirs + rule.theirs,
      ours=tuple(ours + path for path in rule.ours),
    )
    for rule in rules
  ]


def _image(how: Preprocessing) -> jax.ShapeDtypeStruct:
  side = how.corner or how.size
  return jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)


def _words(text: TextTransformer) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((1, text.length), jnp.int32)


def _shapes(encoder, example) -> Tree:
  return jax.eval_shape(encoder.init, jax.random.key(0), example)


def _finished_text(text, variables, folder: Path, rules) -> PretrainedText:
  has = any((folder / name).exists() for name in ("tokenizer.json", "spiece.model"))
  return PretrainedText(
    text,
    variables,
    read_tokenizer(folder, text.length) if has else None,
    lambda variables, words, where=None: text.apply(variables, words, where=where),
    rules,
  )
