"""CLIP, SigLIP, OpenCLIP and BERT: their numbers from their weights, and their words."""

import json
import pathlib
import runpy

import jax
import numpy as np
import pytest

from repjax.pretrained import canonical, load_text, load_towers, read_tokenizer, towers
from repjax.trees import revert, write_state

ORACLES = pathlib.Path(__file__).parents[1] / "oracles"
FIXTURE = np.load(ORACLES / "pretrained.npz")
weights = runpy.run_path(str(ORACLES / "encoders.py"))["weights"]
IMAGE = weights("image", (2, 32, 32, 3))


def words():
  found = np.random.default_rng(0).integers(1, 48, (2, 9))
  found[0, 5], found[1, 8] = 49, 49
  return found.astype(np.int32)


def state_of(case):
  shapes = json.loads(str(FIXTURE[f"text/{case}/shapes"]))
  return {name: weights(name, tuple(shape)) for name, shape in shapes.items()}


def saved(case, folder):
  """A folder as Hugging Face leaves it."""
  state = state_of(case)
  write_state(folder / "model.safetensors", state)
  if f"text/{case}/config" in FIXTURE:
    (folder / "config.json").write_text(str(FIXTURE[f"text/{case}/config"]))
  return state


def check(pair, case, state):
  seen = jax.jit(pair.image.encoder.apply)(pair.image.variables, IMAGE).pooled
  said = jax.jit(pair.text.encode)(pair.text.variables, words()).pooled
  seen, said = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (seen, said))
  logits = pair.logit_scale * seen @ said.T + pair.logit_bias
  np.testing.assert_allclose(logits, FIXTURE[f"text/{case}/logits"], rtol=1e-4, atol=1e-4)
  for tower in (pair.image, pair.text):
    back = revert(tower.variables, tower.rules)
    assert back.keys() <= state.keys()
    assert all(np.array_equal(back[name], state[name]) for name in back)


@pytest.mark.parametrize("case", ["clip", "siglip"])
def test_logits_of_both_towers_equal_hugging_face(case, tmp_path):
  state = saved(case, tmp_path)
  check(load_towers(f"hf/some/{case}", tmp_path), case, state)


def test_logits_of_both_towers_equal_open_clip(tmp_path, monkeypatch):
  state = saved("open_clip", tmp_path)
  small = towers.Shape(towers.Size(32, 2, 4, 128), 8, 32, 16, (24, 2, 4))
  monkeypatch.setitem(towers.OPEN_CLIP, "tiny", small)
  monkeypatch.setattr(towers, "WORDS", (50, 9))
  pair = load_towers("open_clip/tiny-quickgelu", tmp_path / "model.safetensors")
  check(pair, "open_clip", state)


def test_bert_sees_no_padding_and_equals_hugging_face(tmp_path):
  saved("bert", tmp_path)
  text = load_text("hf/some/bert", tmp_path)
  where = np.arange(9)[None] < np.array([[6], [9]])
  found = jax.jit(text.encode)(text.variables, words(), where).tokens
  expected = FIXTURE["text/bert/tokens"]
  np.testing.assert_allclose(found[where], expected[where], rtol=1e-4, atol=1e-4)


def test_words_are_cut_at_the_end_and_padded_by_it(tmp_path):
  tokenizers = pytest.importorskip("tokenizers")
  vocabulary = {"<|startoftext|>": 0, "a": 1, "dog": 2, "<|endoftext|>": 3, "?": 4}
  model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "?"))
  model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  model.post_processor = tokenizers.processors.TemplateProcessing(
    single="<|startoftext|> $A <|endoftext|>",
    special_tokens=[("<|startoftext|>", 0), ("<|endoftext|>", 3)],
  )
  model.save(str(tmp_path / "tokenizer.json"))
  found = read_tokenizer(tmp_path, 5)(["a dog", "a dog a dog a dog", "cat"])
  assert found.words.tolist() == [[0, 1, 2, 3, 3], [0, 1, 2, 1, 3], [0, 4, 3, 3, 3]]
  assert found.where.sum(1).tolist() == [4, 5, 3]


def test_pieces_of_siglip_end_and_are_padded_by_the_end(tmp_path):
  sentencepiece = pytest.importorskip("sentencepiece")
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["a dog and a cat", "a cat and a dog", "the dog sees the cat"] * 20),
    model_prefix=str(tmp_path / "spiece"), vocab_size=17, minloglevel=2,
  )  # fmt: skip
  tokenize = read_tokenizer(tmp_path, 12)
  model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
  plain = model.encode("a dog and a cat")
  end = model.eos_id()
  found = tokenize(["A dog, and a CAT!", "a cat " * 20])
  assert found.words[0].tolist() == [*plain, end] + [end] * (11 - len(plain))
  assert found.where[0].sum() == len(plain) + 1
  assert found.words[1, -1] == end and found.where[1].all()
  assert canonical("  It's   A-dog.\n") == "its adog"


@pytest.mark.parametrize(
  "load, name, said",
  [
    (load_towers, "open_clip/ViT-Z", "ViT-B-32"),
    (load_towers, "clip", "say hf/OWNER/NAME or open_clip/NAME"),
    (load_text, "bert", "say hf/OWNER/NAME"),
    (load_towers, "hf/some/bert", "model_type 'bert' is no pair of encoders known here"),
    (load_text, "hf/some/clip", "model_type 'clip' is no text encoder known here"),
  ],
)
def test_what_is_not_known_is_said_in_one_line(load, name, said, tmp_path):
  if name.startswith("hf/"):
    saved(name.rpartition("/")[2], tmp_path)
  with pytest.raises(ValueError, match=said) as no:
    load(name, tmp_path)
  assert "\n" not in str(no.value)
