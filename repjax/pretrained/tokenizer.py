"""From texts to the numbers of words that a pretrained text encoder takes."""

import re
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Words(NamedTuple):
  """Texts as numbers.

  Attributes:
    words: ``[batch, length]`` int32.
    where: ``[batch, length]`` boolean, false for padding.
  """

  words: np.ndarray
  where: np.ndarray


Tokenize = Callable[[Sequence[str]], Words]


def read_tokenizer(folder: str | Path, length: int) -> Tokenize:
  """Reads the tokenizer that lies beside a model's weights.

  Args:
    folder: with ``tokenizer.json`` (CLIP, BERT and most others) or SigLIP's ``spiece.model``.
    length: words of each text; longer ones are cut and keep their end, shorter ones are padded.

  Returns:
    Texts to `Words`.

  Raises:
    FileNotFoundError: if the folder has neither file.
    ImportError: naming the package that is missing.
  """
  folder = Path(folder).expanduser()
  if (folder / "tokenizer.json").exists():
    return _tokenizers(folder / "tokenizer.json", length)
  if (folder / "spiece.model").exists():
    return _sentencepiece(folder / "spiece.model", length)
  raise FileNotFoundError(
    f"{folder} has neither tokenizer.json nor spiece.model; put the model's tokenizer there"
  )


def _tokenizers(path: Path, length: int) -> Tokenize:
  try:
    import tokenizers
  except ImportError:
    raise ImportError(
      f"{path.name} needs the package tokenizers; pip install 'repjax[text]'"
    ) from None
  tokenizer = tokenizers.Tokenizer.from_file(str(path))
  tokenizer.enable_truncation(length)
  padding = tokenizer.padding or {}
  # The end stands for padding where none is said, as in CLIP.
  pad = {k: padding[k] for k in ("pad_id", "pad_token") if k in padding} or _padding(tokenizer)
  tokenizer.enable_padding(length=length, **pad)

  def tokenize(texts: Sequence[str]) -> Words:
    found = tokenizer.encode_batch(list(texts))
    words = np.array([x.ids for x in found], np.int32).reshape(len(found), length)
    where = np.array([x.attention_mask for x in found], bool).reshape(len(found), length)
    return Words(words, where)

  return tokenize


def _padding(tokenizer) -> dict:
  for token in ("[PAD]", "<pad>", "<|endoftext|>", "</s>"):
    if (number := tokenizer.token_to_id(token)) is not None:
      return {"pad_id": number, "pad_token": token}
  return {}


def _sentencepiece(path: Path, length: int) -> Tokenize:
  try:
    import sentencepiece
  except ImportError:
    raise ImportError(
      f"{path.name} needs the package sentencepiece; pip install 'repjax[text]'"
    ) from None
  model = sentencepiece.SentencePieceProcessor(model_file=str(path))
  end = model.eos_id()

  def tokenize(texts: Sequence[str]) -> Words:
    words = np.full((len(texts), length), end, np.int32)
    where = np.zeros(words.shape, bool)
    for i, text in enumerate(texts):
      found = [*model.encode(canonical(text))[: length - 1], end]
      words[i, : len(found)], where[i, : len(found)] = found, True
    return Words(words, where)

  return tokenize


def canonical(text: str) -> str:
  """Lower case, no punctuation, single spaces, as SigLIP was trained on.

  Args:
    text: any.

  Returns:
    The text to be cut into words.

  References:
    Zhai et al., `Sigmoid Loss for Language Image Pre-Training
    <https://arxiv.org/abs/2303.15343>`_, 2023, official code, big_vision.
  """
  text = text.lower().translate(str.maketrans("", "", string.punctuation))
  return re.sub(r"\s+", " ", text).strip()
