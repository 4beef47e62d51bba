"""Text transformers: CLIP's and BERT's arithmetic as in transformers, published sizes, masks."""

import json
import pathlib
import re
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.encoders import TEXT_SIZES, text_transformer
from repjax.train.flops import count_flops

ROOT = pathlib.Path(__file__).parents[2]
FIXTURE = np.load(ROOT / "tests/oracles/text.npz")
ORACLE = runpy.run_path(str(ROOT / "tests/oracles/text.py"))
weights = runpy.run_path(str(ROOT / "tests/oracles/encoders.py"))["weights"]
WORDS, TYPES, WHERE = ORACLE["WORDS"], ORACLE["TYPES"], ORACLE["WHERE"]
SHAPE = {"vocabulary": 50, "length": 9, "dim": 32, "depth": 2, "heads": 4, "mlp_dim": 64}

# From the names in transformers to ours, in order; a slash parts a tree's levels.
CLIP_NAMES = (
  (r"text_model\.", ""),
  (r"embeddings\.token_embedding\.weight", "word/embedding"),
  (r"embeddings\.position_embedding\.weight", "positions"),
  (r"encoder\.layers\.(\d+)\.", r"block_\1/"),
  (r"self_attn\.([qkv])_proj\.", r"attention/\1/"),
  (r"self_attn\.out_proj\.", "attention/out/"),
  (r"layer_norm([12])\.", r"norm_\1/"),
  (r"mlp\.fc1\.", "mlp/up/"),
  (r"mlp\.fc2\.", "mlp/down/"),
  (r"final_layer_norm\.", "norm/"),
  (r"text_projection\.", "projection/"),
  (r"/q/", "/query/"),
  (r"/k/", "/key/"),
  (r"/v/", "/value/"),
)
BERT_NAMES = (
  (r"embeddings\.word_embeddings\.weight", "word/embedding"),
  (r"embeddings\.position_embeddings\.weight", "positions"),
  (r"embeddings\.token_type_embeddings\.weight", "type/embedding"),
  (r"embeddings\.LayerNorm\.", "embedding_norm/"),
  (r"encoder\.layer\.(\d+)\.", r"block_\1/"),
  (r"attention\.self\.", "attention/"),
  (r"attention\.output\.dense\.", "attention/out/"),
  (r"attention\.output\.LayerNorm\.", "norm_1/"),
  (r"intermediate\.dense\.", "mlp/up/"),
  (r"output\.dense\.", "mlp/down/"),
  (r"output\.LayerNorm\.", "norm_2/"),
  (r"(query|key|value)\.", r"\1/"),
)


def from_transformers(state, names):
  """Parameters of a torch model by its names and a list of renames."""
  params = {}
  for name, value in state.items():
    for pattern, ours in names:
      name = re.sub(pattern, ours, name)
    *path, leaf = name.split("/")
    if leaf == "weight":
      leaf = "scale" if value.ndim == 1 else "kernel"
    tree = params
    for part in path:
      tree = tree.setdefault(part, {})
    tree[leaf] = value.T if leaf == "kernel" else value
  return {"params": params}


def drawn(case):
  shapes = json.loads(str(FIXTURE[f"{case}/shapes"]))
  names = BERT_NAMES if case == "bert" else CLIP_NAMES
  return from_transformers({k: weights(k, tuple(s)) for k, s in shapes.items()}, names)


def like(name, **options):
  """A named text transformer in the fixture's size."""
  return text_transformer(name, **(SHAPE | options))


CLIP, BERT = like("clip_b", projection=16), like("bert_base")


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


def apply(module, variables, words=WORDS, hook=None, **kwargs):
  run = jax.jit(lambda v, x, k: module.apply(v, x, tokens_in=hook, **k))
  return run(variables, words, kwargs)


def close(x, y, tolerance=1e-5):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), x, y)


@pytest.mark.parametrize(
  "case, module, inputs",
  [
    ("clip", CLIP, {"where": WHERE}),
    ("clip_unmasked", CLIP, {}),
    ("clip_unmasked", CLIP.clone(end_token=49), {}),
    ("bert", BERT, {"where": WHERE, "types": TYPES}),
  ],
)
def test_equals_transformers_with_its_weights(case, module, inputs):
  features = apply(module, drawn(case), **inputs)
  close(features.tokens, FIXTURE[f"{case}/tokens"])
  close(jnp.stack(features.layers), FIXTURE[f"{case}/layers"])
  pooled = FIXTURE[f"{case}/tokens"][:, 0] if case == "bert" else FIXTURE[f"{case}/pooled"]
  close(features.pooled, pooled)


@pytest.mark.parametrize(
  "name, count",
  [
    # What transformers counts without BERT's pooler: the papers' 63M, 110M and 340M with it.
    ("clip_b", 63_165_952 + 512 * 512),
    pytest.param("clip_l", 123_060_480 + 768 * 768, marks=pytest.mark.thorough),
    ("bert_base", 109_482_240 - 768 * 769),
    pytest.param("bert_large", 335_141_888 - 1024 * 1025, marks=pytest.mark.thorough),
  ],
)
def test_named_sizes_have_the_published_parameter_counts_and_their_work(name, count):
  module, words = text_transformer(name), np.zeros((1, 64), np.int32)
  variables = jax.eval_shape(module.init, jax.random.key(0), words)
  assert sum(x.size for x in jax.tree.leaves(variables)) == count
  flops = count_flops(lambda v: module.apply(v, words).pooled, variables)
  size = TEXT_SIZES[name]
  by_hand = size.depth * (12 * 64 * size.dim**2 + 2 * 64**2 * size.dim)
  by_hand += size.dim**2 if module.projection else 0
  assert flops / 2 == by_hand


@pytest.mark.parametrize("module", [BERT, BERT.clone(norm_first=True, pool="mean")])
def test_padding_is_as_if_it_had_not_been_there(module):
  variables = jax.eval_shape(module.init, jax.random.key(0), WORDS)
  rng = np.random.default_rng(0)
  draw = lambda x: (0.3 * rng.normal(size=x.shape)).astype(np.float32)
  variables = jax.tree.map(draw, variables)
  words = np.where(WHERE, WORDS, 33)
  padded, other = (apply(module, variables, x, where=WHERE) for x in (WORDS, words))
  close(padded.pooled, other.pooled, 0)
  short = apply(module, variables, WORDS[1:2, :5])
  close(padded.pooled[1:2], short.pooled)
  close(padded.tokens[1:2, :5], short.tokens)


def test_causal_words_do_not_see_the_future_and_others_do():
  words = WORDS.copy()
  words[:, 4:] = 44
  for module, equal in ((CLIP, True), (CLIP.clone(causal=False), False)):
    first, second = (apply(module, drawn("clip"), x).tokens[:, :4] for x in (WORDS, words))
    assert np.array_equal(first, second) == equal


def test_prompts_in_front_are_seen_and_not_returned():
  prompt = np.random.default_rng(0).normal(size=(1, 2, 32)).astype(np.float32).repeat(3, 0)
  hook = lambda i, x: jnp.concatenate([prompt, x], 1) if i == 0 else x
  plain = apply(CLIP, drawn("clip"), where=WHERE)
  prompted = apply(CLIP, drawn("clip"), hook=hook, where=WHERE)
  assert prompted.tokens.shape == plain.tokens.shape
  assert prompted.layers[1].shape == (3, 9, 32)
  assert np.abs(prompted.pooled - plain.pooled).max() > 1e-2
  close(apply(CLIP, drawn("clip"), hook=lambda i, x: x, where=WHERE), plain, 0)


@pytest.mark.thorough
@pytest.mark.parametrize("module, case", [(CLIP, "clip"), (BERT, "bert")])
def test_bfloat16_is_close_to_float32_with_finite_gradients(module, case):
  variables, low = drawn(case), module.clone(dtype=jnp.bfloat16)

  def loss(variables):
    pooled = low.apply(variables, WORDS, where=WHERE).pooled
    return jnp.sum(pooled.astype(jnp.float32) ** 2), pooled

  (_, pooled), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables)
  expected = apply(module, variables, where=WHERE).pooled
  assert pooled.dtype == jnp.bfloat16
  assert np.linalg.norm(pooled - expected) < 0.03 * np.linalg.norm(expected)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
  "module, words, inputs, match",
  [
    (CLIP, WORDS[0], {}, r"integer words \[batch, n\], got int32 \(7,\)"),
    (CLIP, WORDS.astype(np.float32), {}, "got float32"),
    (CLIP, np.zeros((1, 10), int), {}, "have 10 words and length=9; cut them"),
    (CLIP, WORDS, {"where": WHERE[:2]}, r"\(3, 7\), got \(2, 7\)"),
    (CLIP, WORDS, {"types": TYPES}, "got token_types=0; set it"),
    (CLIP.clone(heads=5), WORDS, {}, "heads=5 does not divide dim=32; choose dim=35"),
    (CLIP.clone(attention="cudnn"), WORDS, {}, "'xla' or 'auto', got 'cudnn'"),
  ],
)
def test_errors_name_both_and_the_way_out(module, words, inputs, match):
  with pytest.raises(ValueError, match=match):
    jax.eval_shape(lambda: module.init(jax.random.key(0), words, **inputs))


def test_unknown_names_list_the_known_ones():
  with pytest.raises(ValueError, match=", ".join(TEXT_SIZES)):
    text_transformer("clip_b32")


def test_attention_over_some_equals_jax_in_value_and_gradient():
  from repjax.encoders.attend import attend

  rng = np.random.default_rng(0)
  arrays = [rng.normal(size=(2, 5, 2, 4)).astype(np.float32) for _ in range(3)]
  where = np.tri(5, dtype=bool)[None, None] & (rng.uniform(size=(2, 1, 1, 5)) > 0.3)
  where |= np.eye(5, dtype=bool)[None, None]
  ours = lambda q, k, v: jnp.sum(jnp.sin(attend(q, k, v, where=where)))
  peer = lambda q, k, v: jnp.sum(jnp.sin(jax.nn.dot_product_attention(q, k, v, mask=where)))
  both = jax.jit(lambda *a: [jax.value_and_grad(f, (0, 1, 2))(*a) for f in (ours, peer)])
  close(*both(*arrays))
